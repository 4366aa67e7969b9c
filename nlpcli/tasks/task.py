"""The base class of tasks: from examples to model inputs, and from model outputs to predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from torch import nn

from nlpcli.config.model_settings import ModelConfig
from nlpcli.data.examples import Columns, Example
from nlpcli.data.label_text import UnknownLabel
from nlpcli.errors import NlpcliError, nearest
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.objective import Batch, Loss
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score

Prediction = dict[str, Any]
"""The prediction for one example, as plain data."""


TEXT_COLUMNS = frozenset({"text", "text2", "label"})
"""The columns of a text or two with a label."""

Stored = dict[str, tuple[str, dict[str, Any]]]
"""By the name of a task's metric: the metric of `nlpcli.evaluation` or of `nlpcli report`, and its options."""

OnCut = Callable[[Example, int, int], None]
"""Called for an example whose text is cut: how many tokens are read, and how many it has."""


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
    """The inputs with which a task encodes examples and computes losses.

    model: the body's configuration. info: the contents of model.yaml, or of the folder it was read from. max_length:
    the most tokens of a sequence, special ones included. on_cut: see `OnCut`. loss_settings: of a loss over the
    vocabulary.
    """

    tokenizer: Tokenizer
    model: ModelConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    max_length: int = 256
    on_cut: OnCut | None = None
    loss_settings: LossSettings = CROSS_ENTROPY

    def report_cut(self, example: Example, room: int, tokens: int) -> None:
        """Calls `on_cut` if only the first `room` of an example's `tokens` tokens are read."""
        if tokens > room and self.on_cut is not None:
            self.on_cut(example, room, tokens)


class Item(Protocol):
    """A model input for an example."""

    @property
    def size(self) -> int:
        """In tokens, padding not counted."""
        ...


@dataclass(frozen=True)
class SampleData:
    """Files of the sample data that come with the program, under `nlpcli/sample_data/`."""

    train: tuple[str, ...]
    dev: tuple[str, ...]


class TrainingDefaults:
    """The default training settings and data of a task.

    default_preset: the model. sample_preset: the model where the sample data is trained on, which is small; None: the
    default preset. training_defaults: settings of a run, laid over those of all tasks
    (`nlpcli.runs.finetuning.finetune.DEFAULTS`). sample_data: None where the program brings none. parallel_text:
    whether two files of lines are read, sources and targets, instead of labeled examples. generates: whether the answer
    is a text that the model writes, instead of the output of a head. mixes: whether it
    can be trained together with other tasks. use: a command that uses a trained model.
    """

    default_preset: ClassVar[str] = "bert-nano"
    sample_preset: ClassVar[str | None] = None
    training_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sample_data: ClassVar[SampleData | None] = None
    parallel_text: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    use: ClassVar[str] = "nlpcli predict --model {run} FILE"


ItemT = TypeVar("ItemT", bound=Item)
BatchT = TypeVar("BatchT", bound=Batch)
OutputT = TypeVar("OutputT")


