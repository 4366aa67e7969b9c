"""Regression: a score for a text or a pair of texts.

The data's range [a, b] is mapped onto [0, 1], where the model predicts ŷ; the loss is (ŷ - (y - a)/(b - a))². What is
predicted beyond the ends of the range is cut off. A model from elsewhere predicts scores as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nlpcli.config.number_parsing import parse_float
from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.data.label_text import UnknownLabel
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, SampleData, Stored, Task
from nlpcli.tasks.text_batches import HEAD_OPTIONS, RowsBatch, RowsItem, TextReader, pair_line, summed, text_head

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score


class OutOfRange(UnknownLabel):
    """A score outside of the range that a model predicts."""

    effect = "the model predicts no scores outside of it"


class Regression(Task[RowsItem, RowsBatch, float]):
    """See the module. low, high: the ends of the range, None where it is not known and nothing is mapped."""

    name: ClassVar[str] = "regress"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS
    answer: ClassVar[str] = "score"
    options: ClassVar[frozenset[str]] = frozenset({*HEAD_OPTIONS, "truncate", "both_orders", "minimum", "maximum"})
    possible_measures: ClassVar[tuple[str, ...]] = ("spearman", "pearson")
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/paraphrases/train.tsv.gz",), dev=("labelled/paraphrases/dev.tsv",)
    )

    def __init__(
        self,
        context: Context,
        low: float | None,
        high: float | None,
        *,
        head: Mapping[str, Any],
        truncate: str = "longest",
        both_orders: bool = False,
    ) -> None:
        self.low, self.high = low, high
        self._least, self._span = (0.0, 1.0) if low is None or high is None else (low, high - low)
        self._head = dict(head)
        self.reader = TextReader(context, truncate=truncate, both_orders=both_orders)

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        truncate: str = "longest",
        both_orders: bool = False,
        minimum: float | None = None,
        maximum: float | None = None,
        **head: Any,
    ) -> Regression:
        scores = [score_in(example) for example in examples]
        low = min(scores) if minimum is None else minimum
        high = max(scores) if maximum is None else maximum
        if low >= high:
            raise NlpcliError(
                f"{examples[0].place}: all training examples have the same score {low:g}"
                if minimum is None and maximum is None
                else f"head.minimum must be less than head.maximum, but they are {low:g} and {high:g}"
            )
        settings = text_head(context, 1, **head)
        task = cls(context, low, high, head=settings, truncate=truncate, both_orders=both_orders)
        for example in examples:
            task.check(example)
        return task

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Regression:
        return cls(context, head={}, **description)

    def describe(self) -> dict[str, Any]:
        reader = self.reader
        return {"low": self.low, "high": self.high, "truncate": reader.truncate, "both_orders": reader.both_orders}

    def head(self) -> dict[str, Any]:
        return self._head

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        return read_texts(path, columns, labelled=labelled)

    def check(self, example: Example) -> None:
        score = score_in(example)
        if self.low is not None and self.high is not None and not self.low <= score <= self.high:
            raise OutOfRange(
                f"{example.place}: the score {score:g} is outside the model's range from {self.low:g} to {self.high:g}",
                hint="set the range with head.minimum and head.maximum when you train",
            )

    def score_in(self, example: Example) -> float:
        """The score an example has in the data."""
        return score_in(example)

    def parse(self, line: str) -> Example:
        return pair_line(line)

    def encode(self, examples: Sequence[Example]) -> list[list[RowsItem]]:
        rows = self.reader.rows(examples)
        targets = [None if e.label is None else (score_in(e) - self._least) / self._span for e in examples]
        return [[RowsItem(row, target)] for row, target in zip(rows, targets, strict=True)]

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        targets = [item.target for item in items]
        return self.reader.collate(items, None if None in targets else torch.tensor(targets, dtype=torch.float32))

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        assert batch.targets is not None, "examples without labels have no loss"
        scores = summed(model(batch.rows), batch.counts).float().squeeze(-1)
        total = (scores - batch.targets).square().sum()
        return Loss(total, total.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[float]:
        return summed(model(batch.rows), batch.counts).float().squeeze(-1).tolist()

    def prediction(self, example: Example, items: Sequence[RowsItem], outputs: Sequence[float]) -> Prediction:
        share = outputs[0] if self.low is None else min(max(outputs[0], 0.0), 1.0)
        return {"score": self._least + share * self._span}

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        return f"{prediction['score']:.4f}"

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.correlation import pearson, spearman

        references = [self.score_in(example) for example in examples]
        predicted = [prediction["score"] for prediction in predictions]
        return {
            "spearman": spearman(references, predicted, resampling),
            "pearson": pearson(references, predicted, resampling),
        }

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        pairs = [
            (self.score_in(example), prediction["score"])
            for example, prediction in zip(examples, predictions, strict=True)
        ]
        return pairs, {"spearman": ("spearman", {}), "pearson": ("pearson", {})}

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        reference = "" if example.label is None else f"{self.score_in(example):g}"
        return reference, f"{prediction['score']:.3f}"

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """The distance of the scores."""
        reference = self.score_in(example)
        return abs(reference - prediction["score"]), f"{reference:g}", f"{prediction['score']:.4f}"


def score_in(example: Example) -> float:
    """The number that is an example's label. Raises: NlpcliError, naming its place, when it is none."""
    score = parse_float(example.label) if isinstance(example.label, str) else None
    if score is None:
        raise NlpcliError(
            f"{example.place}: the score '{example.label}' is not a number",
            hint="name the column of the scores with --label, or use --task classify if labels are names",
        )
    return score
