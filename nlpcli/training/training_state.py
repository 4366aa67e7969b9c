"""All that changes while a run trains: the model, its optimizer, how far it is, and the sums for the log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.folder_lock import FolderWatch
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import RunFailed
from nlpcli.objectives.objective import Tallies
from nlpcli.training.checkpoint import LogWindow, Progress
from nlpcli.training.device import Machine
from nlpcli.training.distributed.non_main_processes import SILENT, GroupInterrupts, NoFolderWatch, NoLog
from nlpcli.training.distributed.processes import processes
from nlpcli.training.distributed.wrapping import in_parallel
from nlpcli.training.interrupts import Interrupts
from nlpcli.training.loss_scaling import LossScaling
from nlpcli.training.non_finite import NonFiniteSteps
from nlpcli.training.observer import Observer
from nlpcli.training.optimizer import make_optimizer
from nlpcli.training.stopping_criteria import share_done
from nlpcli.training.training_log import MetricsLog
from nlpcli.training.training_loop_types import ModelToTrain
from nlpcli.training.training_module import TrainingModule
from nlpcli.training.weight_averaging import average_of

Measured = tuple[Tensor, Tallies, Any]  # the carry is the model's own


class LogSums:
    """The values for the next line of the log.

    nll: the sum of the loss over `count` predictions, (). grad_norm, lr: of the last step. logged: further measures.
    """

    def __init__(self, device: torch.device) -> None:
        self.nll = self.grad_norm = torch.zeros((), device=device)
        self.count, self.lr = 0, 0.0
        self.logged: Tallies = {}

    def add(self, logged: Tallies, weight: float) -> None:
        """Adds what a batch logs beside its loss. weight: 0 for a batch that counts for nothing, else 1."""
        for name, (value, parts) in logged.items():
            sum_, number = self.logged.get(name, (0.0, 0))
            self.logged[name] = sum_ + value * weight, number + parts * int(weight)

    def restart(self) -> None:
        """Begins a new line of the log."""
        self.nll, self.count, self.logged = torch.zeros_like(self.nll), 0, {}

    def restore(self, window: LogWindow, *, first: bool) -> None:
        """Takes the sums from a checkpoint. first: whether this is the first process, which has the sums of all."""
        own = float(first)
        self.nll, self.grad_norm = self.nll + window.loss * own, self.grad_norm + window.grad_norm
        self.count, self.lr = window.count, window.lr
        self.logged = {name: (sum_ * own, int(number * own)) for name, (sum_, number) in window.sums.items()}


class TrainingState:
    """A model in training, with what the loop, its evaluations and its checkpoints share.

    plain: the model whose weights are evaluated and saved. whole: computes everything with it. module: trains it, in
    several processes wrapped. carry: a model's memory of the batch before, None at the start of an epoch.
    """

    def __init__(
        self, trained: ModelToTrain, settings: TrainingConfig, machine: Machine, run: Path, observer: Observer
    ) -> None:
        self.processes = processes()
        self.settings, self.machine, self.run = settings, machine, run
        self.observer = observer if self.processes.first else SILENT
        self.model = trained.model.to(machine.device)
        self.sharded = trained.sharded
        self.plain = self.sharded.plain if self.sharded else self.model
        self.whole = TrainingModule(self.plain)
        self.module = in_parallel(self.sharded.module if self.sharded else self.whole, self.processes)
        self.optimizer = make_optimizer(self.model, settings, trained.scales, machine.matrix_dtype)
        self.average = average_of(self.model, settings)
        self.scaling = LossScaling(machine.device) if machine.precision == "float16" else None
        self.progress = Progress()
        self.carry: Any = None
        self.sums = LogSums(machine.device)
        self.interrupts = GroupInterrupts() if self.processes.several else Interrupts()
        self.non_finite = NonFiniteSteps(settings, machine.device, run, self.observer.note)
        self.folder: FolderWatch | NoFolderWatch = NoFolderWatch()
        self.log: MetricsLog | NoLog = NoLog()
        self.plan_length = 0  # batches of the current epoch
        self.start_clock()

    def start_clock(self) -> None:
        """The time of the run continues from its earlier total."""
        self.clock = time.perf_counter() - self.progress.seconds
        self.speed_since = (time.perf_counter(), self.progress.tokens)

    def read_clock(self) -> float:
        """Sets, and returns, the seconds of the run."""
        self.progress.seconds = time.perf_counter() - self.clock
        return self.progress.seconds

    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        return share_done(self.progress, self.settings, self.plan_length)

    def gather(self) -> None:
        """Brings the plain model up to date where the weights are divided among processes."""
        if self.sharded is not None:
            self.sharded.gather()

    @contextmanager
    def weights_to_save(self) -> Iterator[None]:
        """The running average's weights inside, the trained ones again afterwards."""
        if self.average is None or not self.average.is_running(self.progress):
            yield
        else:
            with self.average.applied():
                yield

    def running_average(self) -> Mapping[str, Tensor] | None:
        """The averaged weights, where they take the place of the trained ones."""
        return self.average.weights if self.average and self.average.is_running(self.progress) else None

    def measured(self) -> Measured:
        """The sums for the log and the carry as they are, for `take_back`."""
        return self.sums.nll, dict(self.sums.logged), self.carry

    def take_back(self, before: Measured) -> None:
        """Forgets what a step has measured and read: it is left out, or begins again."""
        self.sums.nll, self.sums.logged, self.carry = before[0], dict(before[1]), before[2]

    def loss_and_norm(self) -> tuple[float, float]:
        """The mean loss since the last line of the log, and the last gradient's norm.

        Raises: RunFailed when one is not finite: such weights must neither be kept nor replace a checkpoint.
        """
        self.non_finite.check_pending(self.progress)
        loss = self.processes.sums(float(self.sums.nll))[0] / max(self.sums.count, 1)
        norm = float(self.sums.grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise RunFailed(
                f"the loss or the gradient is not finite at step {self.progress.step:,}",
                hint="set a lower training.lr, more training.warmup_steps, or training.max_grad_norm=1",
            )
        return loss, norm

    def log_window(self) -> LogWindow:
        """The values of the next line of the log. Raises: as `loss_and_norm`."""
        _, norm = self.loss_and_norm()
        loss = self.processes.sums(float(self.sums.nll))[0]
        return LogWindow(loss, self.sums.count, norm, self.sums.lr, self._sums_of_all())

    def measures_logged(self) -> dict[str, float]:
        """The values besides the loss that objectives log, since the last line of the log."""
        return {name: sum_ / max(number, 1) for name, (sum_, number) in self._sums_of_all().items()}

    def _sums_of_all(self) -> dict[str, list[float]]:
        """By name the sum and the number of what objectives log, of all processes."""
        names = sorted(self.sums.logged)
        found = self.processes.sums(*(float(part) for name in names for part in self.sums.logged[name]))
        return {name: found[2 * i : 2 * i + 2] for i, name in enumerate(names)}
