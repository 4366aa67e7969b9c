"""The training loop: batches in, steps done, progress kept. It knows neither the model nor the task."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from nlpcli.config.files import write_again, write_atomic
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.layers.lora import merged
from nlpcli.objectives.objective import Batch, Objective, Tallies
from nlpcli.training.checkpoint import FOLDER, Progress, load_checkpoint, save_checkpoint, tensors_of
from nlpcli.training.device import Machine
from nlpcli.training.flops import counted
from nlpcli.training.freezing import Plan
from nlpcli.training.interrupts import Interrupted, Interrupts
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.training.optimizer import Scales, make_optimizer, set_rate
from nlpcli.training.schedule import learning_rate
from nlpcli.training.stopping_criteria import limit_reached, share_done
from nlpcli.training.training_log import MetricsLog, check_tensorboard
from nlpcli.training.training_module import TrainingModule
from nlpcli.training.weight_averaging import Snapshots, average_of


class Observer(Protocol):
    """Is told how the run goes; the terminal is one."""

    def note(self, text: str) -> None: ...

    def started(self, progress: Progress, share: float) -> None: ...

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Progress, reason: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the deciding metric's best value, where it was found, and why it stopped."""

    progress: Progress
    metrics: dict[str, float]  # of the weights that were kept
    kept: str  # "step N" or "average of the last k evaluations"
    reason: str