class Task(TrainingDefaults, ABC, Generic[ItemT, BatchT, OutputT]):
    """A task with its labels: made out of training examples by `create`, or out of model.yaml by `restore`.

    The class has all that training, `predict`, `evaluate` and the model card need of a task:

    options: the settings of the configuration's `head` that `create` takes. columns: those of the data that are read.
    json_format: the format of a file that ends in .json. by_words: whether an example is a list of words instead of a
    text or two. answer: the key of a prediction that holds what is predicted. ranks: whether `line` gives as many
    answers as `top`. kinds: of models that the task can use. has_confusion: whether `compared_labels` gives a
    confusion matrix.
    possible_measures: the names of all metrics, whatever the labels turn out to be, the deciding one first.
    """

    name: ClassVar[str]
    options: ClassVar[frozenset[str]]
    columns: ClassVar[frozenset[str]]
    answer: ClassVar[str]
    possible_measures: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "encoder-decoder")
    mixes: ClassVar[bool] = True
    json_format: ClassVar[str] = "jsonl"
    by_words: ClassVar[bool] = False
    has_confusion: ClassVar[bool] = False
    ranks: bool = False
    generator: Any = None  # what writes the outputs, where the task generates
    labels: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def divisible(self) -> bool:
        """Whether the loss of a batch is the sum of the losses of its examples."""
        return True

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the metrics on data labeled as the training data was, the deciding one first."""
        return self.possible_measures

    def measures_on(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The names of the metrics on these examples, the deciding one first."""
        return self.measures

    @classmethod
    @abstractmethod
    def create(cls, examples: Sequence[Example], context: Context, *args: Any, **options: Any) -> Task[Any, Any, Any]:
        """Raises: NlpcliError, naming file and line, for examples that can't be used for training."""
        ...

    @classmethod
    @abstractmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Task[Any, Any, Any]: ...

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain data, from which `restore` makes the task again."""
        ...

    def head(self) -> dict[str, Any]:
        """The settings of `nlpcli.models.model_with_head.WithHead`; {} when the model has no head."""
        return {}

    @staticmethod
    @abstractmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        """The examples in a file. Raises: NlpcliError with file and line."""
        ...

    @classmethod
    def read_training(cls, path: str, columns: Columns, on_bad: Callable[[NlpcliError], None]) -> Iterator[Example]:
        """The examples to train on in a file; `on_bad` is called with the error of each that is left out."""
        return cls.read(path, columns)

    @classmethod
    def read_dev(cls, path: str, columns: Columns) -> Iterator[Example]:
        """The labeled examples of a dev or test file."""
        return cls.read(path, columns)

    @classmethod
    def vocabulary_texts(cls, example: Example) -> Sequence[str]:
        """The texts of an example that a tokenizer for the task is trained on."""
        return example.texts

    @classmethod
    def text_of(cls, example: Example) -> str:
        """An example as one line of a file."""
        return (" " if cls.by_words else "\t").join(example.texts)

    @abstractmethod
    def check(self, example: Example) -> None:
        """Raises: UnknownLabel, naming its place, for an example with an unknown label, and another
        NlpcliError for a label that is invalid for such a task."""
        ...

    @abstractmethod
    def parse(self, line: str) -> Example:
        """An example without label out of a plain line."""
        ...

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[list[ItemT]]:
        """The items of each example: one, or several where an example is read in windows."""
        ...

    @abstractmethod
    def collate(self, items: Sequence[ItemT]) -> BatchT: ...

    @abstractmethod
    def loss(self, model: nn.Module, batch: BatchT) -> Loss: ...

    @abstractmethod
    def outputs(self, model: nn.Module, batch: BatchT) -> list[OutputT]:
        """The model's output for each item of a batch, on the CPU."""
        ...

    @abstractmethod
    def prediction(self, example: Example, items: Sequence[ItemT], outputs: Sequence[OutputT]) -> Prediction:
        """The prediction for an example from the outputs for its items."""
        ...

    @abstractmethod
    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """A prediction as a plain line of tab-separated fields; with `top` so many answers and their probabilities."""
        ...

    # --- what predictions are worth, and how people see them ---------------------------------------------------------

    @abstractmethod
    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        """The scores of predictions by the names of `measures_on`. resampling: for intervals."""
        ...

    @abstractmethod
    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        """The reference and the output of each example as JSON, and how to compute the scores from them again."""
        ...

    @abstractmethod
    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        """The reference and the output of an example as texts for a reader."""
        ...

    @abstractmethod
    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """How confident the model is in a wrong answer (0 for a right one), the reference and the output as texts."""
        ...

    def compared_labels(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[str], list[str]]:
        """The reference labels and the predicted labels, one by one.

        Raises: NlpcliError where a prediction is not a label.
        """
        raise NlpcliError(
            f"the task {self.name} does not predict labels",
            hint="leave out options that compare labels, such as --confusion",
        )
