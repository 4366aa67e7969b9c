"""Scheduled sampling: in training, more and more often, the decoder reads its own tokens instead of the reference's.

With teacher forcing a decoder reads only references, so that it never learns to continue after its own mistakes.
Source: Bengio et al. 2015. Their "own token" is the most probable one here, and each token is chosen apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.objectives.objective import Loss, Objective
from nlpcli.objectives.token_loss import best_tokens

if TYPE_CHECKING:
    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.objectives.source_target_batches import PairBatch


@dataclass(frozen=True)
class SamplingSchedule:
    """With which probability ε a decoder reads the reference after i batches (Bengio et al. 2015, section 2.4).

    decay: linear, 1 - i / batches; exponential, exp(-i / batches); inverse-sigmoid, k / (k + exp(i / k)) with
    k = batches. floor: the least ε.
    """

    decay: str
    batches: int
    floor: float = 0.0

    def __call__(self, i: int) -> float:
        k = self.batches
        if self.decay == "linear":
            share = 1 - i / k
        elif self.decay == "exponential":
            share = math.exp(-i / k)
        else:
            assert self.decay == "inverse-sigmoid"
            share = 1 / (1 + math.exp(i / k - math.log(k))) if i < 700 * k else 0.0
        return max(self.floor, share)


class ScheduledSampling:
    """An objective with batches of pairs, some of whose target tokens the decoder replaces by its own."""

    def __init__(self, objective: Objective[Any, Any], schedule: SamplingSchedule) -> None:
        self.objective = objective
        self.schedule = schedule

    @property
    def divisible(self) -> bool:
        """See `Objective`."""
        return getattr(self.objective, "divisible", True)

    def plan(self, epoch: int) -> list[tuple[Any, int]]:
        """The batches, with the number of each in the run; epochs count as if all were as long as this one."""
        items = self.objective.plan(epoch)
        return [(item, epoch * len(items) + number) for number, item in enumerate(items)]

    def collate(self, item: tuple[Any, int], rng: np.random.Generator) -> PairBatch:
        """The batch, with `own`: True where the decoder reads its own token."""
        batch: PairBatch = self.objective.collate(item[0], rng)
        own = rng.random(tuple(batch.target.shape)) >= self.schedule(item[1])
        first = int((batch.places % batch.target.size(1)).min())
        own[:, : first + 1] = False  # what every target begins with is given in a search, too
        return replace(batch, own=torch.from_numpy(own))

    def loss(self, model: Any, batch: PairBatch, carry: Any) -> tuple[Loss, Any]:  # as of `Objective`
        return self.objective.loss(model, batch, carry)


def own_token_states(model: EncoderDecoder, batch: PairBatch) -> Tensor:
    """The decoder's states (batch, n, d_model) for targets whose tokens at `batch.own` are those it would write.

    No gradient flows through the choice of a token.
    """
    assert batch.own is not None  # of a batch of `ScheduledSampling`
    state = model.init_state(model.encode(batch.source, batch.source_mask))
    tokens = batch.target[:, 0]
    found: list[Tensor] = []
    for place in range(batch.target.size(1)):
        hidden, state = model.advance(tokens[:, None], state)
        found.append(hidden)
        if place + 1 < batch.target.size(1):
            own = best_tokens(hidden[:, 0].detach(), model.output_weight, model.output_bias)
            tokens = torch.where(batch.own[:, place + 1], own, batch.target[:, place + 1])
    return torch.cat(found, dim=1)
