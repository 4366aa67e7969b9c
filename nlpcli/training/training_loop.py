"""The training loop: batches in, steps done, progress kept. It knows neither the model nor the task."""

from __future__ import annotations

import gc
import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from nlpcli.config.files import write_again, write_atomic
from nlpcli.config.folder_lock import FolderWatch
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.layers.lora import merged
from nlpcli.objectives.objective import Batch, Objective, Tallies
from nlpcli.training.checkpoint import (
    FOLDER,
    LogWindow,
    Progress,
    load_checkpoint,
    newer_checkpoints,
    save_checkpoint,
    tensors_of,
)
from nlpcli.training.device import Machine
from nlpcli.training.distributed.division import Share, check_divisible, share_of
from nlpcli.training.distributed.other_processes import SILENT, GroupInterrupts, NoFolderWatch, NoLog
from nlpcli.training.distributed.processes import peers, processes
from nlpcli.training.distributed.sharded_checkpoint import load_sharded
from nlpcli.training.distributed.sharding import GatheredOptimizer, whole_tensor, whole_tensors
from nlpcli.training.distributed.wrapping import in_parallel, synchronized
from nlpcli.training.flops import counted
from nlpcli.training.interrupts import Interrupted, Interrupts
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.training.non_finite import NonFiniteSteps
from nlpcli.training.observer import Observer
from nlpcli.training.optimizer import make_optimizer, set_rate
from nlpcli.training.schedule import learning_rate
from nlpcli.training.stopping_criteria import limit_reached, share_done
from nlpcli.training.trainer_values import Evaluation, ModelToTrain, Outcome
from nlpcli.training.training_log import MetricsLog, check_tensorboard
from nlpcli.training.training_module import TrainingModule
from nlpcli.training.weight_averaging import Snapshots, average_of


