"""Several tasks learned at once: how often each is sampled, and how their losses add up.

Examples of all tasks stand together in a batch (Raffel et al. 2020, section 3.5.2). Tasks that write text share the
model's output layer and differ in their prefixes; tasks with heads share the body under them (Caruana 1997):

    L = Σ_k w_k · (n_k / n) · L_k

with L_k the task's own mean loss over its part of the batch, n_k of n examples, so that rates and weights w_k both
determine the influence of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Batch, Loss
from nlpcli.tasks.supervised_objective import SupervisedObjective
from nlpcli.tasks.task import Item, Task

if TYPE_CHECKING:
    from nlpcli.models.backbone import Backbone
    from nlpcli.models.model_with_head import WithHead
    from nlpcli.models.multi_task_heads import WithHeads


def mixing_rates(sizes: Sequence[int], temperature: float = 1.0, limit: int | None = None) -> np.ndarray:
    """The share r_m of each task in the sampled examples, given how many examples e_m it has; Σ r_m = 1.

    r_m ∝ min(e_m, limit)^(1/T): proportional to the examples with T = 1, equal with T = ∞.
    Source: Raffel et al. 2020, section 3.5.2.
    """
    counted = np.minimum(np.array(sizes, dtype=float), np.inf if limit is None else limit) ** (1 / temperature)
    return counted / counted.sum()


@dataclass(frozen=True)
class Part:
    """One task of several, with its training items. weight: w_k above."""

    name: str
    task: Task
    items: Sequence[Item]
    weight: float = 1.0


@dataclass
class MixedBatch:
    """A batch for each group of tasks that is in it, and how many examples it has."""

    groups: dict[int, Batch]
    rows: dict[int, int]
    alone: bool  # whether there is one group, whose loss is that of the batch

    @property
    def count(self) -> int:
        """The divisor of the loss: the number of examples, or the count of the only group."""
        return next(iter(self.groups.values())).count if self.alone else sum(self.rows.values())

    @property
    def tokens(self) -> int:
        return sum(batch.tokens for batch in self.groups.values())

    def to(self, device: torch.device) -> MixedBatch:
        return replace(self, groups={group: batch.to(device) for group, batch in self.groups.items()})


class Mixture(SupervisedObjective[MixedBatch]):
    """Tasks in the shares `rates`, as an `Objective`; otherwise as `SupervisedObjective`.

    An epoch has as many examples as all tasks have together. The number of examples of each task is sampled with
    `rates`; a task's examples come in ever new orders, none of them a second time before all were there once.
    Text-to-text tasks of equal weight are read in one go.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        rates: np.ndarray,
        *,
        batch_size: int | None = 32,
        batch_tokens: int = 4096,
        seed: int = 1,
        like_length: bool = True,
    ) -> None:
        for part in parts:
            if not part.items:
                raise NlpcliError(f"task '{part.name}' has no training examples")
        items = [item for part in parts for item in part.items]
        batches: dict[str, Any] = {"batch_size": batch_size, "batch_tokens": batch_tokens, "like_length": like_length}
        super().__init__(parts[0].task, items, seed=seed, **batches)
        self.parts = list(parts)
        self.rates = np.asarray(rates)
        self._starts = np.cumsum([0, *(len(part.items) for part in parts)])
        keys = [_key(index, part) for index, part in enumerate(parts)]
        self._leaders = [keys.index(key) for key in keys]  # the first part of each part's group

    @property
    def divisible(self) -> bool:
        """See `Objective`: the weight of each task depends on the whole batch."""
        return False

    def order(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        parts = []
        for start, part, count in zip(self._starts, self.parts, rng.multinomial(len(self), self.rates), strict=False):
            size = len(part.items)
            rounds = [start + rng.permutation(size) for _ in range(-(-count // size))]
            parts += [np.concatenate(rounds)[:count]] if rounds else []
        return rng.permutation(np.concatenate(parts))

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> MixedBatch:
        belong = np.searchsorted(self._starts, item, side="right") - 1
        leaders = np.array(self._leaders)[belong]
        groups, rows = {}, {}
        for leader in np.unique(leaders).tolist():
            chosen = [self.items[i] for i in item[leaders == leader]]
            groups[leader], rows[leader] = self.parts[leader].task.collate(chosen), len(chosen)
        return MixedBatch(groups, rows, len(set(self._leaders)) == 1)

    def loss(self, model: nn.Module, batch: MixedBatch, carry: None = None) -> tuple[Loss, None]:
        losses = []
        for leader, group in batch.groups.items():
            part = self.parts[leader]
            loss = part.task.loss(model_for(model, part.name), group)
            if batch.alone:
                return Loss(loss.total * part.weight, loss.nll, loss.count), None
            share = batch.rows[leader] / max(loss.count, 1)
            losses.append((loss.total * (part.weight * share), loss.nll * share))
        totals, nlls = zip(*losses, strict=True)
        return Loss(sum(totals), sum(nlls), batch.count), None


def model_for(model: nn.Module, name: str) -> nn.Module:
    """The part of `model` that the task `name` uses: where there are several heads, the body with that task's own."""
    return cast("Backbone | WithHead | WithHeads", model).of(name)


def _key(index: int, part: Part) -> Any:
    return (part.task.name, part.weight) if part.task.name == "text-to-text" else index
