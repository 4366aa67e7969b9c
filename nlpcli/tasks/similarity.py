"""Similarity: every text has a vector, and texts are compared by the cosine of their vectors (SBERT).

u and v are the pooled states of two texts, each read by itself. Objectives (Reimers and Gurevych 2019, section 3; the
last one Henderson et al. 2017, section 4.4):

    cosine               (cos(u, v) - y)²                                   y: the score, brought from its range to 0..1
    softmax              -log softmax(W [u; v; |u - v|] + b)_c              c: the label
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
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from nlpcli.config.numbers import parse_float
from nlpcli.data.examples import Columns, Example, read_choices, read_texts
from nlpcli.data.label_text import one_field
from nlpcli.errors import NlpcliError, unknown
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, SampleData, Stored, Task, unknown_label
from nlpcli.tasks.text_batches import RowsBatch, RowsItem, TextReader, side

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.models.heads import VectorHead
    from nlpcli.models.with_head import WithHead

OBJECTIVES = ("cosine", "softmax", "contrastive", "multiple-negatives")
MARGIN, SCALE = 0.5, 20.0
MEASURES = {
    "scores": ("spearman", "pearson"),
    "labels": ("accuracy", "macro_f1"),
    "two": ("average_precision", "spearman"),
    "pairs": ("mrr",),
}
"""By what stands beside held-out texts: scores, names, two labels of which one means alike, or nothing."""

_ALIKE = {"1", "yes", "true", "positive", "similar", "same", "duplicate", "paraphrase", "equivalent", "entailment"}


class Compared(Prediction):
    """A prediction that remembers the vectors of its texts, (texts, width), for measures over several examples."""

    vectors: Tensor


class Similarity(Task[RowsItem, RowsBatch, tuple[Tensor, Tensor | None]]):
    """See the module. labels: all of `softmax`, or (not alike, alike). minimum, maximum: of the scores."""

    name: ClassVar[str] = "similarity"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS | {"choices"}
    answer: ClassVar[str] = "score"
    mixes: ClassVar[bool] = False
    use: ClassVar[str] = "nlpcli embed --model {run} FILE"
    ranks: bool = True  # where labels were learned, which an instance knows
    options: ClassVar[frozenset[str]] = frozenset(
        {"pooling", "layers", "objective", "minimum", "maximum", "margin", "scale"}
    )
    possible_measures: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(name for names in MEASURES.values() for name in names)
    )
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/paraphrases/train.tsv.gz",), dev=("labelled/paraphrases/dev.tsv",)
    )

    def __init__(
        self,
        context: Context,
        objective: str,
        *,
        head: Mapping[str, Any],
        labels: Sequence[str] = (),
        minimum: float = 0.0,
        maximum: float = 1.0,
        margin: float = MARGIN,
        scale: float = SCALE,
    ) -> None:
        self.context = context
        self.objective = objective
        self.labels = list(labels)
        self.ranks = objective == "softmax"
        self._index = {label: index for index, label in enumerate(self.labels)}
        self.minimum, self.maximum = minimum, maximum
        self.margin, self.scale = margin, scale
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
        objective: str = "auto",
        minimum: float | None = None,
        maximum: float | None = None,
        margin: float = MARGIN,
        scale: float = SCALE,
    ) -> Similarity:
        for example in examples:
            _check_texts(example)
        chosen = _objective(examples) if objective == "auto" else objective
        if chosen not in OBJECTIVES:
            raise unknown("objective of similarity", chosen, OBJECTIVES)
        labels: list[str] = []
        least, greatest = 0.0, 1.0
        if chosen == "cosine":
            least, greatest = _range(examples, minimum, maximum)
        elif chosen == "softmax":
            labels = _names(examples)
        elif chosen == "contrastive":
            labels = _two(examples)
        else:
            _without_labels(examples)
        if pooling == "auto":
            pooling = context.info.get("pooling") or "mean"
        head = {"kind": "vector", "pooling": pooling, **side(context, layers, "encoder")}
        if labels and chosen == "softmax":
            head["classes"] = len(labels)
        return cls(
            context, chosen, head=head, labels=labels, minimum=least, maximum=greatest, margin=margin, scale=scale
        )

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Similarity:
        return cls(context, head={}, **description)

    def describe(self) -> dict[str, Any]:
        names = ("objective", "labels", "minimum", "maximum", "margin", "scale")
        return {name: getattr(self, name) for name in names}

    def head(self) -> dict[str, Any]:
        return self._head

    @property
    def measures(self) -> tuple[str, ...]:
        """For held-out data labelled as the training data was."""
        kinds = {"cosine": "scores", "softmax": "labels", "contrastive": "two", "multiple-negatives": "pairs"}
        return MEASURES[kinds[self.objective]]

    def measures_on(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return MEASURES[self.judged(examples)]

    def judged(self, examples: Sequence[Example]) -> str:
        """What examples can be measured by, a key of `MEASURES`: it need not be what was learnt from."""
        labels = {example.label for example in examples}
        if None in labels:
            return "pairs"
        if self.labels and labels <= self._index.keys():
            return "labels" if self.objective == "softmax" else "two"
        if self.objective == "softmax" and any(_number(label) is None for label in labels):
            return "labels"
        return "scores"

    def score_in(self, example: Example) -> float:
        """How alike the texts are, from 0 to 1 where the task knows the range; without label they belong together.

        Raises: NlpcliError for a label that is neither known nor a number.
        """
        if self.objective == "contrastive" and example.label in self._index:
            return float(self._index[example.label])
        if example.label is None:
            return 1.0
        score = _number(example.label)
        if score is None:
            raise NlpcliError(f"{example.place}: the score '{example.label}' is not a number")
        return (score - self.minimum) / (self.maximum - self.minimum)

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
        """Names are checked against those learnt; numbers are taken whatever was learnt: cosines rank like scores."""
        _check_texts(example)
        if example.label is None or example.label in self._index or _number(example.label) is not None:
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
            _check_texts(example)
        rows = iter(self.reader.rows([replace(e, texts=(text,)) for e in examples for text in e.texts]))
        return [[RowsItem(tuple(next(rows)[0] for _ in example.texts), self._goal(example))] for example in examples]

    def _goal(self, example: Example) -> float | int | None:
        if self.objective in ("softmax", "contrastive"):
            return self._index.get(example.label)
        return self.score_in(example) if self.objective == "cosine" and example.label is not None else None

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        """goal: of each item; for multiple-negatives a number for each row, the same for rows of the same text."""
        if self.objective == "multiple-negatives":
            numbers: dict[tuple[int, ...], int] = {}
            texts = [numbers.setdefault(tuple(row.ids), len(numbers)) for item in items for row in item.rows]
            return self.reader.collate(items, torch.tensor(texts))
        goals = [item.goal for item in items]
        return self.reader.collate(items, None if None in goals else torch.tensor(goals))

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        """Of no examples where held-out data isn't labelled as the training data was."""
        if batch.goal is None:
            nothing = torch.zeros((), device=batch.rows.ids.device)
            return Loss(nothing, nothing, 0)
        vectors = model(batch.rows).float()
        if self.objective == "multiple-negatives":
            losses = ranking_losses(vectors, batch.counts, batch.goal, self.scale)
        else:
            u, v = _pairs(vectors, batch.counts)
            if self.objective == "softmax":
                losses = cross_entropy(_vector_head(model).compare(u, v).float(), batch.goal, reduction="none")
            elif self.objective == "cosine":
                losses = (cosine_similarity(u, v) - batch.goal) ** 2
            else:
                losses = contrastive_losses(u, v, batch.goal, self.margin)
        return Loss(losses.sum(), losses.detach().sum(), batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[tuple[Tensor, Tensor | None]]:
        """Of each item its vectors (texts, width), and for softmax the labels' probabilities."""
        vectors = model(batch.rows).float()
        parts = vectors.cpu().split(batch.counts)
        if self.objective != "softmax":
            return [(part, None) for part in parts]
        probabilities = _vector_head(model).compare(*_pairs(vectors, batch.counts)).float().softmax(dim=-1).cpu()
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


# --- losses ------------------------------------------------------------------------------------------------------


def contrastive_losses(u: Tensor, v: Tensor, alike: Tensor, margin: float) -> Tensor:
    """½ [y d² + (1 - y) max(0, margin - d)²], d = 1 - cos(u, v): (n, width) twice and y (n,) -> (n,).

    Source: Hadsell et al. 2006, eq. 4, with the cosine distance.
    """
    distance = 1 - cosine_similarity(u, v)
    y = alike.to(distance.dtype)
    return 0.5 * (y * distance**2 + (1 - y) * (margin - distance).clamp(min=0) ** 2)


def ranking_losses(vectors: Tensor, counts: Sequence[int], texts: Tensor, scale: float) -> Tensor:
    """-log softmax_j(scale · cos(u_i, v_j))_i over all texts v_j of the batch that are no first texts.

    vectors (rows, width): the texts of all examples, `counts` of each, the first u_i and the second v_i, which belong
    together, and then any that don't belong to u_i. texts (rows,): the same number for the same text. What would be a
    negative by mistake is left out: a text that is u_i or v_i, and what belongs to an equal first text. -> (examples,)

    Source: Henderson et al. 2017, section 4.4.
    """
    firsts = torch.tensor(counts, device=vectors.device).cumsum(0) - torch.tensor(counts, device=vectors.device)
    is_first = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    is_first[firsts] = True
    owner = is_first.cumsum(0) - 1  # (rows,) which example a row is of
    candidates = (~is_first).nonzero()[:, 0]
    goal = firsts - torch.arange(len(firsts), device=vectors.device)  # the place of v_i among the candidates
    unit = normalize(vectors, dim=-1)
    logits = scale * unit[firsts] @ unit[candidates].T
    found, anchors = texts[candidates], texts[firsts]
    belongs = torch.zeros_like(found, dtype=torch.bool)
    belongs[goal] = True
    same = (found == found[goal][:, None]) | (found == anchors[:, None])
    same |= belongs & (anchors[owner[candidates]] == anchors[:, None])
    same[torch.arange(len(goal)), goal] = False
    return cross_entropy(logits.masked_fill(same, -torch.inf), goal, reduction="none")


def _pairs(vectors: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The vectors of the first and of the second text of each example."""
    if all(count == 2 for count in counts):
        return vectors[::2], vectors[1::2]
    parts = vectors.split(list(counts))
    return torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])


# --- labels ------------------------------------------------------------------------------------------------------


_ALL_POSITIVE = "set head.objective=multiple-negatives if the texts of every pair belong together"


def _check_texts(example: Example) -> None:
    if len(example.texts) < 2:
        raise NlpcliError(f"{example.place}: the second text is missing", hint="name its column with --text2")


def _number(label: object) -> float | None:
    return parse_float(label) if isinstance(label, str) else None


def _vector_head(model: nn.Module) -> VectorHead:
    """The head that the task's settings give a model."""
    return cast("VectorHead", cast("WithHead", model).head)


def _objective(examples: Sequence[Example]) -> str:
    """What the labels are good for."""
    labels = {example.label for example in examples}
    if labels == {None}:
        return "multiple-negatives"
    numbers = {_number(label) for label in labels}
    if None in numbers:
        return "contrastive" if len(labels) == 2 and _alike(labels) else "softmax"
    return "cosine" if len(numbers) > 2 else "contrastive"


def _alike(labels: set[Any]) -> list[str]:
    """The labels that say that two texts are alike; the greater one of two numbers."""
    numbers = {_number(label): label for label in labels}
    known = [number for number in numbers if number is not None]
    if len(known) == len(numbers) == 2:
        return [numbers[max(known)]]
    found = [label for label in labels if isinstance(label, str) and label.lower() in _ALIKE]
    return found if len(found) == 1 else []


def _range(examples: Sequence[Example], minimum: float | None, maximum: float | None) -> tuple[float, float]:
    scores = []
    for example in examples:
        score = _number(example.label)
        if score is None:
            what = "is missing" if example.label is None else f"'{example.label}' is not a number"
            raise NlpcliError(f"{example.place}: the score {what}", hint="name the column of the scores with --label")
        if (minimum is not None and score < minimum) or (maximum is not None and score > maximum):
            raise NlpcliError(
                f"{example.place}: the score {example.label} is outside the range of head.minimum and head.maximum"
            )
        scores.append(score)
    least = min(scores) if minimum is None else minimum
    greatest = max(scores) if maximum is None else maximum
    if least >= greatest:
        raise NlpcliError(
            f"{examples[0].place}: all training examples have the same score {examples[0].label}",
            hint=_ALL_POSITIVE,
        )
    return least, greatest


def _labelled(examples: Sequence[Example]) -> dict[str, Example]:
    """Each label with an example that has it."""
    found: dict[str, Example] = {}
    for example in examples:
        if example.label is None or example.label == "":
            raise NlpcliError(f"{example.place}: the label is missing")
        found.setdefault(str(example.label), example)
    return found


def _names(examples: Sequence[Example]) -> list[str]:
    found = _labelled(examples)
    if len(found) < 2:
        raise NlpcliError(
            f"{examples[0].place}: all training examples have the same label '{examples[0].label}'",
            hint=_ALL_POSITIVE,
        )
    return sorted(found)


def _two(examples: Sequence[Example]) -> list[str]:
    found = _labelled(examples)
    if len(found) == 1:
        raise NlpcliError(
            f"{examples[0].place}: the objective contrastive needs two labels, "
            f"but all training examples have the label '{examples[0].label}'",
            hint=_ALL_POSITIVE,
        )
    alike = _alike(set(found))
    if len(found) > 2 or not alike:
        third = list(found.values())[min(2, len(found) - 1)]
        raise NlpcliError(
            f"{third.place}: the objective contrastive needs the labels 1 (similar) and 0 (not similar), "
            f"not '{third.label}'",
            hint="set head.objective=softmax for other labels, or head.objective=cosine for scores",
        )
    return [next(label for label in found if label != alike[0]), alike[0]]


def _without_labels(examples: Sequence[Example]) -> None:
    """Raises: NlpcliError for labels, which would tell pairs that belong together from others."""
    first = examples[0]
    other = next((example for example in examples if example.label != first.label), None)
    if other is not None:
        raise NlpcliError(
            f"{other.place}: the objective multiple-negatives needs pairs that all have the same label, "
            f"but this one has '{other.label}' and the first one '{first.label}'",
            hint="leave out the pairs that do not belong together, or choose another head.objective",
        )
