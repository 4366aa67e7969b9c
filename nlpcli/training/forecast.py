"""Forecasts the needs of a training run from a few of its steps: tokens, FLOPs, time, memory and disk."""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from nlpcli.config.schema import TrainingConfig
from nlpcli.layers.lora import merged
from nlpcli.training.checkpoint import save_checkpoint, tensors_of
from nlpcli.training.stopwatch import Stopwatch
from nlpcli.training.training_loop import Trainer

_SAMPLED = 200  # steps whose tokens are counted
_WARM_UP = 3  # steps that are not timed
_TIMED = 40  # steps at most
_SECONDS = 20.0  # of timed steps, about


@dataclass(frozen=True)
class Forecast:
    """The needs of a run. seconds and tokens are those of all steps; None if only early stopping ends it.

    Times are those of a machine that does nothing else: where other programs had the processor while steps were
    measured, that time does not count. waiting: what share of the time on the clock that was.
    tokens_per_epoch: padding not included. flops: of training, as the log counts them. training_seconds: of steps and
    checkpoints; evaluation_seconds: of all evaluations, as long as the first one takes. peak_memory: bytes that the
    process holds at most (on CUDA: of the device). disk: bytes of the finished run's folder at most.
    """

    parameters: int
    tokens_per_epoch: int
    steps_per_epoch: int
    steps: int | None
    tokens: int | None
    epochs: float | None
    flops_per_token: float
    flops: float | None
    tokens_per_second: float
    training_seconds: float | None
    evaluations: int | None
    evaluation_seconds: float | None
    waiting: float
    peak_memory: int
    disk: int

    @property
    def seconds(self) -> float | None:
        """The time of the whole run; evaluations count for the limit max_minutes, too."""
        if self.training_seconds is None or self.evaluation_seconds is None:
            return None
        return self.training_seconds + self.evaluation_seconds

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds}


class ForecastTrainer(Trainer):
    """A run that takes a few steps, one checkpoint and one evaluation to see what they need. Nothing of it stays."""

    def forecast(self) -> Forecast:
        torch.manual_seed(self.settings.seed)
        watch = Stopwatch()
        plan = self._plan_of(0)
        size = self.settings.accumulate
        starts = range(0, len(plan), size)
        chosen = [starts[round(place)] for place in np.linspace(0, len(starts) - 1, min(_SAMPLED, len(starts)))]
        counts = {start: self._share_of_step(0, start).tokens for start in chosen}
        tokens_per_step = sum(counts.values()) / len(counts)
        speed = self._speed(counts)
        evaluated = self._seconds_of_evaluation()
        checkpoint, saved = self._checkpoint()
        steps = steps_until_the_end(
            self.settings, steps_per_epoch=len(starts), tokens_per_step=tokens_per_step,
            flops_per_token=self.progress.flops_per_token, seconds_per_step=tokens_per_step / speed,
            seconds_per_evaluation=evaluated + saved,
        )  # fmt: skip
        tokens = None if steps is None else round(steps * tokens_per_step)
        evaluations = None if steps is None else evaluations_in(self.settings, steps, len(starts))
        saves = None if steps is None else saves_in(self.settings, steps, evaluations or 0)
        model = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(merged(self.model)).values())
        kept = min(self.settings.keep_checkpoints, saves or self.settings.keep_checkpoints)
        return Forecast(
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            tokens_per_epoch=round(tokens_per_step * len(starts)),
            steps_per_epoch=len(starts),
            steps=steps,
            tokens=tokens,
            epochs=None if steps is None else steps / len(starts),
            flops_per_token=self.progress.flops_per_token,
            flops=None if tokens is None else tokens * self.progress.flops_per_token,
            tokens_per_second=speed,
            training_seconds=None if tokens is None or saves is None else tokens / speed + saves * saved,
            evaluations=evaluations,
            evaluation_seconds=None if evaluations is None else evaluations * evaluated,
            waiting=watch.waited() / watch.elapsed(),
            peak_memory=self._peak_memory(),
            disk=model + kept * checkpoint,
        )

    def _speed(self, counts: dict[int, int]) -> float:
        """Tokens a second in steps from all over the epoch; the largest step is taken first."""
        largest = max(counts, key=counts.__getitem__)
        self.state.start_clock()
        for start in [largest, *list(counts)[: _WARM_UP - 1]]:
            self._take(start)
        timed = list(counts)[:: max(1, len(counts) // _TIMED)]
        self._wait()
        watch, tokens = Stopwatch(), 0
        for start in timed:
            self._take(start)
            tokens += counts[start]
            self._wait()
            if watch.elapsed() > _SECONDS:
                break
        return tokens / watch.worked()

    def _take(self, start: int) -> None:
        share = self._share_of_step(0, start)
        self._step(share, share.count, share.tokens)

    def _seconds_of_evaluation(self) -> float:
        watch = Stopwatch()
        with self.state.weights_to_save():
            self.evaluator.measure()
        return watch.worked()

    def _checkpoint(self) -> tuple[int, float]:
        """The bytes of a checkpoint, and the seconds that one and the kept weights take."""
        with tempfile.TemporaryDirectory() as place:
            watch = Stopwatch()
            path = save_checkpoint(
                Path(place), model=self.model, optimizer=self.state.optimizer, progress=self.progress,
                average=self.state.running_average(), carry=self.state.carry, keep=1,
            )  # fmt: skip
            save(tensors_of(merged(self.model)))
            seconds = watch.worked()
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()), seconds

    def _wait(self) -> None:
        if self.machine.device.type == "cuda":
            torch.cuda.synchronize(self.machine.device)

    def _peak_memory(self) -> int:
        if self.machine.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.machine.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def steps_until_the_end(
    settings: TrainingConfig,
    *,
    steps_per_epoch: int,
    tokens_per_step: float,
    flops_per_token: float,
    seconds_per_step: float,
    seconds_per_evaluation: float,
) -> int | None:
    """The steps until the first limit is reached, None without a limit."""
    found: list[float] = []
    if settings.max_steps:
        found.append(settings.max_steps)
    if settings.max_epochs:
        found.append(settings.max_epochs * steps_per_epoch)
    if settings.max_tokens:
        found.append(settings.max_tokens / tokens_per_step)
    if settings.max_flops:
        found.append(settings.max_flops / max(flops_per_token * tokens_per_step, 1.0))
    if settings.max_minutes:
        each = seconds_per_step + seconds_per_evaluation / (settings.evaluate_every or steps_per_epoch)
        found.append(60 * settings.max_minutes / each)
    return max(1, round(min(found))) if found else None


def evaluations_in(settings: TrainingConfig, steps: int, steps_per_epoch: int) -> int:
    """The evaluations of a run: at every so many steps, or after each epoch, and at its end."""
    return -(-steps // (settings.evaluate_every or steps_per_epoch))


def saves_in(settings: TrainingConfig, steps: int, evaluations: int) -> int:
    """The checkpoints that a run writes: with each evaluation, and at every `save_every` steps."""
    return evaluations + (steps // settings.save_every if settings.save_every else 0)