class Trainer:
    """Trains a model on `task`. run: the folder of checkpoints and log; data: a fingerprint of what is trained on."""

    def __init__(
        self,
        trained: ModelToTrain,
        task: Objective[Any, Any],
        settings: TrainingConfig,
        evaluation: Evaluation,
        *,
        machine: Machine,
        run: Path,
        observer: Observer,
        data: str = "",
    ) -> None:
        self.processes = processes()
        check_divisible(task, settings.accumulate, self.processes)
        self.model = trained.model.to(machine.device)
        self.sharded = trained.sharded
        self.plain = self.sharded.plain if self.sharded else self.model  # the weights that are evaluated and saved
        self.whole = TrainingModule(self.plain)  # computes everything, so that it is what may be wrapped
        self.module = in_parallel(self.sharded.module if self.sharded else self.whole, self.processes)
        self.task = task
        self.settings = settings
        self.machine = machine
        self.run = run
        self.evaluation = evaluation if self.processes.first else evaluation.measured_only()
        self.observer = observer if self.processes.first else SILENT
        self.d_model = trained.d_model
        self.data = data
        self.plan = trained.plan
        self.before_step = trained.before_step
        self.optimizer = make_optimizer(self.model, settings, trained.scales)
        self.average = average_of(self.model, settings)
        self.snapshots = Snapshots(run, settings.average_last) if settings.average_last else None
        self.progress = Progress()
        self.carry: Any = None  # a model's memory of the batch before; None at the start of an epoch
        self.saved_at = -1
        self.interrupts = GroupInterrupts() if self.processes.several else Interrupts()
        self.metrics: dict[str, float] = {}
        self.non_finite = NonFiniteSteps(settings, machine.device, run, self.observer.note)
        self.folder: FolderWatch | NoFolderWatch = NoFolderWatch()
        self._nll = self._grad_norm = torch.zeros((), device=machine.device)
        self._count, self.lr = 0, 0.0
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
        if self.sharded is not None:
            self.sharded.begin()
        self._plan_of(self.progress.epoch)
        self.log: MetricsLog | NoLog = NoLog()
        with ExitStack() as stack:
            stack.enter_context(self.interrupts)
            stack.enter_context(peers())
            if self.processes.first:
                begin()
                self.log = MetricsLog(self.run, from_step=self.progress.step, tensorboard=self.settings.tensorboard)
                stack.callback(self.log.close)
                self.folder = stack.enter_context(FolderWatch(self.run))
            self.non_finite.log = self.log
            self.progress.data = self.data
            self._clock = time.perf_counter() - self.progress.seconds
            self._window = (time.perf_counter(), self.progress.tokens)
            self.observer.started(self.progress, self._share())
            gc.collect()
            gc.freeze()  # what is alive now lives to the end; scanning it again can cost hundreds of milliseconds
            stack.callback(gc.unfreeze)
            try:
                reason, kept = self._work()
                self.processes.wait()
            except (NlpcliError, OSError):
                self.folder.check()  # why nothing can be written, if it is gone
                raise
        self.observer.stopped(self.progress, reason)
        return Outcome(self.progress, self.progress.kept, kept, reason)

    def _load(self) -> None:
        average = self.average.weights if self.average else None
        if self.sharded is None:
            self.progress, self.carry = load_checkpoint(
                self.run, model=self.model, optimizer=self.optimizer, average=average
            )
        else:
            self.progress, self.carry = load_sharded(self.run, self.sharded, self.optimizer, self.settings, average)
        self.carry = self.processes.own_rows(self.carry, self.machine.device)
        self.saved_at = self.progress.step
        window = self.progress.window
        own = float(self.processes.first)  # it has the sums of all
        self._nll, self._grad_norm = self._nll + window.loss * own, self._grad_norm + window.grad_norm
        self._count, self.lr = window.count, window.lr
        self._logged = {name: (sum_ * own, int(number * own)) for name, (sum_, number) in window.sums.items()}
        for damaged in newer_checkpoints(self.run, self.progress.step):
            self.observer.note(
                f"warning: the checkpoint {damaged} is damaged; training resumes from the one of step "
                f"{self.progress.step:,}"
            )
        if self.progress.data not in ("", self.data):
            self.observer.note(
                "warning: the training data has changed since the run stopped; training continues with the new data"
            )

    def _work(self) -> tuple[str, str]:
        """Trains and ends the run: why it stopped, and which weights were kept."""
        try:
            reason = self._run()
            logged = self.processes.from_first(lambda: self.log.last_train)
            if self._count and logged != self.progress.step:  # the curves reach the end
                self._log()
            if self.progress.evaluated != self.progress.step or self.settings.metric not in self.progress.best:
                self._evaluate()
                self._save()
            return reason, self._finish()
        except Interrupted:
            self._leave()
            raise

    def _run(self) -> str:
        self.interrupts.check()
        self._look_after()  # an evaluation that was interrupted is made up for
        while True:
            for share, last in self._groups():
                count, tokens = self._agree(share)
                if reason := limit_reached(self.progress, self.settings, self._plan_length):
                    return reason
                self.folder.check()
                self._step(share, count, tokens)
                self.progress.position += share.size
                if last:
                    self.progress.epoch += 1
                    self.progress.position = 0
                    self.carry = None
                if self.progress.step % self.settings.log_every == 0:
                    self._log()
                self._look_after()
                if not self.processes.several:  # several check in `_agree`, all at the same step
                    self.interrupts.check()

    def _agree(self, share: Share) -> tuple[int, int]:
        """Sets the time to that of the first process. Returns: the count and the tokens of the next step, of all.

        Raises: Interrupted when any process was interrupted.
        """
        clock = time.perf_counter() - self._clock if self.processes.first else 0.0
        self.progress.seconds, asked, count, tokens = self.processes.sums(
            clock, float(self.interrupts.asked), share.count, share.tokens
        )
        self.interrupts.asked = bool(asked)
        if self.processes.several:
            self.interrupts.check()
        return int(count), int(tokens)

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

    def _groups(self) -> Iterator[tuple[Share, bool]]:
        """The rest of the current epoch: this process's share of one step, and whether it is the last step."""
        epoch, size = self.progress.epoch, self.settings.accumulate
        plan = self._plan_of(epoch)
        if self.progress.position >= len(plan):  # resumed with less data, or with larger batches
            self.progress.epoch, self.progress.position = epoch + 1, 0
            self.carry = None
        for start in range(self.progress.position, len(plan), size):
            yield self._share_of_step(epoch, start), start + size >= len(plan)

    def _share_of_step(self, epoch: int, start: int) -> Share:
        """What this process computes of the step that begins at `start` of an epoch's plan."""
        plan = self._plan_of(epoch)
        places = range(start, min(start + self.settings.accumulate, len(plan)))

        def batch(place: int) -> Batch:
            return self.task.collate(plan[place], np.random.default_rng([self.settings.seed, epoch, place]))

        return share_of(self.task, places, batch, self.processes)

    def _plan_of(self, epoch: int) -> Sequence[Any] | np.ndarray:
        if self._plan is None or self._plan[0] != epoch:
            plan = self.task.plan(epoch)
            if len(plan) == 0:
                raise NlpcliError("the training data is too small for one batch", hint="add more training data")
            self._plan, self._plan_length = (epoch, plan), len(plan)
            return plan
        return self._plan[1]

    def _step(self, share: Share, count: int, tokens: int) -> None:
        """count, tokens: of the step in all processes."""
        settings, progress = self.settings, self.progress
        self.processes.seed_step(settings.seed, progress.step)
        self.module.train()
        if self.plan is not None and (said := self.plan.begin_step(progress)):
            self.observer.note(said)
            self._count_anew()
        if self.before_step is not None:
            self.before_step(progress.step)
        before = self._nll, dict(self._logged), self.carry
        if progress.flops_per_token:
            rate, nll = self._backward(share, count)
        else:
            with counted() as flops:
                rate, nll = self._backward(share, count)
            progress.flops_per_token = self.processes.sums(flops())[0] / tokens
        limit = settings.max_grad_norm or math.inf
        self._grad_norm = whole_tensor(nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True))
        progress.step += 1
        self.lr = learning_rate(settings, progress.step, self._share(), d_model=self.d_model)
        set_rate(self.optimizer, self.lr * rate)
        if self.non_finite.accepts(
            [batch for batch, _ in share.batches], nll / max(count, 1), self._grad_norm, progress
        ):
            self.optimizer.step()
            if self.average is not None:
                self.average.update(progress)
            self._count += count
        else:
            self._nll, self._logged, self.carry = before
            self._grad_norm = torch.zeros_like(self._grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        progress.tokens += tokens
        progress.flops += tokens * progress.flops_per_token
        progress.seconds = time.perf_counter() - self._clock

    def _count_anew(self) -> None:
        """Forgets what a token costs where other parameters learn than when it was counted."""
        learning = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        if learning != self.progress.learning:
            self.progress.learning, self.progress.flops_per_token = learning, 0.0

    def _backward(self, share: Share, count: int) -> tuple[float, Tensor]:
        """Adds the gradients of the mean loss over the `count` predictions of the step.

        Gradients become those of all processes with the last batch; what sums them divides by the number of processes.
        Returns: the mean `Loss.rate`, and the sum of `Loss.nll` in all processes, ().
        """
        rates, all_nll = [], torch.zeros_like(self._nll)
        for number, (batch, weight) in enumerate(share.batches, 1):
            with synchronized(self.module, now=number == len(share.batches)):
                with self.machine.autocast():
                    total, nll, (logged, rate), self.carry = self.module(
                        self._loss, batch.to(self.machine.device), self.carry
                    )
                if self.processes.several:
                    total = total * (weight * self.processes.count)
                (total / count).backward()
            nll = nll * weight if weight != 1 else nll
            self._nll, all_nll = self._nll + nll, all_nll + nll
            rates.append(rate)
            for name, (value, parts) in logged.items():
                before = self._logged.get(name, (0.0, 0))
                self._logged[name] = before[0] + value * weight, before[1] + parts * int(weight)
        mean = sum(rates) / len(rates)
        if self.processes.several:
            weights = [weight for _, weight in share.batches]
            found, rate, rated = self.processes.sums(
                float(all_nll), sum(map(operator.mul, rates, weights)), sum(weights)
            )
            all_nll = torch.full_like(all_nll, found)
            mean = rate / rated if share.whole else mean
        return mean, all_nll

    def _loss(self, model: nn.Module, batch: Batch, carry: Any) -> tuple[Tensor, Tensor, tuple[Tallies, float], Any]:
        """The total of the loss, its nll, what is logged of it with its rate, and the carry, for `TrainingModule`."""
        loss, carry = self.task.loss(model, batch, carry)
        return loss.total, loss.nll.detach(), (loss.logged, loss.rate), carry

    def _log(self) -> None:
        loss, norm = self._loss_and_norm()
        logged = self._measures_logged()
        now, (then, tokens) = time.perf_counter(), self._window
        speed = (self.progress.tokens - tokens) / max(now - then, 1e-9)
        progress = self.progress
        self.log.write(
            "train", progress.step, epoch=progress.epoch, loss=loss, lr=self.lr, grad_norm=norm,
            tokens_per_second=round(speed, 1), tokens=progress.tokens, seconds=round(progress.seconds, 2),
            flops=progress.flops, **logged,
        )  # fmt: skip
        self.observer.stepped(progress, self._share(), loss, self.lr, speed)
        self._nll, self._count, self._logged = torch.zeros_like(self._nll), 0, {}
        self._window = (now, progress.tokens)

    def _measures_logged(self) -> dict[str, float]:
        """What objectives log beside the loss, since the last line of the log."""
        return {name: sum_ / max(number, 1) for name, (sum_, number) in self._logged_sums().items()}

    def _logged_sums(self) -> dict[str, list[float]]:
        """By name the sum and the number of what objectives log, of all processes."""
        names = sorted(self._logged)
        sums = self.processes.sums(*(float(part) for name in names for part in self._logged[name]))
        return {name: sums[2 * i : 2 * i + 2] for i, name in enumerate(names)}

    def _loss_and_norm(self) -> tuple[float, float]:
        """The mean loss since the last line of the log, and the last gradient's norm.

        Raises: RunFailed when one is not finite: such weights must neither be kept nor replace a checkpoint.
        """
        self.non_finite.settle(self.progress)
        loss = self.processes.sums(float(self._nll))[0] / max(self._count, 1)
        norm = float(self._grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise RunFailed(
                f"the loss or the gradient is not finite at step {self.progress.step:,}",
                hint="set a lower training.lr, more training.warmup_steps, or training.max_grad_norm=1",
            )
        return loss, norm

    def _evaluate(self) -> None:
        self.folder.check()
        self._loss_and_norm()
        if self.saved_at < 0:  # no weights are kept before there is something to resume from
            self._save()
        pause = time.perf_counter()
        with self._weights_to_keep():
            self._gather()
            self.metrics = self._measure()
            self.folder.check()
            self.progress.evaluated = self.progress.step
            if self.snapshots is not None and self.processes.first:
                self.snapshots.add(self.plain, self.progress.step)
            improved = self._remember_best()
            changed = self.average and self.average.evaluated(self.progress, self.settings.metric, self.metrics)
            self.progress.seconds = time.perf_counter() - self._clock
            self.log.write("dev", self.progress.step, epoch=self.progress.epoch,
                           seconds=round(self.progress.seconds, 2), **self.metrics)  # fmt: skip
            self.log.show("dev", self.progress.step, self.evaluation.samples())
            if improved:
                self.evaluation.keep(merged(self.plain), self.metrics, self.progress)
        self.observer.evaluated(self.progress, self.metrics, improved)
        if changed:
            self.observer.note(changed)
        then, tokens = self._window
        self._window = (then + time.perf_counter() - pause, tokens)  # speed is told of training alone

    def _gather(self) -> None:
        """Brings the plain model up to date where the weights are divided among processes."""
        if self.sharded is not None:
            self.sharded.gather()

    def _measure(self) -> dict[str, float]:
        self.module.eval()
        self.whole.eval()
        # always in float32: what is reported must not depend on the training precision
        return self.processes.from_first(self._measured_here)

    def _measured_here(self) -> dict[str, float]:
        with self.interrupts.at_once(), torch.inference_mode():
            return self.whole(self.evaluation.evaluate)

    def _remember_best(self) -> bool:
        """Notes new best values; True when the deciding metric improved."""
        progress, decisive = self.progress, self.settings.metric
        improved = [name for name, value in self.metrics.items() if self._better(name, value)]
        progress.best |= {name: {"value": self.metrics[name], "step": progress.step} for name in improved}
        others = [name for name in improved if name != decisive and (name == "loss" or higher_is_better(name))]
        if others and self.processes.first:
            first, *rest = (self.run / FOLDER / f"best-{name}.safetensors" for name in others)
            write_atomic(first, save(tensors_of(merged(self.plain))))
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
        snapshots = self.snapshots
        count = 0 if snapshots is None else self.processes.from_first(lambda: snapshots.count)
        if snapshots is not None and count > 1:
            if self.processes.first:
                self.plain.load_state_dict(snapshots.average(), strict=False)
            metrics = self._measure()
            self.log.write("average", self.progress.step, snapshots=count, **metrics)
            self.log.show("average", self.progress.step, self.evaluation.samples())
            improved = self._better(decisive, metrics[decisive])
            self.observer.evaluated(self.progress, metrics, improved)
            if improved:
                kept = f"average of the last {count} evaluations"
                self.evaluation.keep(merged(self.plain), metrics, self.progress)
                self.progress.kept = metrics
        return kept

    def _save(self) -> None:
        self.folder.check()
        self.progress.window = self._log_window()
        self.progress.seconds = time.perf_counter() - self._clock
        carry, first = self.processes.rows(self.carry), self.processes.first
        average = self.average.weights if self.average and self.average.is_running(self.progress) else None
        self._gather()
        optimizer: Any = self.optimizer if self.sharded is None else GatheredOptimizer(self.optimizer, keep=first)
        if self.sharded is not None and average is not None:
            average = whole_tensors(average, keep=first)
        if first:
            save_checkpoint(
                self.run, model=self.plain, optimizer=optimizer, progress=self.progress, average=average, carry=carry,
                keep=self.settings.keep_checkpoints,
            )  # fmt: skip
        self.saved_at = self.progress.step

    def _log_window(self) -> LogWindow:
        """What the next line of the log is made of. Raises: as `_loss_and_norm`."""
        _, norm = self._loss_and_norm()
        loss = self.processes.sums(float(self._nll))[0]
        return LogWindow(loss, self._count, norm, self.lr, self._logged_sums())

    def _leave(self) -> None:
        """Saves what an interrupt finds."""
        if self.saved_at != self.progress.step:  # and not while averages are tried, when the weights are others
            self._save()
        try:
            if not self.progress.best:  # a model that was never measured is better than none
                with self._weights_to_keep():
                    self._gather()
                    self.evaluation.keep(merged(self.plain), {}, self.progress)
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
