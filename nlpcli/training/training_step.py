"""One optimizer step: gradients of a step's batches, their norm, the learning rate, and the change of the weights."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn

from nlpcli.errors import is_out_of_memory
from nlpcli.objectives.objective import Batch, Objective, Tallies
from nlpcli.training.distributed.division import Share
from nlpcli.training.distributed.sharding import whole_tensor
from nlpcli.training.distributed.wrapping import synchronized
from nlpcli.training.flops import counted
from nlpcli.training.optimizer import set_rate
from nlpcli.training.out_of_memory import divided, division_note, joined, most_parts
from nlpcli.training.random_state import random_state, set_random_state
from nlpcli.training.schedule import learning_rate
from nlpcli.training.training_loop_types import ModelToTrain
from nlpcli.training.training_state import TrainingState


class TrainingStep:
    """Takes the steps of a run. Its settings are those of `state`; trained: how the model's parameters are trained."""

    def __init__(self, state: TrainingState, trained: ModelToTrain, task: Objective[Any, Any]) -> None:
        self.state = state
        self.task = task
        self.d_model = trained.d_model
        self.plan = trained.plan
        self.before_step = trained.before_step

    def take(self, share: Share, count: int, tokens: int) -> None:
        """Changes the weights by what this process has of a step. count, tokens: of the step in all processes."""
        state, progress, sums = self.state, self.state.progress, self.state.sums
        state.processes.seed_step(state.settings.seed, progress.step)
        state.module.train()
        if self.plan is not None and (message := self.plan.begin_step(progress)):
            state.observer.note(message)
            self._count_anew()
        if self.before_step is not None:
            self.before_step(progress.step)
        before = state.measured()
        rate, nll = self._gradients(share, count, tokens)
        if state.scaling is not None:
            state.scaling.unscale(state.optimizer)
        limit = state.settings.max_grad_norm or math.inf
        sums.grad_norm = whole_tensor(nn.utils.clip_grad_norm_(state.model.parameters(), limit, foreach=True))
        progress.step += 1
        sums.lr = learning_rate(state.settings, progress.step, state.share(), d_model=self.d_model)
        set_rate(state.optimizer, sums.lr * rate)
        batches = [batch for batch, _ in share.batches]
        loss = nll / max(count, 1)
        overflows = state.scaling is not None and state.scaling.overflows(loss, sums.grad_norm)
        if not overflows and state.non_finite.accepts(batches, loss, sums.grad_norm, progress):
            state.optimizer.step()
            if state.average is not None:
                state.average.update(progress)
            sums.count += count
        else:
            state.take_back(before)
            sums.grad_norm = torch.zeros_like(sums.grad_norm)
        state.optimizer.zero_grad(set_to_none=True)
        progress.tokens += tokens
        progress.flops += tokens * progress.flops_per_token
        state.read_clock()

    def _count_anew(self) -> None:
        """Forgets what a token costs where other parameters learn than when it was counted."""
        progress = self.state.progress
        learning = sum(parameter.numel() for parameter in self.state.model.parameters() if parameter.requires_grad)
        if learning != progress.learning:
            progress.learning, progress.flops_per_token = learning, 0.0

    def _gradients(self, share: Share, count: int, tokens: int) -> tuple[float, Tensor]:
        """As `_backward`. If memory runs out and settings.fit_memory is set, batches are divided from here on.

        The step begins again then, with the random numbers it began with.
        """
        state = self.state
        most = most_parts([batch for batch, _ in share.batches]) if self._divides() else 1
        before, random = state.measured(), random_state(state.machine.device) if most > 1 else None
        while True:
            try:
                return self._counted(share, count, tokens)
            except (MemoryError, RuntimeError) as error:
                if random is None or state.progress.parts >= most or not is_out_of_memory(error):
                    raise
            # the tensors of what failed are free here
            if state.machine.device.type == "cuda":
                torch.cuda.empty_cache()
            state.progress.parts = min(2 * state.progress.parts, most)
            state.observer.note(division_note(state.progress.step + 1, state.progress.parts))
            state.take_back(before)
            set_random_state(state.machine.device, random)
            state.optimizer.zero_grad(set_to_none=True)

    def _divides(self) -> bool:
        """Whether batches may be divided: by this process alone, and where the loss is the sum of those of its rows."""
        alone = not self.state.processes.several
        return alone and self.state.settings.fit_memory is not None and getattr(self.task, "divisible", True)

    def _counted(self, share: Share, count: int, tokens: int) -> tuple[float, Tensor]:
        """As `_backward`; counts the FLOPs of a token where they are not known."""
        progress = self.state.progress
        if progress.flops_per_token:
            return self._backward(share, count)
        with counted() as flops:
            found = self._backward(share, count)
        progress.flops_per_token = self.state.processes.sums(flops())[0] / tokens
        return found

    def _backward(self, share: Share, count: int) -> tuple[float, Tensor]:
        """Adds the gradients of the mean loss over the `count` predictions of the step.

        Gradients become those of all processes with the last batch; what sums them divides by the number of processes.
        Returns: the mean `Loss.rate`, and the sum of `Loss.nll` in all processes, ().
        """
        processes = self.state.processes
        rates, all_nll = [], torch.zeros_like(self.state.sums.nll)
        for number, (batch, weight) in enumerate(share.batches, 1):
            with synchronized(self.state.module, now=number == len(share.batches)):
                rate, nll = self._backward_of_batch(batch, weight, count)
            all_nll = all_nll + nll
            rates.append(rate)
        mean = sum(rates) / len(rates)
        if processes.several:
            weights = [weight for _, weight in share.batches]
            found, rate, rated = processes.sums(float(all_nll), sum(map(operator.mul, rates, weights)), sum(weights))
            all_nll = torch.full_like(all_nll, found)
            mean = rate / rated if share.whole else mean
        return mean, all_nll

    def _backward_of_batch(self, batch: Batch, weight: float, count: int) -> tuple[float, Tensor]:
        """The gradients of one batch, in as many parts as memory needs. Returns: `Loss.rate`, and `Loss.nll`, ()."""
        state, device = self.state, self.state.machine.device
        rates, carries, all_nll = [], [], torch.zeros_like(state.sums.nll)
        for part, before in divided(batch, state.carry, state.progress.parts):
            with state.machine.autocast():
                total, nll, (logged, rate), carry = state.module(self._loss, part.to(device), before)
            if state.processes.several:
                total = total * (weight * state.processes.count)
            loss = total / count
            (loss if state.scaling is None else state.scaling.scaled(loss)).backward()
            nll = nll * weight if weight != 1 else nll
            state.sums.nll, all_nll = state.sums.nll + nll, all_nll + nll
            state.sums.add(logged, weight)
            rates.append(rate)
            carries.append(carry)
        state.carry = joined(carries)
        return sum(rates) / len(rates), all_nll

    def _loss(self, model: nn.Module, batch: Batch, carry: Any) -> tuple[Tensor, Tensor, tuple[Tallies, float], Any]:
        """The total of the loss, its nll, what is logged of it with its rate, and the carry, for `TrainingModule`."""
        loss, carry = self.task.loss(model, batch, carry)
        return loss.total, loss.nll.detach(), (loss.logged, loss.rate), carry
