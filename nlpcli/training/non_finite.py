"""Steps whose loss or gradient is not finite, or whose loss is too large: the run stops, or continues without them.

The batch of such a step is kept in the run's folder, `non-finite/step-N.safetensors`, so that it can be inspected.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from nlpcli.config.counting import counted
from nlpcli.config.files import write_atomic
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import RunFailed
from nlpcli.training.checkpoint import Progress
from nlpcli.training.distributed.non_main_processes import NoLog
from nlpcli.training.training_log import MetricsLog

FOLDER = "non-finite"
MOST_IN_A_ROW = 10
"""Skipped steps in a row after which a run stops: its weights are to blame then, and not one batch."""
_BATCHES_KEPT = 10


class NonFiniteSteps:
    """Finds such steps. note: receives a sentence for each step that was skipped. log: of the run; without one, no step
    is looked at.

    A CPU, and a GPU where steps are skipped, looks at each step before its weights change. A GPU that stops looks one
    step later, so that it never waits: the weights are lost then, but not the checkpoint.
    """

    def __init__(self, settings: TrainingConfig, device: torch.device, run: Path, note: Callable[[str], None]) -> None:
        self._skips, self._most = settings.non_finite == "skip", settings.max_loss or math.inf
        self._late = device.type == "cuda" and not self._skips
        self._run, self._note = run, note
        self._waiting: _Step | None = None
        self.log: MetricsLog | NoLog | None = None

    def accepts(self, group: Sequence[Any], loss: Tensor, norm: Tensor, progress: Progress) -> bool:
        """Whether the weights may be changed by a step. loss: its mean, (); norm: of its gradient, ().

        progress: after the step. Raises: RunFailed for a step that is not to be skipped, and for too many in a row.
        """
        if self.log is None:
            return True
        if self._late:
            self.check_pending(progress)
            self._waiting = _Step(progress.step, group, *_sent(torch.stack([loss.detach().float(), norm.float()])))
            return True
        found = float(loss), float(norm)
        if self._usable(*found):
            progress.skipped_in_a_row = 0
            return True
        self._refuse(progress, progress.step, group, *found)
        return False

    def check_pending(self, progress: Progress) -> None:
        """Checks the step that has not been checked. Raises: RunFailed as `accepts`."""
        step, self._waiting = self._waiting, None
        if step is not None:
            step.ready.synchronize()
            loss, norm = step.values.tolist()
            if not self._usable(loss, norm):
                self._refuse(progress, step.number, step.group, loss, norm)

    def _usable(self, loss: float, norm: float) -> bool:
        return math.isfinite(loss) and math.isfinite(norm) and loss <= self._most

    def _refuse(self, progress: Progress, step: int, group: Sequence[Any], loss: float, norm: float) -> None:
        place = self._keep(step, group, {"epoch": progress.epoch, "loss": str(loss), "gradient norm": str(norm)})
        finite = math.isfinite(loss) and math.isfinite(norm)
        what = "the loss is above training.max_loss" if finite else "the loss or the gradient is not finite"
        what += f" at step {step:,} (loss {loss:.4g}, norm of the gradient {norm:.4g})"
        if not self._skips:
            raise RunFailed(
                f"{what}; the batch is in {place}",
                hint="set a lower training.lr, more training.warmup_steps or training.max_grad_norm=1, or resume the "
                "run with --set training.non_finite=skip, which leaves out such steps",
            )
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        assert self.log is not None  # as `accepts` has seen
        self.log.write("skipped", step, epoch=progress.epoch, loss=_number(loss), grad_norm=_number(norm),
                       batch=f"{FOLDER}/{place.name}")  # fmt: skip
        self._note(
            f"warning: {what}; the step was skipped ({counted(progress.skipped, 'step')} so far), and its batch is in "
            f"{place}"
        )
        if progress.skipped_in_a_row >= MOST_IN_A_ROW:
            raise RunFailed(
                f"{what}; {MOST_IN_A_ROW} steps in a row were skipped; the batches are in {place.parent}",
                hint="set a lower training.lr, more training.warmup_steps or training.max_grad_norm=1",
            )

    def _keep(self, step: int, group: Sequence[Any], facts: Mapping[str, Any]) -> Path:
        """Writes the batches of a step, of several processes those of the first; the oldest files beyond the newest
        few go."""
        place = self._run / FOLDER / f"step-{step:08d}.safetensors"
        if isinstance(self.log, NoLog):
            return place
        tensors: dict[str, Tensor] = {}
        plain: dict[str, str] = {"step": str(step), **{name: str(value) for name, value in facts.items()}}
        for number, batch in enumerate(group):
            for name, value in _parts(f"{number}", batch):
                if isinstance(value, Tensor):
                    tensors[name] = value.detach().cpu().contiguous().clone()
                else:
                    plain[name] = json.dumps(value, default=str)
        write_atomic(place, save(tensors, metadata=plain))
        for old in sorted(place.parent.glob("step-*.safetensors"))[:-_BATCHES_KEPT]:
            old.unlink(missing_ok=True)
        return place


@dataclasses.dataclass
class _Step:
    """A step that was not checked. values: (2,), its loss and the norm of its gradient, once `ready`."""

    number: int
    group: Sequence[Any]
    values: Tensor
    ready: torch.cuda.Event


def _sent(values: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """An asynchronous copy of `values` to the CPU, and the event of its completion."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return host, ready


def _number(value: float) -> float | str:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors in a batch, and its other values, by name."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield name, torch.from_numpy(np.ascontiguousarray(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _parts(f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _parts(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Tensor, np.ndarray)) for item in value):
        for number, item in enumerate(value):
            yield from _parts(f"{name}.{number}", item)
    else:
        yield name, value
