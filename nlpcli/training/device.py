"""The device and the precision of a run, and the message that reports them."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from nlpcli.config.counting import counted
from nlpcli.config.number_types import check_threads
from nlpcli.errors import NlpcliError
from nlpcli.layers.linear import product
from nlpcli.training.distributed.environment import local_rank, process_count

# On a CPU, oneDNN keeps a prepared kernel for every shape a bfloat16 product ever had, twice 1024 of them, and batches
# of sentences have ever new shapes: in an hour that comes to a gigabyte. One step needs a few dozen.
_KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}


_DEVICES = "choose auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Machine:
    """The chosen device and precision; `reason` explains the choice."""

    device: torch.device
    precision: str  # "float32", "bfloat16" or "float16"
    threads: int
    reason: str

    @property
    def matrix_dtype(self) -> torch.dtype:
        """What an optimizer computes products of matrices in: bfloat16 where the run is in bfloat16, else float32."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self) -> torch.autocast:
        """The context a forward pass runs in."""
        kind = torch.float16 if self.precision == "float16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=kind, enabled=self.precision != "float32")

    def describe(self) -> str:
        return f"{self.device}, {self.precision} ({self.reason}), {counted(self.threads, 'CPU thread')}"


def total_memory() -> int | None:
    """The bytes of memory that this machine, or the group of processes this one is in, has; None: not known."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ValueError, OSError):  # no limit is the word "max"
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=None)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one. Raises: NlpcliError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NlpcliError(f"unknown device '{name}'", hint=_DEVICES) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise NlpcliError(f"device '{name}' is not supported", hint=_DEVICES)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NlpcliError(
            f"device '{name}' is not available (PyTorch finds no Apple GPU here)", hint="use --device cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = counted(torch.cuda.device_count(), "CUDA device")
        raise NlpcliError(f"device '{name}' is not available ({found} found)", hint="use --device cpu")
    return device


_NO_BFLOAT16 = "the GPU does not support bfloat16; --precision float16 may be faster"


def check_precision(precision: str, device: torch.device) -> None:
    """Raises: NlpcliError for float16 on other devices than CUDA GPUs."""
    if precision == "float16" and device.type != "cuda":
        raise NlpcliError(
            f"precision 'float16' is for CUDA GPUs, but the device is '{device}'",
            hint="use --precision bfloat16 or float32, which a CPU computes faster than float16",
        )


def own_device(device: torch.device, *, named: str) -> torch.device:
    """The GPU of this process, where several train together on GPUs. Raises: NlpcliError where there is none for it."""
    if process_count() > 1 and device.type == "mps":
        raise NlpcliError("several processes can't train on the device 'mps'", hint="leave out --processes")
    if process_count() == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise NlpcliError(
            f"device '{named}' names one GPU, but {process_count()} processes need one each",
            hint="use --device cuda, and choose GPUs with the environment variable CUDA_VISIBLE_DEVICES",
        )
    number, there = local_rank(), torch.cuda.device_count()
    if number >= there:
        found = counted(there, "GPU")
        raise NlpcliError(
            f"this machine has {found}, too few for process {number + 1} on it", hint="start fewer processes"
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own


def prepare(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Machine:
    """Sets torch up for this machine: threads, denormals flushed to zero, and a precision that was probed."""
    check_threads(threads)
    chosen = own_device(choose_device(device), named=device)
    for name, value in _KERNELS_KEPT.items():
        os.environ.setdefault(name, value)  # read at the first product
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # a product with denormals can cost a hundred times its time
    if precision != "auto":
        check_precision(precision, chosen)
        reason = "as configured"
    elif chosen.type == "cuda":
        fits = torch.cuda.is_bf16_supported(including_emulation=False)
        precision, reason = ("bfloat16", "the GPU supports it") if fits else ("float32", _NO_BFLOAT16)
    elif chosen.type == "mps":
        precision, reason = "float32", "the precision of Apple GPUs"
    else:
        ratio = _bfloat16_speed()
        precision = "bfloat16" if ratio > 1.2 else "float32"
        reason = f"bfloat16 runs at {ratio:.1f} times the speed of float32"
    return Machine(chosen, precision, torch.get_num_threads(), reason)


def _bfloat16_speed() -> float:
    """How many times faster than float32 a bfloat16 product of matrices is here; without AMX it is below one.

    The two take turns, and the middle ratio counts: another program's burst of work can't decide for a whole run.
    """
    kinds = (torch.float32, torch.bfloat16)
    matrices = [torch.ones(256, 256, dtype=kind) for kind in kinds]
    for a in matrices:
        product(a, a)  # the first product pays for setting up
    ratios = []
    for _ in range(9):
        times = []
        for a in matrices:
            start = time.perf_counter()
            for _ in range(4):
                product(a, a)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)
