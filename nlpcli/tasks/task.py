"""What a task is: from examples to what a model reads, and from what the model gives to predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import nn

from nlpcli.config.schema import ModelConfig
from nlpcli.data.examples import Columns, Example
from nlpcli.data.label_text import UnknownLabel
from nlpcli.errors import nearest
from nlpcli.objectives.objective import Batch, Loss
from nlpcli.text import Tokenizer

Prediction = dict[str, Any]
"""What is predicted of one example, as plain data."""


TEXT_COLUMNS = frozenset({"text", "text2", "label"})
"""The columns of a text or two with a label."""

OnCut = Callable[[Example, int, int], None]
"""Is told of an example whose text is cut: how many tokens are read, and how many it has."""


_SHOWN = 10


def unknown_label(label: str, labels: Sequence[str], *, place: str) -> UnknownLabel:
    """The error for a label that is not one of `labels`, those of the training examples. place: of the example."""
    near = nearest(label, labels)
    known = ", ".join(labels[:_SHOWN]) + (", …" if len(labels) > _SHOWN else "")
    return UnknownLabel(
        f"{place}: the model was not trained with the label '{label}'",
        hint=f"did you mean '{near}'?" if near else f"the labels of the model are {known}",
    )


@dataclass(frozen=True)
class Context:
    """What a task stands on.

    model: the body's configuration. info: what model.yaml, or the folder it was read from, says of it. max_length: the
    most tokens of a sequence, special ones included. on_cut: see `OnCut`.
    """

    tokenizer: Tokenizer
    model: ModelConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    max_length: int = 256
    on_cut: OnCut | None = None

    def tell_cut(self, example: Example, room: int, tokens: int) -> None:
        """Tells of an example of which `room` of `tokens` tokens are read, if these are fewer."""
        if tokens > room and self.on_cut is not None:
            self.on_cut(example, room, tokens)


class Item(Protocol):
    """What is read in one go of an example."""

    size: int  # tokens, padding not counted


class Task(Protocol):
    """A task with its labels: made out of training examples by `create`, or out of model.yaml by `restore`.

    options: the settings of the configuration's `head` that `create` takes. columns: those of the data that are read.
    answer: the key of a prediction that holds what is predicted. ranks: whether `line` gives as many answers as `top`
    says. kinds: of models it can stand on. measures:
    the names of its metrics, the deciding one first; `nlpcli.evaluation.task_metrics` computes them.
    """

    name: ClassVar[str]
    options: ClassVar[frozenset[str]]
    columns: ClassVar[frozenset[str]]
    answer: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    ranks: bool
    measures: tuple[str, ...]

    @classmethod
    def create(cls, examples: Sequence[Example], context: Context, **options: Any) -> Task:
        """Raises: NlpcliError, naming file and line, for examples that can't be learnt from."""
        ...

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Task: ...

    def describe(self) -> dict[str, Any]:
        """Plain data, from which `restore` makes the task again."""
        ...

    def head(self) -> dict[str, Any]:
        """The settings of `nlpcli.models.with_head.WithHead`; {} when the model has no head."""
        ...

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        """The examples in a file. Raises: NlpcliError with file and line."""
        ...

    def check(self, example: Example) -> None:
        """Raises: UnknownLabel, naming its place, for an example whose label the task doesn't know, and another
        NlpcliError for one that is no label of such a task at all."""
        ...

    def parse(self, line: str) -> Example:
        """An example without label out of a plain line."""
        ...

    def encode(self, examples: Sequence[Example]) -> list[list[Item]]:
        """The items of each example: one, or several where an example is read in pieces."""
        ...

    def collate(self, items: Sequence[Item]) -> Batch: ...

    def loss(self, model: nn.Module, batch: Batch) -> Loss: ...

    def outputs(self, model: nn.Module, batch: Batch) -> list[Any]:
        """What the model gives for each item of a batch, on the CPU."""
        ...

    def prediction(self, example: Example, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """What the outputs for an example's items say of it."""
        ...

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """A prediction as a plain line of tab-separated fields; with `top` so many answers and their probabilities."""
        ...
