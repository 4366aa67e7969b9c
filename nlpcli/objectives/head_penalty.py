"""Heads that attend to different keys: a penalty on what their weights have in common, for any objective or task.

For each query, with A (heads, m) the weights of its heads:

    P = ||A Aᵀ - I||²_F                   (Lin et al. 2017, eq. 8)

The mean of P over queries, texts and layers is added to the mean loss. Beside it stands the mean cosine of two heads,
which also falls where the loss makes heads differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.attention.hooks import Recordable, recording
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Batch, Loss, Objective

COSINE = "head_cosine"


class HeadPenalty:
    """An objective whose loss has `weight` times the mean penalty besides, and logs `head_cosine`.

    With a weight of 0 heads are measured, and training is what it is without. Layers with one head don't count.
    """

    def __init__(self, objective: Objective[Any, Any], weight: float) -> None:
        self.objective = objective
        self.weight = weight

    @property
    def divisible(self) -> bool:
        """See `Objective`: the penalty is a mean over the batch."""
        return not self.weight and getattr(self.objective, "divisible", True)

    @property
    def stateful(self) -> bool:
        """See `Objective`."""
        return getattr(self.objective, "stateful", False)

    def plan(self, epoch: int) -> Sequence[Any] | np.ndarray:
        """See `Objective.plan`."""
        return self.objective.plan(epoch)

    def collate(self, item: Any, rng: np.random.Generator) -> Batch:
        """See `Objective.collate`."""
        return self.objective.collate(item, rng)

    def loss(self, model: Any, batch: Batch, carry: Any) -> tuple[Loss, Any]:  # as of `Objective`
        """See `Objective.loss`.

        Raises: NlpcliError for a model without two heads in any layer.
        """
        layers = attention_layers(model)
        with recording(*layers, gradients=self.weight > 0) as recorders:
            loss, carry = self.objective.loss(model, batch, carry)
        recorded = [weights for recorder in recorders for weights in recorder if weights.size(1) > 1]
        if not recorded:
            raise NlpcliError(
                "training.head_penalty needs attention with 2 heads or more, which this model does not have",
                hint="leave out training.head_penalty, or set model.heads",
            )
        measured = [penalty_and_cosine(weights) for weights in recorded]
        penalty, cosine = (torch.stack(values).mean() for values in zip(*measured, strict=True))
        total = loss.total + self.weight * penalty * loss.count if self.weight else loss.total
        logged = {**loss.logged, COSINE: (cosine.detach() * loss.count, loss.count)}
        return replace(loss, total=total, logged=logged), carry


def attention_layers(model: Any) -> list[Recordable]:  # any model: its body states where it attends
    """All attention layers of a model, under a head or not."""
    return [layer for layers in model.body.attention_sites().values() for layer in layers]


def penalty_and_cosine(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of ||A Aᵀ - I||² over the queries, and the mean cosine of two heads, of weights (rows, heads, n, m).

    Queries without weights, and those of padding, do not count: where queries are the keys, a key that nobody attends
    to is padding.
    """
    by_query = weights.float().transpose(1, 2)  # (rows, n, heads, m)
    products = by_query @ by_query.transpose(-2, -1)  # (rows, n, heads, heads)
    heads = products.size(-1)
    identity = torch.eye(heads, device=products.device)
    penalty = (products - identity).square().sum(dim=(-2, -1))
    lengths = products.diagonal(dim1=-2, dim2=-1).clamp(min=torch.finfo(products.dtype).tiny).sqrt()
    cosines = products / (lengths[..., :, None] * lengths[..., None, :])
    cosine = (cosines * (1 - identity)).sum(dim=(-2, -1)) / (heads * (heads - 1))
    counted = _queries(weights.detach()).to(penalty.dtype)
    number = counted.sum().clamp(min=1)
    return (penalty * counted).sum() / number, (cosine * counted).sum() / number


def _queries(weights: Tensor) -> Tensor:
    """True for each query (rows, n) that counts."""
    attends = (weights > 0).any(dim=-1).any(dim=1)
    if weights.size(2) != weights.size(3):
        return attends
    return attends & (weights > 0).any(dim=2).any(dim=1)
