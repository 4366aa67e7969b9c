"""The training loop: takes batches, makes steps, records progress. It does not depend on the model or the task."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlpcli.config.folder_lock import FolderWatch
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import NlpcliError, is_out_of_memory
from nlpcli.objectives.objective import Batch, Objective
from nlpcli.training.checkpoint import Progress
from nlpcli.training.device import Machine
from nlpcli.training.distributed.division import Share, check_divisible, share_of
from nlpcli.training.distributed.processes import peers
from nlpcli.training.evaluator import Evaluator
from nlpcli.training.interrupts import Interrupted
from nlpcli.training.observer import Observer
from nlpcli.training.out_of_memory import out_of_memory
from nlpcli.training.save_and_resume import Checkpoints
from nlpcli.training.stopping_criteria import limit_reached
from nlpcli.training.training_log import MetricsLog, check_tensorboard
from nlpcli.training.training_loop_types import Evaluation, ModelToTrain, Outcome
from nlpcli.training.training_state import TrainingState
from nlpcli.training.training_step import TrainingStep


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
        self.state = TrainingState(trained, settings, machine, run, observer)
        self.model, self.processes, self.observer = self.state.model, self.state.processes, self.state.observer
        check_divisible(task, settings.accumulate, self.processes)
        self.task = task
        self.settings = settings
        self.machine = machine
        self.run = run
        self.training_step = TrainingStep(self.state, trained, task)
        self.checkpoints = Checkpoints(self.state, data)
        self.evaluator = Evaluator(self.state, evaluation, self.checkpoints)
        self._plan: tuple[int, Sequence[Any] | np.ndarray] | None = None  # an epoch and its plan
        if settings.tensorboard:
            check_tensorboard()

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.state.progress

    def fit(self, *, resume: bool = False, begin: Callable[[], None] = lambda: None) -> Outcome:
        """Runs until a limit, early stopping or an interrupt.

        begin() is called when what the run goes on from and the first epoch's data are known to fit, before anything
        is written.

        Raises: KeyboardInterrupt after Ctrl-C or SIGTERM, with everything saved; RunFailed when the loss is not finite;
        NlpcliError for a checkpoint that does not fit and for too little data, before `begin`.
        """
        torch.manual_seed(self.settings.seed)
        state = self.state
        if resume:
            self.checkpoints.load()
        if state.sharded is not None:
            state.sharded.begin()
        self._plan_of(self.progress.epoch)
        with ExitStack() as stack:
            stack.enter_context(state.interrupts)
            stack.enter_context(peers())
            if self.processes.first:
                begin()
                log = MetricsLog(self.run, from_step=self.progress.step, tensorboard=self.settings.tensorboard)
                stack.callback(log.close)
                state.log, state.folder = log, stack.enter_context(FolderWatch(self.run))
            state.non_finite.log = state.log
            self.progress.data = self.checkpoints.data
            state.start_clock()
            self.observer.started(self.progress, state.share())
            if gc.get_freeze_count() == 0:  # else the caller has done it
                gc.collect()
                gc.freeze()  # what is alive now lives to the end; scanning it again can cost hundreds of milliseconds
                stack.callback(gc.unfreeze)
            try:
                reason, kept = self._work()
                self.processes.wait()
            except (NlpcliError, OSError):
                state.folder.check()  # why nothing can be written, if it is gone
                raise
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(self.settings, self.progress.step, self.checkpoints.saved_at) from None
        self.observer.stopped(self.progress, reason)
        return Outcome(self.progress, self.progress.kept, kept, reason)

    def _work(self) -> tuple[str, str]:
        """Trains and ends the run: why it stopped, and which weights were kept."""
        try:
            reason = self._run()
            logged = self.processes.from_first(lambda: self.state.log.last_train)
            if self.state.sums.count and logged != self.progress.step:  # the curves reach the end
                self._log()
            if self.progress.evaluated != self.progress.step or self.settings.metric not in self.progress.best:
                self.evaluator.evaluate()
                self.checkpoints.save()
            return reason, self.evaluator.finish()
        except Interrupted:
            self._leave()
            raise

    def _run(self) -> str:
        self.state.interrupts.check()
        self._look_after()  # an evaluation that was interrupted is made up for
        while True:
            for share, last in self._groups():
                count, tokens = self._agree(share)
                if reason := limit_reached(self.progress, self.settings, self.state.plan_length):
                    return reason
                self.state.folder.check()
                self._step(share, count, tokens)
                self.progress.position += share.size
                if last:
                    self.progress.epoch += 1
                    self.progress.position = 0
                    self.state.carry = None
                if self.progress.step % self.settings.log_every == 0:
                    self._log()
                self._look_after()
                if not self.processes.several:  # several check in `_agree`, all at the same step
                    self.state.interrupts.check()

    def _agree(self, share: Share) -> tuple[int, int]:
        """Sets the time to that of the first process. Returns: the count and the tokens of the next step, of all.

        Raises: Interrupted when any process was interrupted.
        """
        clock = time.perf_counter() - self.state.clock if self.processes.first else 0.0
        self.progress.seconds, interrupted, count, tokens = self.processes.sums(
            clock, float(self.state.interrupts.requested), share.count, share.tokens
        )
        if interrupted:  # a signal that came while the processes spoke is sent at the next step
            self.state.interrupts.requested = True
            if self.processes.several:
                self.state.interrupts.check()
        return int(count), int(tokens)

    def _look_after(self) -> None:
        """Evaluates and saves where it is time to."""
        progress, settings, saved_at = self.progress, self.settings, self.checkpoints.saved_at
        every = settings.evaluate_every
        evaluates = progress.step % every == 0 if every else progress.position == 0
        if evaluates and progress.step not in (0, progress.evaluated):
            self.evaluator.evaluate()
            self.checkpoints.save()
        elif settings.save_every and progress.step % settings.save_every == 0 and progress.step != saved_at:
            self.checkpoints.save()

    def _groups(self) -> Iterator[tuple[Share, bool]]:
        """The rest of the current epoch: this process's share of one step, and whether it is the last step."""
        epoch, size = self.progress.epoch, self.settings.accumulate
        plan = self._plan_of(epoch)
        if self.progress.position >= len(plan):  # resumed with less data, or with larger batches
            self.progress.epoch, self.progress.position = epoch + 1, 0
            self.state.carry = None
        for start in range(self.progress.position, len(plan), size):
            yield self._share_of_step(epoch, start), start + size >= len(plan)

    def _share_of_step(self, epoch: int, start: int) -> Share:
        """This process's part of the step that begins at `start` of an epoch's plan."""
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
            self._plan, self.state.plan_length = (epoch, plan), len(plan)
            return plan
        return self._plan[1]

    def _step(self, share: Share, count: int, tokens: int) -> None:
        """count, tokens: of the step in all processes."""
        self.training_step.take(share, count, tokens)

    def _log(self) -> None:
        state, progress = self.state, self.progress
        loss, norm = state.loss_and_norm()
        logged = state.measures_logged()
        now, (then, tokens) = time.perf_counter(), state.speed_since
        speed = (progress.tokens - tokens) / max(now - then, 1e-9)
        state.log.write(
            "train", progress.step, epoch=progress.epoch, loss=loss, lr=state.sums.lr, grad_norm=norm,
            tokens_per_second=round(speed, 1), tokens=progress.tokens, seconds=round(progress.seconds, 2),
            flops=progress.flops, **logged,
        )  # fmt: skip
        self.observer.stepped(progress, state.share(), loss, state.sums.lr, speed)
        state.sums.restart()
        state.speed_since = (now, progress.tokens)

    def _leave(self) -> None:
        """Saves what an interrupt finds."""
        if self.checkpoints.saved_at != self.progress.step:  # not while averages are tried, when the weights are others
            self.checkpoints.save()
        try:
            if not self.progress.best:  # a model that was never measured is better than none
                self.evaluator.save_unmeasured()
        finally:
            self.observer.stopped(self.progress, "interrupted")
