"""Evaluations during training: the metrics on the dev set, which values are best so far, and which weights are kept."""

from __future__ import annotations

import time

import torch
from safetensors.torch import save

from nlpcli.config.files import write_again, write_atomic
from nlpcli.layers.lora import merged
from nlpcli.training.checkpoint import FOLDER, tensors_of
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.training.save_and_resume import Checkpoints
from nlpcli.training.training_loop_types import Evaluation
from nlpcli.training.training_state import TrainingState
from nlpcli.training.weight_averaging import Snapshots


class Evaluator:
    """Evaluates the model in training. evaluation: what is measured, and what keeps the best weights."""

    def __init__(self, state: TrainingState, evaluation: Evaluation, checkpoints: Checkpoints) -> None:
        self.state = state
        self.evaluation = evaluation if state.processes.first else evaluation.measured_only()
        self.checkpoints = checkpoints
        self.snapshots = Snapshots(state.run, state.settings.average_last) if state.settings.average_last else None
        self.metrics: dict[str, float] = {}

    def evaluate(self) -> None:
        """Measures the weights to keep, keeps them where they are the best, and logs what was found."""
        state = self.state
        progress = state.progress
        state.folder.check()
        state.loss_and_norm()
        if self.checkpoints.saved_at < 0:  # no weights are kept before there is something to resume from
            self.checkpoints.save()
        pause = time.perf_counter()
        with state.weights_to_save():
            state.gather()
            self.metrics = self.measure()
            state.folder.check()
            progress.evaluated = progress.step
            if self.snapshots is not None and state.processes.first:
                self.snapshots.add(state.plain, progress.step)
            improved = self._remember_best()
            changed = state.average and state.average.evaluated(progress, state.settings.metric, self.metrics)
            seconds = round(state.read_clock(), 2)
            state.log.write("dev", progress.step, epoch=progress.epoch, seconds=seconds, **self.metrics)
            state.log.show("dev", progress.step, self.evaluation.samples())
            if improved:
                self.evaluation.keep(merged(state.plain), self.metrics, progress)
        state.observer.evaluated(progress, self.metrics, improved)
        if changed:
            state.observer.note(changed)
        then, tokens = state.speed_since
        state.speed_since = (then + time.perf_counter() - pause, tokens)  # the speed is that of training alone

    def measure(self) -> dict[str, float]:
        """The metrics of the weights as they are."""
        self.state.module.eval()
        self.state.whole.eval()
        # always in float32: what is reported must not depend on the training precision
        return self.state.processes.from_first(self._measured_here)

    def _measured_here(self) -> dict[str, float]:
        with self.state.interrupts.at_once(), torch.inference_mode():
            return self.state.whole(self.evaluation.evaluate)

    def _remember_best(self) -> bool:
        """Notes new best values; True when the deciding metric improved."""
        progress, decisive = self.state.progress, self.state.settings.metric
        improved = [name for name, value in self.metrics.items() if self._better(name, value)]
        progress.best |= {name: {"value": self.metrics[name], "step": progress.step} for name in improved}
        others = [name for name in improved if name != decisive and (name == "loss" or higher_is_better(name))]
        if others and self.state.processes.first:
            first, *rest = (self.state.run / FOLDER / f"best-{name}.safetensors" for name in others)
            write_atomic(first, save(tensors_of(merged(self.state.plain))))
            for path in rest:
                write_again(first, path)
        if decisive in improved:
            progress.kept = dict(self.metrics)
        progress.stale = 0 if decisive in improved else progress.stale + 1
        return decisive in improved

    def _better(self, name: str, value: float) -> bool:
        best = self.state.progress.best.get(name)
        if best is None:
            return True
        return value > best["value"] if higher_is_better(name) else value < best["value"]

    def finish(self) -> str:
        """Tries the average of the last evaluations' weights, and keeps it when it is better: which were kept."""
        state, decisive = self.state, self.state.settings.metric
        best = state.progress.best[decisive]
        kept = f"step {best['step']}"
        snapshots = self.snapshots
        count = 0 if snapshots is None else state.processes.from_first(lambda: snapshots.count)
        if snapshots is not None and count > 1:
            if state.processes.first:
                state.plain.load_state_dict(snapshots.average(), strict=False)
            metrics = self.measure()
            state.log.write("average", state.progress.step, snapshots=count, **metrics)
            state.log.show("average", state.progress.step, self.evaluation.samples())
            improved = self._better(decisive, metrics[decisive])
            state.observer.evaluated(state.progress, metrics, improved)
            if improved:
                kept = f"average of the last {count} evaluations"
                self.evaluation.keep(merged(state.plain), metrics, state.progress)
                state.progress.kept = metrics
        return kept

    def save_unmeasured(self) -> None:
        """Keeps the weights of a run that ends before its first evaluation."""
        with self.state.weights_to_save():
            self.state.gather()
            self.evaluation.keep(merged(self.state.plain), {}, self.state.progress)
