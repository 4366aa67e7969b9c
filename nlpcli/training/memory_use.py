"""The memory available for a run, and the memory that a few of its steps use."""

from __future__ import annotations

import contextlib
import gc
import heapq
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nlpcli.training.training_loop import Trainer

SHARE_OF_CPU_MEMORY = 0.8
"""The share of free main memory that a run may use: the rest is for other programs and for later growth."""
SHARE_OF_GPU_MEMORY = 0.9
_SAMPLED = 200  # steps; the largest of them are taken
_TAKEN = 2  # of them; the optimizer's states are there from the second on
_KERNEL = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryUse:
    """peak: bytes that the process, or on a GPU its tensors, held at most. limit: bytes that they may hold.

    batches: of an epoch.
    """

    peak: int
    limit: int
    batches: int


class MemoryProbe(Trainer):
    """A run that takes the largest of its first epoch's steps, to see what memory they need. Nothing of it stays."""

    def measure(self) -> MemoryUse:
        """Raises: any out-of-memory error (`nlpcli.errors.is_out_of_memory`)."""
        device = self.machine.device
        torch.manual_seed(self.settings.seed)
        self.state.start_clock()
        starts = range(0, len(self._plan_of(0)), self.settings.accumulate)
        sampled = np.linspace(0, len(starts) - 1, min(_SAMPLED, len(starts))).round().astype(int)
        sizes = {starts[place]: self._share_of_step(0, starts[place]).tokens for place in sampled}
        limit = memory_limit(device)
        reset_peak(device)
        for start in heapq.nlargest(_TAKEN, sizes, key=sizes.__getitem__) * (1 + (len(sizes) < _TAKEN)):
            share = self._share_of_step(0, start)
            self._step(share, share.count, share.tokens)
        return MemoryUse(peak_memory(device), limit, len(self._plan_of(0)))


def memory_limit(device: torch.device) -> int:
    """The bytes that this process may hold on a device: a share of what is free, and what it holds already."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return int(SHARE_OF_GPU_MEMORY * (free + torch.cuda.memory_reserved(device)))
    held = _held()
    return int(SHARE_OF_CPU_MEMORY * (min(_free()) + held))


def reset_peak(device: torch.device) -> None:
    """Measures peaks from here on, where the system lets a process do so; elsewhere they are those since its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux, Documentation/filesystems/proc.rst


def peak_memory(device: torch.device) -> int:
    """The bytes that were held at most since `reset_peak`: of a GPU by tensors, otherwise by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    found = _kilobytes(Path("/proc/self/status"), "VmHWM")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _held() -> int:
    return _kilobytes(Path("/proc/self/status"), "VmRSS") or 0


def _free() -> list[int]:
    """The free memory under each limit of the system: main memory, control groups of this process, ulimit -v."""
    meminfo = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    found = [torch.iinfo(torch.int64).max if meminfo is None else meminfo]
    found += [limit - used for limit, used in map(_group_numbers, _groups()) if limit is not None and used is not None]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    size = _kilobytes(Path("/proc/self/status"), "VmSize")
    if limit != resource.RLIM_INFINITY and size is not None:
        found.append(max(limit - size, 0))
    return found


def _groups() -> list[Path]:
    """The folders of the control groups this process is in, up to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _KERNEL / controllers
            folder = root / place.lstrip("/")
            found += [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return found


def _group_numbers(folder: Path) -> tuple[int | None, int | None]:
    """The limit and the use of a control group's memory in bytes, in version 2 or 1; None: not known."""
    for limit, use in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            return int((folder / limit).read_text()), int((folder / use).read_text())
    return None, None


def _kilobytes(file: Path, name: str) -> int | None:
    """The bytes in the line `name: N kB` of a file of the kernel."""
    try:
        for line in file.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
