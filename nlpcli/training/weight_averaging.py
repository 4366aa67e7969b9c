"""Averages of weights: running ones over steps, and the mean of the last few evaluations'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from nlpcli.config.files import check_regular, write_atomic
from nlpcli.config.schema import TrainingConfig
from nlpcli.training.checkpoint import FOLDER, Progress, tensors_of
from nlpcli.training.metric_direction import higher_is_better


class WeightAverage:
    """An average of weights beside the trained ones. Only of what takes a gradient when this is made."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def update(self, progress: Progress) -> None:
        """Takes the weights after a step into the average."""
        raise NotImplementedError

    def is_running(self, progress: Progress) -> bool:
        """Whether the average takes the place of the trained weights in evaluations, and is saved."""
        return True

    def evaluated(self, progress: Progress, metric: str, metrics: Mapping[str, float]) -> str | None:
        """Receives an evaluation's metrics; `metric` selects the model. Returns: what has changed, None: nothing."""
        return None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside and its own again afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _mix(self, share: float) -> None:
        """w̄ ← w̄ + share · (w - w̄)"""
        torch._foreach_lerp_(list(self.weights.values()), list(self.parameters.values()), share)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(own)


class RunningAverage(WeightAverage):
    """w̄ ← d·w̄ + (1 - d)·w after each step, with d = min(decay, (1 + step) / (10 + step)) so that the start fades."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    def update(self, progress: Progress) -> None:
        step = progress.step
        self._mix(1.0 - min(self.decay, (1 + step) / (10 + step)))


class TriggeredAverage(WeightAverage):
    """w̄ = mean of the weights after all steps from T on (Polyak and Juditsky 1992): NT-ASGD (Merity et al. 2018).

    T is the step after the first evaluation that is worse than the best of all but the `interval` evaluations before
    it (algorithm 1); with an interval of 0 it is the first step. What T depends on is in `Progress`.
    """

    def __init__(self, model: nn.Module, interval: int) -> None:
        super().__init__(model)
        self.interval = interval

    def update(self, progress: Progress) -> None:
        if not self.interval and not progress.averaged_from:
            progress.averaged_from = progress.step
        if self.is_running(progress):
            self._mix(1.0 / (progress.step - progress.averaged_from + 1))

    def is_running(self, progress: Progress) -> bool:
        return 0 < progress.averaged_from <= progress.step

    def evaluated(self, progress: Progress, metric: str, metrics: Mapping[str, float]) -> str | None:
        value = metrics[metric]
        earlier = progress.history[: -self.interval] if self.interval else []
        progress.history.append(value)
        if progress.averaged_from or not earlier:
            return None
        if not (value < max(earlier) if higher_is_better(metric) else value > min(earlier)):
            return None
        progress.averaged_from = progress.step + 1
        return f"from step {progress.averaged_from:,} on, the weights are averaged"


def average_of(model: nn.Module, settings: TrainingConfig) -> WeightAverage | None:
    """The average of the settings; None without one."""
    if settings.optimizer == "asgd":
        return TriggeredAverage(model, settings.nonmonotone_interval)
    return RunningAverage(model, settings.ema_decay) if settings.ema_decay else None


class Snapshots:
    """The weights at the last `keep` evaluations, on disk, and their mean (Vaswani et al. 2017, section 6.1)."""

    def __init__(self, run: Path, keep: int) -> None:
        self.folder = Path(run) / FOLDER / "average"
        self.keep = keep

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    @property
    def count(self) -> int:
        return len(self.files)

    def add(self, model: nn.Module, step: int) -> None:
        for file in self.files:
            if int(file.stem.removeprefix("step-")) > step:  # of a run that was resumed before them
                file.unlink(missing_ok=True)
        write_atomic(self.folder / f"step-{step:08d}.safetensors", save(tensors_of(model.state_dict())))
        for file in self.files[: -self.keep]:
            file.unlink(missing_ok=True)

    def average(self) -> dict[str, torch.Tensor]:
        files = self.files
        total: dict[str, torch.Tensor] = {}
        for file in files:
            check_regular(file)
            for name, tensor in load_file(file).items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        return {name: (tensor / len(files)).float() for name, tensor in total.items()}
