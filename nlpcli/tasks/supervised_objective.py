"""A supervised task over training examples as an `Objective` of the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import BatchT, Loss
from nlpcli.tasks.task import Item, Task

_POOL = 50  # batches whose examples are sorted by length together


class SupervisedObjective(Generic[BatchT]):
    """The items of a task in batches of similar length, as an `Objective`. Its dev set is scored by predictions, not
    by losses.

    batch_size: items in a batch; None: a batch has at most `batch_tokens` tokens, padding included. With a batch size,
    examples are shuffled and sorted by length within groups of 50 batches, and the batches are shuffled; this limits
    padding. like_length: False for random batches, with more padding. classes: the class of each item, if all classes
    are sampled equally often; an epoch then has as many items as there are, sampled with replacement.
    """

    def __init__(
        self,
        task: Task[Any, BatchT, Any],
        items: Sequence[Item],
        *,
        batch_size: int | None = 32,
        batch_tokens: int = 4096,
        seed: int = 1,
        classes: Sequence[Any] | None = None,
        like_length: bool = True,
    ) -> None:
        if not items:
            raise NlpcliError("there are no training examples")
        self.task = task
        self.items = list(items)
        self.sizes = np.array([item.size for item in items])
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.like_length = like_length
        self._chances = None if classes is None else _balanced(classes)

    @property
    def divisible(self) -> bool:
        """See `Objective`."""
        return self.task.divisible

    def __len__(self) -> int:
        return len(self.items)

    def order(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """The places of the items of an epoch, in the order in which they were sampled."""
        if self._chances is None:
            return rng.permutation(len(self.items))
        return rng.choice(len(self.items), size=len(self.items), p=self._chances)

    def plan(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = self.order(epoch, rng)
        if self.batch_size is None:
            cuts = token_budget_batches(
                self.sizes[order], max_tokens=self.batch_tokens, seed=self.seed, epoch=epoch,
                like_length=self.like_length,
            )  # fmt: skip
            return [order[cut] for cut in cuts]
        stretch = _POOL * self.batch_size if self.like_length else self.batch_size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), stretch):
            part = order[start : start + stretch]
            part = part[np.argsort(self.sizes[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> BatchT:
        return self.task.collate([self.items[i] for i in item])

    def loss(self, model: nn.Module, batch: BatchT, carry: None = None) -> tuple[Loss, None]:
        return self.task.loss(model, batch), None


def _balanced(classes: Sequence[Any]) -> np.ndarray:
    """The chance of each item when all classes are to come equally often."""
    values, index, counts = np.unique(np.array([str(c) for c in classes]), return_inverse=True, return_counts=True)
    return 1.0 / (len(values) * counts[index])


def batches_of(items: Sequence[Item], *, max_tokens: int, max_items: int | None = None) -> list[np.ndarray]:
    """Places of items in batches of like size, short ones first: for reading everything once, in any order."""
    sizes = np.array([item.size for item in items])
    return token_budget_batches(sizes, max_tokens=max_tokens, max_sentences=max_items, shuffle=False)


def predict_items(
    task: Task,
    model: nn.Module,
    items: Sequence[Item],
    device: torch.device,
    *,
    batch_tokens: int = 4096,
) -> list[Any]:
    """The outputs of all items, in their order."""
    outputs: list[Any] = [None] * len(items)
    with torch.inference_mode():
        batches = batches_of(items, max_tokens=batch_tokens)
        for batch in followed(batches, "evaluating", len(batches)):
            chosen = [items[i] for i in batch]
            for place, output in zip(batch, task.outputs(model, task.collate(chosen).to(device)), strict=True):
                outputs[place] = output
    return outputs
