"""Similarity: every text has a vector, and texts are compared by the cosine of their vectors (SBERT).

u and v are the pooled states of two texts, each read by itself. Objectives (Reimers and Gurevych 2019, section 3; the
last one Henderson et al. 2017, section 4.4):

    cosine               (cos(u, v) - y)²                                   y: the score, brought from its range to 0..1
    softmax              -log softmax(W [u; v; |u - v|] + b)_c              c: the label; with `product` also u * v
    contrastive          ½ [y d² + (1 - y) max(0, margin - d)²]             d = 1 - cos(u, v), y: 1 for alike, 0 for not
    multiple-negatives   -log softmax_j(scale · cos(u_i, v_j))_i            v_j: the second texts of the whole batch

For the last one an example may have more texts, which are not like the first: they are among the v_j of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from nlpcli.data.examples import Columns, Example, read_choices, read_texts
from nlpcli.data.label_text import one_field
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.similarity_labels import Comparison, check_texts, number_in
from nlpcli.tasks.similarity_losses import contrastive_losses, first_and_second, ranking_losses
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, SampleData, Stored, Task, unknown_label
from nlpcli.tasks.text_batches import RowsBatch, RowsItem, TextReader, side

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.models.heads import VectorHead
    from nlpcli.models.model_with_head import WithHead

MEASURES = {
    "scores": ("spearman", "pearson"),
    "labels": ("accuracy", "macro_f1"),
    "two": ("average_precision", "spearman"),
    "pairs": ("mrr",),
}
"""By the labels of the dev set: scores, names, labels for similar and dissimilar, or none."""


class Compared(Prediction):
    """A prediction that remembers the vectors of its texts, (texts, width), for measures over several examples."""

    vectors: Tensor


class Similarity(Task[RowsItem, RowsBatch, tuple[Tensor, Tensor | None]]):
    """See the module."""

    name: ClassVar[str] = "similarity"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS | {"choices"}
    answer: ClassVar[str] = "score"
    mixes: ClassVar[bool] = False
    use: ClassVar[str] = "nlpcli embed --model {run} FILE"
    ranks: bool = True  # whether it was trained with labels; set on the instance
    options: ClassVar[frozenset[str]] = frozenset(
        {"pooling", "layers", "product", "objective", "minimum", "maximum", "margin", "scale"}
    )
    possible_measures: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(name for names in MEASURES.values() for name in names)
    )
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/paraphrases/train.tsv.gz",), dev=("labelled/paraphrases/dev.tsv",)
    )

    def __init__(self, context: Context, comparison: Comparison, *, head: Mapping[str, Any]) -> None:
        self.context = context
        self.comparison = comparison
        self.objective = comparison.objective
        self.labels = list(comparison.labels)
        self.ranks = self.objective == "softmax"
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._head = dict(head)
        self.reader = TextReader(context)

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        pooling: str = "auto",
        layers: str = "last",
        product: bool = False,
        **comparison: Any,
    ) -> Similarity:
        """product: see `VectorHead`. comparison: the arguments of `Comparison.for_examples`."""
        compared = Comparison.for_examples(examples, **comparison)
        if pooling == "auto":
            pooling = context.info.get("pooling") or context.model.text_pooling or "mean"
        head = {"kind": "vector", "pooling": pooling, **side(context, layers, "encoder")}
        if compared.objective == "softmax":
            head |= {"classes": len(compared.labels), **({"product": True} if product else {})}
        return cls(context, compared, head=head)

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Similarity:
        return cls(context, Comparison(**description), head={})

    def describe(self) -> dict[str, Any]:
        return {**vars(self.comparison), "labels": self.labels}

    def head(self) -> dict[str, Any]:
        return self._head

    @property
    def measures(self) -> tuple[str, ...]:
        """For a dev set with labels as in the training data."""
        kinds = {"cosine": "scores", "softmax": "labels", "contrastive": "two", "multiple-negatives": "pairs"}
        return MEASURES[kinds[self.objective]]

    def measures_on(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return MEASURES[self.judged(examples)]

    def judged(self, examples: Sequence[Example]) -> str:
        """The kind of metrics for examples, a key of `MEASURES`; it may differ from the kind of the training labels."""
        labels = {example.label for example in examples}
        if None in labels:
            return "pairs"
        if self.labels and labels <= self._index.keys():
            return "labels" if self.objective == "softmax" else "two"
        if self.objective == "softmax" and any(number_in(label) is None for label in labels):
            return "labels"
        return "scores"

    def score_in(self, example: Example) -> float:
        """The similarity of the texts, from 0 to 1 if the task has a range; without a label, they are similar.

        Raises: NlpcliError for a label that is neither known nor a number.
        """
        if self.objective == "contrastive" and example.label in self._index:
            return float(self._index[example.label])
        if example.label is None:
            return 1.0
        score = number_in(example.label)
        if score is None:
            raise NlpcliError(f"{example.place}: the score '{example.label}' is not a number")
        least, greatest = self.comparison.minimum, self.comparison.maximum
        return (score - least) / (greatest - least)

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        """Labels are read where there are any; columns.choices: of texts that follow the first (the second is like it),
        unless text2 names the second.

        Raises: NlpcliError with file and line.
        """
        if columns.choices and columns.text2 is None:
            return read_choices(path, columns, labelled=False)
        return read_texts(path, columns, texts=2, labelled=labelled and columns.label is not None)

    def check(self, example: Example) -> None:
        """Names are checked against those learned; numbers are taken whatever was learned: cosines rank like scores."""
        check_texts(example)
        if example.label is None or example.label in self._index or number_in(example.label) is not None:
            return
        if not self.labels:
            raise NlpcliError(f"{example.place}: the score '{example.label}' is not a number")
        error = unknown_label(str(example.label), self.labels, place=example.place)
        raise error if self.objective == "softmax" else NlpcliError(error.message, hint=error.hint)

    def parse(self, line: str) -> Example:
        texts = tuple(line.split("\t"))
        if len(texts) < 2:
            raise NlpcliError("the second text is missing", hint="separate the two texts of a line by a tab")
        return Example(texts)

    def encode(self, examples: Sequence[Example]) -> list[list[RowsItem]]:
        for example in examples:
            check_texts(example)
        rows = iter(self.reader.rows([replace(e, texts=(text,)) for e in examples for text in e.texts]))
        return [[RowsItem(tuple(next(rows)[0] for _ in example.texts), self._target(example))] for example in examples]

    def _target(self, example: Example) -> float | int | None:
        if self.objective in ("softmax", "contrastive"):
            return self._index.get(example.label)
        return self.score_in(example) if self.objective == "cosine" and example.label is not None else None

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        """targets: of each item; for multiple-negatives a number for each row, the same for rows of the same text."""
        if self.objective == "multiple-negatives":
            numbers: dict[tuple[int, ...], int] = {}
            texts = [numbers.setdefault(tuple(row.ids), len(numbers)) for item in items for row in item.rows]
            return self.reader.collate(items, torch.tensor(texts))
        targets = [item.target for item in items]
        return self.reader.collate(items, None if None in targets else torch.tensor(targets))

    @property
    def divisible(self) -> bool:
        return self.objective != "multiple-negatives"  # which compares each example with all of the batch

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        """The loss of a batch; it has no examples if the dev set is not labeled as the training data."""
        if batch.targets is None:
            nothing = torch.zeros((), device=batch.rows.ids.device)
            return Loss(nothing, nothing, 0)
        vectors = model(batch.rows).float()
        if self.objective == "multiple-negatives":
            losses = ranking_losses(vectors, batch.counts, batch.targets, self.comparison.scale)
        else:
            u, v = first_and_second(vectors, batch.counts)
            if self.objective == "softmax":
                losses = cross_entropy(_vector_head(model).compare(u, v).float(), batch.targets, reduction="none")
            elif self.objective == "cosine":
                losses = (cosine_similarity(u, v) - batch.targets) ** 2
            else:
                losses = contrastive_losses(u, v, batch.targets, self.comparison.margin)
        return Loss(losses.sum(), losses.detach().sum(), batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[tuple[Tensor, Tensor | None]]:
        """The vectors (texts, width) of each item, and for softmax the labels' probabilities."""
        vectors = model(batch.rows).float()
        parts = vectors.cpu().split(batch.counts)
        if self.objective != "softmax":
            return [(part, None) for part in parts]
        probabilities = (
            _vector_head(model).compare(*first_and_second(vectors, batch.counts)).float().softmax(dim=-1).cpu()
        )
        return list(zip(parts, probabilities, strict=True))

    def prediction(
        self, example: Example, items: Sequence[RowsItem], outputs: Sequence[tuple[Tensor, Tensor | None]]
    ) -> Prediction:
        vectors, probabilities = outputs[0]
        cosines = cosine_similarity(vectors[:1], vectors[1:]).tolist()
        found = Compared(score=cosines[0])
        if len(cosines) > 1:
            found["scores"] = cosines
        if probabilities is not None:
            ranked = sorted(zip(probabilities.tolist(), self.labels, strict=True), key=lambda pair: -pair[0])
            found |= {"label": ranked[0][1], "probabilities": {label: chance for chance, label in ranked}}
        found.vectors = vectors
        return found

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        fields = [f"{score:.4f}" for score in prediction.get("scores", [prediction["score"]])]
        for label, chance in list(prediction.get("probabilities", {}).items())[: top or 1]:
            fields += [one_field(label), f"{chance:.4f}"]
        return "\t".join(fields)

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.similarity_metrics import similarity_scores

        return similarity_scores(self, examples, predictions, resampling)

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        from nlpcli.evaluation.similarity_metrics import ranks

        judged = self.judged(examples)
        if judged == "labels":
            stored: Stored = {"accuracy": ("accuracy", {}), "macro_f1": ("f1", {"average": "macro"})}
            return list(zip(*self.compared_labels(examples, predictions), strict=True)), stored
        if judged == "pairs":
            return [(1, rank) for rank in ranks(examples, predictions)], {"mrr": ("reciprocal-rank", {})}
        pairs = [
            (self.score_in(example), prediction["score"])
            for example, prediction in zip(examples, predictions, strict=True)
        ]
        if judged == "two":
            return pairs, {"average_precision": ("average-precision", {}), "spearman": ("spearman", {})}
        return pairs, {"spearman": ("spearman", {}), "pearson": ("pearson", {})}

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        if "label" in prediction:
            return str(example.label), prediction["label"]
        reference = "" if example.label is None else f"{self.score_in(example):g}"
        return reference, f"{prediction['score']:.3f}"

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """The distance of the scores."""
        reference = self.score_in(example)
        return abs(reference - prediction["score"]), f"{reference:g}", f"{prediction['score']:.4f}"

    def compared_labels(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[str], list[str]]:
        return [example.label for example in examples], [prediction["label"] for prediction in predictions]


def _vector_head(model: nn.Module) -> VectorHead:
    """The head that the task's settings give a model."""
    return cast("VectorHead", cast("WithHead", model).head)