class Trainer:
    """Trains `model` on `task`.

    evaluate(model) gives the metrics on held-out data, among them settings.metric; keep(weights, metrics, progress)
    is called with a state dict whenever that metric improves (without metrics on an interrupt before the first
    evaluation), and writes what the run leaves behind; adapters of low rank are merged into it. `data` is a
    fingerprint of what is trained on. scales: what the learning rate of each parameter is multiplied with. plan: which
    of them are trained when. samples() gives some outputs of the latest evaluation, to be looked at afterwards.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        task: Objective[Any, Any],
        settings: TrainingConfig,
        machine: Machine,
        run: Path,
        evaluate: Callable[[nn.Module], dict[str, float]],
        keep: Callable[[Mapping[str, Any], Mapping[str, float], Progress], None],
        observer: Observer,
        d_model: int,
        data: str = "",
        scales: Scales | None = None,
        plan: Plan | None = None,
        samples: Callable[[], Sequence[Mapping[str, Any]]] = lambda: (),
    ) -> None:
        self.model = model.to(machine.device)
        self.module = TrainingModule(self.model)  # computes everything, so that it is what may be wrapped
        self.task = task
        self.settings = settings
        self.machine = machine
        self.run = run
        self.evaluate_model = evaluate
        self.keep = keep
        self.observer = observer
        self.d_model = d_model
        self.data = data
        self.plan = plan
        self.samples = samples
        self.optimizer = make_optimizer(self.model, settings, scales)
        self.average = average_of(self.model, settings)
        self.snapshots = Snapshots(run, settings.average_last) if settings.average_last else None
        self.progress = Progress()
        self.carry: Any = None  # a model's memory of the batch before; None at the start of an epoch
        self.saved_at = -1
        self.interrupts = Interrupts()
        self.metrics: dict[str, float] = {}
        self._nll = self._grad_norm = torch.zeros((), device=machine.device)
        self._count = 0
        self._logged: Tallies = {}
        self._plan: tuple[int, Sequence[Any] | np.ndarray] | None = None  # an epoch and its plan
        self._plan_length = 0
        if settings.tensorboard:
            check_tensorboard()

    def fit(self, *, resume: bool = False, begin: Callable[[], None] = lambda: None) -> Outcome:
        """Runs until a limit, early stopping or an interrupt.

        begin() is called when what the run goes on from and the first epoch's data are known to fit, before anything
        is written.

        Raises: KeyboardInterrupt after Ctrl-C or SIGTERM, with everything saved; RunFailed when the loss is not finite;
        NlpcliError for a checkpoint that does not fit and for too little data, before `begin`.
        """
        torch.manual_seed(self.settings.seed)
        if resume:
            self._load()
        self._plan_of(self.progress.epoch)
        begin()
        self.progress.data = self.data
        self.log = MetricsLog(self.run, from_step=self.progress.step, tensorboard=self.settings.tensorboard)
        self._clock = time.perf_counter() - self.progress.seconds
        self._window = (time.perf_counter(), self.progress.tokens)
        self.observer.started(self.progress, self._share())
        gc.collect()
        gc.freeze()  # what is alive now lives to the end; scanning it again can cost hundreds of milliseconds a step
        try:
            with self.interrupts:
                reason, kept = self._work()
        finally:
            gc.unfreeze()
            self.log.close()
        self.observer.stopped(self.progress, reason)
        return Outcome(self.progress, self.progress.kept, kept, reason)

    def _load(self) -> None:
        average = self.average.weights if self.average else None
        self.progress, self.carry = load_checkpoint(
            self.run, model=self.model, optimizer=self.optimizer, average=average
        )
        self.saved_at = self.progress.step
        if self.progress.data not in ("", self.data):
            self.observer.note(
                "warning: the training data has changed since the run stopped; training continues with the new data"
            )

    def _work(self) -> tuple[str, str]:
        """Trains and ends the run: why it stopped, and which weights were kept."""
        try:
            reason = self._run()
            if self._count:  # the curves reach the end
                self._log()
            if self.progress.evaluated != self.progress.step or self.settings.metric not in self.progress.best:
                self._evaluate()
                self._save()
            return reason, self._finish()
        except Interrupted:
            self._leave()
            raise

    def _run(self) -> str:
        self._look_after()  # an evaluation that was interrupted is made up for
        while True:
            for group, last in self._groups():
                if reason := self._limit():
                    return reason
                self._step(group)
                self.progress.position += len(group)
                if last:
                    self.progress.epoch += 1
                    self.progress.position = 0
                    self.carry = None
                if self.progress.step % self.settings.log_every == 0:
                    self._log()
                self._look_after()
                self.interrupts.check()

    def _look_after(self) -> None:
        """Evaluates and saves where it is time to."""
        progress, settings = self.progress, self.settings
        every = settings.evaluate_every
        evaluates = progress.step % every == 0 if every else progress.position == 0
        if evaluates and progress.step not in (0, progress.evaluated):
            self._evaluate()
            self._save()
        elif settings.save_every and progress.step % settings.save_every == 0 and progress.step != self.saved_at:
            self._save()

    def _groups(self) -> Iterator[tuple[list[Batch], bool]]:
        """The rest of the current epoch: the batches of one step, and whether they are its last."""
        epoch, size = self.progress.epoch, self.settings.accumulate
        plan = self._plan_of(epoch)
        if self.progress.position >= len(plan):  # resumed with less data, or with larger batches
            self.progress.epoch, self.progress.position = epoch + 1, 0
            self.carry = None
        for start in range(self.progress.position, len(plan), size):
            stop = min(start + size, len(plan))
            random = (np.random.default_rng([self.settings.seed, epoch, place]) for place in range(start, stop))
            batches = [self.task.collate(item, rng) for item, rng in zip(plan[start:stop], random, strict=True)]
            yield batches, stop == len(plan)

    def _plan_of(self, epoch: int) -> Sequence[Any] | np.ndarray:
        if self._plan is None or self._plan[0] != epoch:
            plan = self.task.plan(epoch)
            if len(plan) == 0:
                raise NlpcliError("the training data is too small for one batch", hint="add more training data")
            self._plan, self._plan_length = (epoch, plan), len(plan)
            return plan
        return self._plan[1]

    def _step(self, group: list[Batch]) -> None:
        settings, progress = self.settings, self.progress
        self.module.train()
        if self.plan is not None and (said := self.plan.begin_step(progress)):
            self.observer.note(said)
            self._count_anew()
        count = sum(batch.count for batch in group)
        tokens = sum(batch.tokens for batch in group)
        if progress.flops_per_token:
            rate = self._backward(group, count)
        else:
            with counted() as flops:
                rate = self._backward(group, count)
            progress.flops_per_token = flops() / tokens
        limit = settings.max_grad_norm or math.inf
        self._grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True)
        progress.step += 1
        self.lr = learning_rate(settings, progress.step, self._share(), d_model=self.d_model)
        set_rate(self.optimizer, self.lr * rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(progress)
        progress.tokens += tokens
        progress.flops += tokens * progress.flops_per_token
        progress.seconds = time.perf_counter() - self._clock
        self._count += count

    def _count_anew(self) -> None:
        """Forgets what a token costs where other parameters learn than when it was counted."""
        learning = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        if learning != self.progress.learning:
            self.progress.learning, self.progress.flops_per_token = learning, 0.0

    def _backward(self, group: list[Batch], count: int) -> float:
        """Adds the gradients of the mean loss over the `count` predictions of `group`; gives its mean `Loss.rate`."""
        rates = []
        for batch in group:
            with self.machine.autocast():
                total, nll, (logged, rate), self.carry = self.module(
                    self._loss, batch.to(self.machine.device), self.carry
                )
            (total / count).backward()
            self._nll = self._nll + nll
            rates.append(rate)
            for name, (value, number) in logged.items():
                before = self._logged.get(name, (0.0, 0))
                self._logged[name] = before[0] + value, before[1] + number
        return sum(rates) / len(rates)

    def _loss(self, model: nn.Module, batch: Batch, carry: Any) -> tuple[Tensor, Tensor, tuple[Tallies, float], Any]:
        """The total of the loss, its nll, what is logged of it with its rate, and the carry, for `TrainingModule`."""
        loss, carry = self.task.loss(model, batch, carry)
        return loss.total, loss.nll.detach(), (loss.logged, loss.rate), carry

    def _log(self) -> None:
        loss, norm = self._loss_and_norm()
        now, (then, tokens) = time.perf_counter(), self._window
        speed = (self.progress.tokens - tokens) / max(now - then, 1e-9)
        progress = self.progress
        self.log.write(
            "train", progress.step, epoch=progress.epoch, loss=loss, lr=self.lr, grad_norm=norm,
            tokens_per_second=round(speed, 1), tokens=progress.tokens, seconds=round(progress.seconds, 2),
            flops=progress.flops, **{name: float(sum_) / max(n, 1) for name, (sum_, n) in self._logged.items()},
        )  # fmt: skip
        self.observer.stepped(progress, self._share(), loss, self.lr, speed)
        self._nll, self._count, self._logged = torch.zeros_like(self._nll), 0, {}
        self._window = (now, progress.tokens)

    def _loss_and_norm(self) -> tuple[float, float]:
        """The mean loss since the last line of the log, and the last gradient's norm.

        Raises: RunFailed when one is not finite: such weights must neither be kept nor replace a checkpoint.
        """
        loss, norm = float(self._nll) / max(self._count, 1), float(self._grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise RunFailed(
                f"the loss or the gradient is not finite at step {self.progress.step:,}",
                hint="set a lower training.lr, more training.warmup_steps, or training.max_grad_norm=1",
            )
        return loss, norm

    def _evaluate(self) -> None:
        self._loss_and_norm()
        pause = time.perf_counter()
        with self._weights_to_keep():
            self.metrics = self._measure()
            self.progress.evaluated = self.progress.step
            if self.snapshots is not None:
                self.snapshots.add(self.model, self.progress.step)
            improved = self._remember_best()
            changed = self.average and self.average.evaluated(self.progress, self.settings.metric, self.metrics)
            self.progress.seconds = time.perf_counter() - self._clock
            self.log.write("dev", self.progress.step, epoch=self.progress.epoch,
                           seconds=round(self.progress.seconds, 2), **self.metrics)  # fmt: skip
            self.log.show("dev", self.progress.step, self.samples())
            if improved:
                self.keep(merged(self.model), self.metrics, self.progress)
        self.observer.evaluated(self.progress, self.metrics, improved)
        if changed:
            self.observer.note(changed)
        then, tokens = self._window
        self._window = (then + time.perf_counter() - pause, tokens)  # speed is told of training alone

    def _measure(self) -> dict[str, float]:
        self.module.eval()
        # always in float32: what is reported must not depend on the training precision
        with self.interrupts.at_once(), torch.inference_mode():
            return self.module(self.evaluate_model)

    def _remember_best(self) -> bool:
        """Notes new best values; True when the deciding metric improved."""
        progress, decisive = self.progress, self.settings.metric
        improved = [name for name, value in self.metrics.items() if self._better(name, value)]
        progress.best |= {name: {"value": self.metrics[name], "step": progress.step} for name in improved}
        others = [name for name in improved if name != decisive and (name == "loss" or higher_is_better(name))]
        if others:
            first, *rest = (self.run / FOLDER / f"best-{name}.safetensors" for name in others)
            write_atomic(first, save(tensors_of(merged(self.model))))
            for path in rest:
                write_again(first, path)
        if decisive in improved:
            progress.kept = dict(self.metrics)
        progress.stale = 0 if decisive in improved else progress.stale + 1
        return decisive in improved

    def _better(self, name: str, value: float) -> bool:
        best = self.progress.best.get(name)
        if best is None:
            return True
        return value > best["value"] if higher_is_better(name) else value < best["value"]

    def _finish(self) -> str:
        """Tries the average of the last evaluations' weights, and keeps it when it is better."""
        decisive = self.settings.metric
        best = self.progress.best[decisive]
        kept = f"step {best['step']}"
        if self.snapshots is not None and self.snapshots.count > 1:
            self.model.load_state_dict(self.snapshots.average(), strict=False)
            metrics = self._measure()
            self.log.write("average", self.progress.step, snapshots=self.snapshots.count, **metrics)
            self.log.show("average", self.progress.step, self.samples())
            improved = self._better(decisive, metrics[decisive])
            self.observer.evaluated(self.progress, metrics, improved)
            if improved:
                kept = f"average of the last {self.snapshots.count} evaluations"
                self.keep(merged(self.model), metrics, self.progress)
                self.progress.kept = metrics
        return kept

    def _save(self) -> None:
        self._loss_and_norm()
        self.progress.seconds = time.perf_counter() - self._clock
        save_checkpoint(
            self.run, model=self.model, optimizer=self.optimizer, progress=self.progress,
            average=self.average.weights if self.average and self.average.is_running(self.progress) else None,
            carry=self.carry, keep=self.settings.keep_checkpoints,
        )  # fmt: skip
        self.saved_at = self.progress.step

    def _leave(self) -> None:
        """Saves what an interrupt finds."""
        if self.saved_at != self.progress.step:  # and not while averages are tried, when the weights are others
            self._save()
        try:
            if not self.progress.best:  # a model that was never measured is better than none
                with self._weights_to_keep():
                    self.keep(merged(self.model), {}, self.progress)
        finally:
            self.observer.stopped(self.progress, "interrupted")

    @contextmanager
    def _weights_to_keep(self) -> Iterator[None]:
        """The running average's weights inside, the trained ones again afterwards."""
        if self.average is None or not self.average.is_running(self.progress):
            yield
        else:
            with self.average.applied():
                yield

    def _share(self) -> float:
        return share_done(self.progress, self.settings, self._plan_length)

    def _limit(self) -> str | None:
        self.progress.seconds = time.perf_counter() - self._clock
        return limit_reached(self.progress, self.settings, self._plan_length)
