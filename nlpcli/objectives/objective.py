"""The interface of objectives and tasks that the training loop uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Tallies = dict[str, tuple[Tensor | float, int]]
"""Measures by name, each a sum and what it is divided by."""


@dataclass(frozen=True)
class Loss:
    """A batch's loss summed over its `count` predicted tokens, in nats.

    `total` carries the gradient; `nll` is the same without smoothing, for perplexities. `tallies` are further measures
    by name, each a sum and what it is divided by: parts of a data set add up both before they divide, so that
    {"accuracy": (30, 40)} and {"accuracy": (0, 10)} make 60 %. `logged` are measures of training for the log. The
    learning rate of a step is multiplied with the mean `rate` of its batches.
    """

    total: Tensor
    nll: Tensor
    count: int
    tallies: Tallies = field(default_factory=dict)
    logged: Tallies = field(default_factory=dict)
    rate: float = 1.0


@dataclass(frozen=True)
class Sample:
    """One example as token ids, for inspection: the text, the input, the target.

    label: the reference label of the whole example in words; empty where there is none.
    """

    original: list[int]
    corrupted: list[int]
    target: list[int]
    label: str = ""


@dataclass(frozen=True)
class SamplePrediction:
    """A model's output for a dev example: the most probable token for each of `sample.target`.

    places: the positions of these in `sample.corrupted`. label: the predicted label of the whole example.
    """

    sample: Sample
    places: list[int]
    tokens: list[int]
    label: str = ""


class Batch(Protocol):
    """The tensors of one step."""

    @property
    def count(self) -> int:
        """Predicted tokens: what the loss is divided by."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens read and predicted, padding not counted: the unit of speed."""
        ...

    def to(self, device: torch.device) -> Batch: ...


def places_of_rows(
    places: Tensor | None, labels: Tensor | None, start: int, stop: int, width: int
) -> tuple[Tensor | None, Tensor | None]:
    """Those of `places` (k) in flattened rows of `width` that lie in the rows from `start` up to `stop`, as they are in
    these rows alone, and those of `labels` (k) that belong to them."""
    if places is None or labels is None:
        return None, None
    inside = (places >= start * width) & (places < stop * width)
    return places[inside] - start * width, labels[inside]


ModelT = TypeVar("ModelT", bound=nn.Module, contravariant=True)
BatchT = TypeVar("BatchT", bound=Batch)


class Objective(Protocol[ModelT, BatchT]):
    """A source of batches together with its loss for one kind of model.

    All chance comes from the `rng` handed in.

    Two attributes state what several processes may do with a batch; they may be left out. divisible (True): whether the
    loss of a batch is the sum of the losses of its rows, so that `batch.part` divides it. stateful (False): whether a
    batch needs the carry of the batch before it.
    """

    def plan(self, epoch: int) -> Sequence[Any] | np.ndarray:
        """The batches of an epoch, in order: a pure function of the epoch, so that a run can be resumed."""
        ...

    def collate(self, item: Any, rng: np.random.Generator) -> BatchT:  # each has a plan of its own
        """The tensors of one entry of the plan."""
        ...

    def loss(self, model: ModelT, batch: BatchT, carry: Any) -> tuple[Loss, Any]:  # each model has its own
        """The loss of a batch, and what a model with memory hands on to the next: tensors without gradients, or None.

        The loop keeps this `carry` through an epoch and in checkpoints; an epoch begins with None.
        """
        ...
