"""Classification: one of several labels for a text or a pair of texts.

p(c | x) = softmax(W h)_c, trained by cross-entropy (Devlin et al. 2019, section 4.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.data.label_text import one_field
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, SampleData, Stored, Task, unknown_label
from nlpcli.tasks.text_batches import (
    HEAD_OPTIONS,
    RowsBatch,
    RowsItem,
    TextReader,
    labels_of,
    pair_line,
    summed,
    text_head,
)

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.models.model_with_head import WithHead
    from nlpcli.models.transformer import Decoder


class Classification(Task[RowsItem, RowsBatch, torch.Tensor]):
    """See the module. class_weights: of each class in the loss, of mean 1 over the training examples, or None."""

    name: ClassVar[str] = "classify"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS
    answer: ClassVar[str] = "label"
    ranks: bool = True
    options: ClassVar[frozenset[str]] = frozenset(
        {*HEAD_OPTIONS, "class_weights", "truncate", "both_orders", "lm_weight"}
    )
    possible_measures: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "f1", "mcc")
    has_confusion: ClassVar[bool] = True
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/sentence-type/train.tsv.gz",), dev=("labelled/sentence-type/dev.tsv",)
    )

    def __init__(
        self,
        context: Context,
        labels: Sequence[str],
        *,
        head: Mapping[str, Any],
        truncate: str = "longest",
        both_orders: bool = False,
        class_weights: Sequence[float] | None = None,
        lm_weight: float = 0.0,
    ) -> None:
        self.context = context
        self.labels = list(labels)
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._head = dict(head)
        self.reader = TextReader(context, truncate=truncate, both_orders=both_orders)
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)
        self.lm_weight = lm_weight

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        class_weights: str = "none",
        truncate: str = "longest",
        both_orders: bool = False,
        lm_weight: float = 0.0,
        **head: Any,
    ) -> Classification:
        labels = labels_of(examples, "classify")
        if lm_weight and context.model.kind != "decoder":
            raise NlpcliError(
                f"head.lm_weight needs a decoder, but this is an {context.model.kind}",
                hint="leave out head.lm_weight, or choose a decoder with --model",
            )
        settings = text_head(context, len(labels), **head)
        weights = None
        if class_weights == "balanced":
            counts = Counter(example.label for example in examples)
            weights = [len(examples) / (len(labels) * counts[label]) for label in labels]
        return cls(
            context, labels, head=settings, truncate=truncate, both_orders=both_orders, class_weights=weights,
            lm_weight=lm_weight,
        )  # fmt: skip

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Classification:
        return cls(context, head={}, **description)

    def describe(self) -> dict[str, Any]:
        return {"labels": self.labels, "truncate": self.reader.truncate, "both_orders": self.reader.both_orders}

    def head(self) -> dict[str, Any]:
        return self._head

    @property
    def measures(self) -> tuple[str, ...]:
        return ("accuracy", "macro_f1", *["f1"] * (len(self.labels) == 2), "mcc")

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        return read_texts(path, columns, labelled=labelled)

    def check(self, example: Example) -> None:
        if example.label not in self._index:
            raise unknown_label(str(example.label), self.labels, place=example.place)

    def parse(self, line: str) -> Example:
        return pair_line(line)

    def encode(self, examples: Sequence[Example]) -> list[list[RowsItem]]:
        rows = self.reader.rows(examples)
        return [[RowsItem(row, self._index.get(example.label))] for example, row in zip(examples, rows, strict=True)]

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        targets = [item.target for item in items]
        return self.reader.collate(items, None if None in targets else torch.tensor(targets))

    @property
    def divisible(self) -> bool:
        return not self.lm_weight  # the language model's loss is a mean over the batch

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        assert batch.targets is not None, "examples without labels have no loss"
        headed = cast("WithHead", model)  # `head` gives it one
        states = headed.states(batch.rows)
        logits = summed(headed.head(states, batch.rows), batch.counts).float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        nll = losses.detach().sum()
        total = (losses if weights is None else losses * weights[batch.targets]).sum()
        if self.lm_weight and model.training:
            total = total + self.lm_weight * _language_model_loss(cast("Decoder", headed.body), states, batch)
        return Loss(total, nll, batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[torch.Tensor]:
        return list(summed(model(batch.rows), batch.counts).float().softmax(dim=-1).cpu())

    def prediction(self, example: Example, items: Sequence[RowsItem], outputs: Sequence[torch.Tensor]) -> Prediction:
        probabilities = outputs[0].tolist()
        ranked = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
        return {
            "label": self.labels[ranked[0]],
            "probability": probabilities[ranked[0]],
            "probabilities": {self.labels[i]: probabilities[i] for i in ranked},
        }

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        chosen = list(prediction["probabilities"].items())[: top or 1]
        return "\t".join(f"{one_field(label)}\t{probability:.4f}" for label, probability in chosen)

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.classification_metrics import accuracy, f1, matthews

        references, predicted = self.compared_labels(examples, predictions)
        scores = {"accuracy": accuracy(references, predicted, resampling)}
        scores["macro_f1"] = f1(references, predicted, average="macro", resampling=resampling)
        if len(self.labels) == 2:
            options = _binary_f1(self.labels[1], references, predicted)
            scores["f1"] = f1(references, predicted, **options, resampling=resampling)
        scores["mcc"] = matthews(references, predicted, resampling)
        return scores

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        references, predicted = self.compared_labels(examples, predictions)
        stored: Stored = {"accuracy": ("accuracy", {}), "macro_f1": ("f1", {"average": "macro"}), "mcc": ("mcc", {})}
        if len(self.labels) == 2:
            stored["f1"] = ("f1", _binary_f1(self.labels[1], references, predicted))
        return list(zip(references, predicted, strict=True)), stored

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return str(example.label), prediction["label"]

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """1 - the probability of the reference label."""
        wrong = prediction["label"] != example.label
        confidence = 1.0 - prediction["probabilities"].get(example.label, 0.0) if wrong else 0.0
        return confidence, str(example.label), prediction["label"]

    def compared_labels(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[str], list[str]]:
        return [example.label for example in examples], [prediction["label"] for prediction in predictions]


def _binary_f1(positive: str, references: Sequence[str], predicted: Sequence[str]) -> dict[str, Any]:
    """The settings of F1 of one label; it is 0 where the label neither occurs nor is predicted."""
    if positive in references or positive in predicted:
        return {"average": "binary", "positive": positive}
    return {"average": "macro", "labels": [positive]}


def _language_model_loss(body: Decoder, states: torch.Tensor, batch: RowsBatch) -> torch.Tensor:
    """The language model's mean loss for each row, summed: Radford et al. 2018, eq. 5."""
    ids, ends = batch.rows.ids, batch.rows.ends
    inner = torch.arange(ids.size(1) - 1, device=ids.device) < ends[:, None]
    logits = body.logits(states[:, :-1][inner]).float()
    losses = nn.functional.cross_entropy(logits, ids[:, 1:][inner], reduction="sum")
    return losses / inner.sum() * batch.count
