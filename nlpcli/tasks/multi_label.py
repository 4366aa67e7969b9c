"""Multi-label classification: any number of labels for a text or a pair of texts.

p(c | x) = σ(W h)_c for each label by itself, trained by binary cross-entropy; predicted are the labels whose
probability reaches a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.data.label_text import clean_label, join_labels, one_field, split_labels
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, Stored, Task, unknown_label
from nlpcli.tasks.text_batches import HEAD_OPTIONS, RowsBatch, RowsItem, TextReader, pair_line, summed, text_head

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score


class MultiLabel(Task[RowsItem, RowsBatch, torch.Tensor]):
    """See the module. separator: between labels in the data, where they are not a list; weights: of a label's presence
    in the loss, absences over presences in the training examples, or None."""

    name: ClassVar[str] = "multi-label"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS
    answer: ClassVar[str] = "labels"
    ranks: bool = True
    options: ClassVar[frozenset[str]] = frozenset(
        {*HEAD_OPTIONS, "class_weights", "truncate", "threshold", "label_separator"}
    )
    possible_measures: ClassVar[tuple[str, ...]] = ("macro_f1", "micro_f1", "accuracy")

    def __init__(
        self,
        context: Context,
        labels: Sequence[str],
        *,
        head: Mapping[str, Any],
        truncate: str = "longest",
        threshold: float = 0.5,
        separator: str = ",",
        weights: Sequence[float] | None = None,
    ) -> None:
        self.labels = list(labels)
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._head = dict(head)
        self.reader = TextReader(context, truncate=truncate)
        self.threshold = threshold
        self.separator = separator
        self.weights = None if weights is None else torch.tensor(weights)

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        class_weights: str = "none",
        truncate: str = "longest",
        threshold: float = 0.5,
        label_separator: str = ",",
        **head: Any,
    ) -> MultiLabel:
        sets = [_labels(example, label_separator) for example in examples]
        labels = sorted({label for found in sets for label in found})
        if not labels:
            raise NlpcliError(
                f"{examples[0].place}: none of the training examples has a label",
                hint="name the column of the labels with --label",
            )
        weights = None
        if class_weights == "balanced":
            counts = {label: sum(label in found for found in sets) for label in labels}
            weights = [(len(sets) - counts[label]) / counts[label] for label in labels]
        settings = text_head(context, len(labels), **head)
        return cls(
            context, labels, head=settings, truncate=truncate, threshold=threshold, separator=label_separator,
            weights=weights,
        )  # fmt: skip

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> MultiLabel:
        return cls(context, head={}, **description)

    def describe(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "truncate": self.reader.truncate,
            "threshold": self.threshold,
            "separator": self.separator,
        }

    def head(self) -> dict[str, Any]:
        return self._head

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        return read_texts(path, columns, labelled=labelled, names=False)  # a separator may be anything

    def check(self, example: Example) -> None:
        for label in self.labels_in(example):
            if label not in self._index:
                raise unknown_label(label, self.labels, place=example.place)

    def labels_in(self, example: Example) -> list[str]:
        """The labels an example has in the data."""
        return list(_labels(example, self.separator))

    def parse(self, line: str) -> Example:
        return pair_line(line)

    def encode(self, examples: Sequence[Example]) -> list[list[RowsItem]]:
        rows = self.reader.rows(examples)
        return [[RowsItem(row, self._target(example))] for example, row in zip(examples, rows, strict=True)]

    def _target(self, example: Example) -> list[float] | None:
        if example.label is None:
            return None
        found = self.labels_in(example)
        return [float(label in found) for label in self.labels]

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        targets = [item.target for item in items]
        return self.reader.collate(items, None if None in targets else torch.tensor(targets))

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        assert batch.targets is not None, "examples without labels have no loss"
        logits = summed(model(batch.rows), batch.counts).float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        entropy = nn.functional.binary_cross_entropy_with_logits
        total = entropy(logits, batch.targets, pos_weight=weights, reduction="none").mean(dim=-1).sum()
        nll = total if weights is None else entropy(logits, batch.targets, reduction="none").mean(dim=-1).sum()
        return Loss(total, nll.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[torch.Tensor]:
        return list(summed(model(batch.rows), batch.counts).float().sigmoid().cpu())

    def prediction(self, example: Example, items: Sequence[RowsItem], outputs: Sequence[torch.Tensor]) -> Prediction:
        probabilities = dict(zip(self.labels, outputs[0].tolist(), strict=True))
        return {
            "labels": [label for label, probability in probabilities.items() if probability >= self.threshold],
            "probabilities": dict(sorted(probabilities.items(), key=lambda pair: -pair[1])),
        }

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """The labels as `join_labels` writes them; with `top` so many labels with their probabilities."""
        if top is None:
            return join_labels(prediction["labels"], self.separator)
        chosen = list(prediction["probabilities"].items())[:top]
        return "\t".join(f"{one_field(label)}\t{probability:.4f}" for label, probability in chosen)

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.classification_metrics import multilabel_f1, subset_accuracy

        references = [self.labels_in(example) for example in examples]
        predicted = [prediction["labels"] for prediction in predictions]
        labels = self._all_labels(references)
        scores = {
            f"{average}_f1": multilabel_f1(references, predicted, labels=labels, average=average, resampling=resampling)
            for average in ("macro", "micro")
        }
        return scores | {"accuracy": subset_accuracy(references, predicted, resampling)}

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        references = [self.labels_in(example) for example in examples]
        pairs = [
            (sorted(labels), sorted(prediction["labels"]))
            for labels, prediction in zip(references, predictions, strict=True)
        ]
        options = {"labels": self._all_labels(references)}
        stored: Stored = {f"{name}_f1": ("label-sets-f1", {"average": name, **options}) for name in ("macro", "micro")}
        return pairs, {**stored, "accuracy": ("label-sets-accuracy", {})}

    def _all_labels(self, references: Sequence[Sequence[str]]) -> list[str]:
        """The labels of the task, followed by those that only the data has."""
        return [*self.labels, *sorted({label for labels in references for label in labels} - set(self.labels))]

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return ", ".join(self.labels_in(example)), ", ".join(prediction["labels"])

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """The greatest distance of a label's probability from 0 or 1, among labels on the wrong side."""
        references, predicted = set(self.labels_in(example)), set(prediction["labels"])
        probabilities = prediction["probabilities"]
        distances = (abs((label in references) - probabilities.get(label, 0.0)) for label in references ^ predicted)
        return max(distances, default=0.0), ",".join(sorted(references)), ",".join(prediction["labels"])


def _labels(example: Example, separator: str) -> tuple[str, ...]:
    if example.label is None:
        raise NlpcliError(f"{example.place}: the labels are missing")
    return tuple(clean_label(label, example.place) for label in split_labels(example.label, separator))
