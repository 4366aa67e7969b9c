"""Extractive question answering: where in a context the answer to a question stands, if it does.

    p(start = i) = softmax_i(u h_i)      p(end = j) = softmax_j(v h_j)

over the pieces of the context and the token that stands for the whole, at which both point where there is no answer;
the answer i … j is the one with the greatest u h_i + v h_j, i <= j. Sources: Devlin et al. 2019, sections 4.2 and 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.data.squad import read_questions
from nlpcli.errors import NlpcliError
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.input_layout import Layout
from nlpcli.tasks.task import Context, Prediction, SampleData, Stored, Task
from nlpcli.tasks.text_batches import pair_line, prediction, side

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score

_LONGEST_QUESTION = 64  # tokens (Devlin et al. 2019, the code released with it)
_N_BEST = 20
_AT_ONCE = 512  # contexts cut into pieces in one go


@dataclass(frozen=True)
class SpanItem:
    """A question with a window of its context.

    places (k,): of the context's pieces in the row, those that are white space left out; spans (k, 2): the characters
    of each; null: the place that means "no answer here"; goal: first and last place of the answer, or None.
    """

    row: Row
    places: np.ndarray
    spans: np.ndarray
    null: int
    goal: tuple[int, int] | None

    @property
    def size(self) -> int:
        return len(self.row.ids)


@dataclass
class SpanBatch:
    """possible (rows, n): whether an answer may begin and end there; goal (rows, 2) or None; items: what was put in."""

    rows: Rows
    possible: Tensor
    goal: Tensor | None
    items: list[SpanItem]
    tokens: int

    @property
    def count(self) -> int:
        return len(self.items)

    def to(self, device: torch.device) -> SpanBatch:
        goal = None if self.goal is None else self.goal.to(device, non_blocking=True)
        possible = self.possible.to(device, non_blocking=True)
        return replace(self, rows=self.rows.to(device), possible=possible, goal=goal)


@dataclass(frozen=True)
class _Context:
    """ids of all pieces; of those that are not white space: the index among all, and the characters."""

    ids: list[int]
    index: np.ndarray
    spans: np.ndarray


class SpanExtraction(Task[SpanItem, SpanBatch, np.ndarray]):
    """See the module.

    A context that is too long is read in windows, of which neighbours share `stride` tokens (but at most half of what
    fits); a window without the answer is one without an answer. Only the first 64 tokens of a question are read. The
    first of several right answers is learnt.
    no_answer: whether "no answer" may be predicted: where the probability of it beside the best answer,
    σ(null - best) with the least `null` of all windows, is above `threshold`. max_answer: in pieces.
    """

    name: ClassVar[str] = "span"
    columns: ClassVar[frozenset[str]] = frozenset({"text", "text2"})
    answer: ClassVar[str] = "answer"
    ranks: bool = True
    options: ClassVar[frozenset[str]] = frozenset(
        {"dropout", "layers", "stride", "max_answer", "no_answer", "threshold"}
    )
    possible_measures: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    json_format: ClassVar[str] = "squad"
    training_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"data": {"max_length": 384}}
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/find-translation/train.json.gz",), dev=("labelled/find-translation/dev.json",)
    )

    def __init__(
        self,
        context: Context,
        *,
        head: Mapping[str, Any],
        no_answer: bool,
        stride: int = 128,
        max_answer: int = 30,
        threshold: float = 0.5,
    ) -> None:
        self.context = context
        self.no_answer = no_answer
        self.stride = stride
        self.max_answer = max_answer
        self.threshold = threshold
        self._head = dict(head)
        self._layout = Layout.of(context.model, context.tokenizer.special, context.info)
        self._room = self._layout.room(2, context.max_length)
        self._segments = context.model.segment_count > 1

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        dropout: float = 0.1,
        layers: str = "last",
        stride: int = 128,
        max_answer: int = 30,
        no_answer: bool | None = None,
        threshold: float = 0.5,
    ) -> SpanExtraction:
        for example in examples:
            if example.label is None:
                raise NlpcliError(f"{example.place}: the answers are missing")
            _check(example)
        if not any(example.label for example in examples):
            where = f"{examples[0].place}: " if examples else ""
            raise NlpcliError(f"{where}none of the training questions has an answer")
        if no_answer is None:
            no_answer = any(example.label == () for example in examples)
        head = {"kind": "tokens", "outputs": 2, "dropout": dropout} | prediction(context) | side(context, layers)
        return cls(
            context, head=head, no_answer=no_answer, stride=stride, max_answer=max_answer, threshold=threshold
        )  # fmt: skip

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> SpanExtraction:
        return cls(context, head={}, **description)

    def describe(self) -> dict[str, Any]:
        return {
            "no_answer": self.no_answer,
            "stride": self.stride,
            "max_answer": self.max_answer,
            "threshold": self.threshold,
        }

    def head(self) -> dict[str, Any]:
        return self._head

    @staticmethod
    def read(
        path: str,
        columns: Columns,
        *,
        labelled: bool = True,
        spans: bool = True,
        on_bad: Callable[[NlpcliError], None] | None = None,
    ) -> Iterator[Example]:
        """Questions as `read_questions` reads them; without answers, from columns too."""
        if columns.format in ("tsv", "csv") and not labelled:
            return read_texts(path, columns, texts=2, labelled=False)
        if columns.format in ("tsv", "csv"):
            raise NlpcliError(
                f"{path}: training needs the start of each answer, which TSV and CSV files do not contain",
                hint="write questions and answers as JSON in SQuAD's format, or as JSON lines",
            )
        return read_questions(path, labelled=labelled, spans=spans, on_bad=on_bad, blank_lines=columns.blank_lines)

    @classmethod
    def read_training(cls, path: str, columns: Columns, on_bad: Callable[[NlpcliError], None]) -> Iterator[Example]:
        """Questions whose answers are not in their contexts are left out."""
        return cls.read(path, columns, on_bad=on_bad)

    @classmethod
    def read_dev(cls, path: str, columns: Columns) -> Iterator[Example]:
        """All questions: only the texts of their answers count."""
        return cls.read(path, columns, spans=False)

    def check(self, example: Example) -> None:
        """Nothing: whatever the right answers are, a prediction is compared with their texts."""

    def parse(self, line: str) -> Example:
        """Question and context, which a tab divides. Raises: NlpcliError without a tab."""
        if "\t" not in line:
            raise NlpcliError(
                f"'{line[:40]}' has no context", hint="write the question, a tab and the context in one line"
            )
        return pair_line(line)

    def encode(self, examples: Sequence[Example]) -> list[list[SpanItem]]:
        contexts = self._contexts({example.texts[1]: None for example in examples})
        questions = self.context.tokenizer.encode([example.texts[0] for example in examples])
        longest = min(_LONGEST_QUESTION, self._room // 2)
        for example, question in zip(examples, questions, strict=True):
            self.context.tell_cut(example, longest, len(question))
        return [
            self._items(example, question[:longest], contexts[example.texts[1]])
            for example, question in zip(examples, questions, strict=True)
        ]

    def _contexts(self, texts: Mapping[str, None]) -> dict[str, _Context]:
        found = {}
        different = list(texts)
        for start in range(0, len(different), _AT_ONCE):
            part = different[start : start + _AT_ONCE]
            for text, ids, spans in zip(part, *self.context.tokenizer.encode_with_offsets(part), strict=True):
                where = np.array(spans, dtype=np.int32).reshape(-1, 2)
                index = np.flatnonzero(where[:, 0] < where[:, 1])
                found[text] = _Context(ids, index, where[index])
        return found

    def _items(self, example: Example, question: list[int], context: _Context) -> list[SpanItem]:
        room = self._room - len(question)
        step = room - min(self.stride, room // 2)
        answer = None if example.label is None else _pieces_of(example.label, context.spans)
        items = []
        start = 0
        while True:
            end = min(start + room, len(context.ids))
            row = self._layout.row(question, context.ids[start:end])
            begin = self._layout.first() + len(question) + len(self._layout.between)
            null = 0 if self._layout.summary == "first" else len(row.ids) - 1
            first, last = np.searchsorted(context.index, (start, end)).tolist()
            places = (context.index[first:last] - start + begin).astype(np.int32)
            goal = None
            if answer is not None:
                inside = first <= answer[0] <= answer[1] < last
                goal = (int(places[answer[0] - first]), int(places[answer[1] - first])) if inside else (null, null)
            row = Row(np.array(row.ids, dtype=np.int32), np.array(row.segments, dtype=np.int8))
            items.append(SpanItem(row, places, context.spans[first:last], null, goal))
            if end == len(context.ids):
                return items
            start += step

    def collate(self, items: Sequence[SpanItem]) -> SpanBatch:
        rows = stack([item.row for item in items], self.context.tokenizer.special.pad, segments=self._segments)
        possible = np.zeros(rows.ids.shape, dtype=bool)
        for number, item in enumerate(items):
            possible[number, item.places] = True
            possible[number, item.null] = True
        goals = [item.goal for item in items]
        goal = None if None in goals else torch.tensor(goals)
        return SpanBatch(rows, torch.from_numpy(possible), goal, list(items), sum(item.size for item in items))

    def loss(self, model: nn.Module, batch: SpanBatch) -> Loss:
        """The mean of the losses of start and end, for each window."""
        assert batch.goal is not None, "examples without labels have no loss"
        logits = self._logits(model, batch).masked_fill(~batch.possible[..., None], -torch.inf)
        # (rows, n, 2) and (rows, 2): start and end are two problems with the same classes
        losses = nn.functional.cross_entropy(logits, batch.goal, reduction="sum") / 2
        return Loss(losses, losses.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: SpanBatch) -> list[np.ndarray]:
        """(1 + k, 2) for each window: the logits of start and end, of "no answer" first and then of each piece."""
        logits = self._logits(model, batch).cpu().numpy()
        return [row[np.concatenate([[item.null], item.places])] for row, item in zip(logits, batch.items, strict=True)]

    @staticmethod
    def _logits(model: nn.Module, batch: SpanBatch) -> Tensor:
        return model(batch.rows).float()

    def prediction(self, example: Example, items: Sequence[SpanItem], outputs: Sequence[np.ndarray]) -> Prediction:
        """answer, and its characters in the context (None without an answer); nbest: the best 20 with probabilities
        that sum to 1, together with that of no answer where there may be none.

        score: u h_i + v h_j, less the same of "no answer" where there may be none.
        """
        best: dict[tuple[int, int], float] = {}
        for item, logits in zip(items, outputs, strict=True):
            for score, first, last in best_spans(logits[1:], self.max_answer, _N_BEST):
                span = int(item.spans[first, 0]), int(item.spans[last, 1])
                best[span] = max(score, best.get(span, -math.inf))
        ranked = sorted(best.items(), key=lambda found: -found[1])[:_N_BEST]
        null = min(float(logits[0].sum()) for logits in outputs)
        weighed = [score for _, score in ranked] + ([null] if self.no_answer else [])
        total = _log_sum(weighed)
        nbest = [
            {"answer": example.texts[1][a:b], "start": a, "end": b, "probability": math.exp(score - total)}
            for (a, b), score in ranked
        ]
        found: Prediction = {"answer": "", "start": None, "end": None, "score": None, "probability": 0.0}
        if ranked:
            score = ranked[0][1] - (null if self.no_answer else 0.0)
            found = {**{key: nbest[0][key] for key in ("answer", "start", "end")}, "score": score}
            found["probability"] = nbest[0]["probability"]
        if self.no_answer:
            none = _sigmoid(-found["score"]) if ranked else 1.0
            found["no_answer_probability"] = none
            if none > self.threshold:
                found |= {"answer": "", "start": None, "end": None, "probability": math.exp(null - total)}
        return found | {"nbest": nbest}

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """The answer, "" if there is none, on one line; with `top` so many answers with their probabilities."""
        if top is None:
            return " ".join(prediction["answer"].split())
        chosen = prediction["nbest"][:top]
        return "\t".join(f"{' '.join(one['answer'].split())}\t{one['probability']:.4f}" for one in chosen)

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.squad_metrics import answer_f1, exact_match

        references = [[answer.text for answer in example.label] for example in examples]
        predicted = [prediction["answer"] for prediction in predictions]
        return {
            "f1": answer_f1(references, predicted, resampling),
            "exact_match": exact_match(references, predicted, resampling),
        }

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        pairs = [
            ([answer.text for answer in example.label], prediction["answer"])
            for example, prediction in zip(examples, predictions, strict=True)
        ]
        return pairs, {"f1": ("answer-f1", {}), "exact_match": ("exact-match", {})}

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return " | ".join(dict.fromkeys(answer.text for answer in example.label)), prediction["answer"]

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """1 - F1 of the words."""
        from nlpcli.evaluation.squad_metrics import answer_f1

        references = [answer.text for answer in example.label]
        confidence = 1.0 - answer_f1([references], [prediction["answer"]]).value / 100
        return confidence, " | ".join(references), prediction["answer"]


def best_spans(logits: np.ndarray, longest: int, count: int) -> list[tuple[float, int, int]]:
    """The best spans i … j of at most `longest` pieces by logits[i, 0] + logits[j, 1].

    logits: (k, 2). Returns: at most `count` of (score, i, j), the best first.
    """
    size = len(logits)
    longest = min(longest, size)
    scores = np.full((longest, size), -np.inf)  # (further pieces, first)
    for more in range(longest):
        scores[more, : size - more] = logits[: size - more, 0] + logits[more:, 1]
    flat = scores.ravel()
    count = min(count, int(np.isfinite(flat).sum()))
    if count == 0:
        return []
    chosen = np.argpartition(-flat, count - 1)[:count]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    return [(float(flat[i]), int(i % size), int(i % size + i // size)) for i in chosen]


def _pieces_of(answers: Sequence[Any], spans: np.ndarray) -> tuple[int, int]:
    """The first and last piece that has characters of the first answer in the context; (-1, -1) without one."""
    answer = next((answer for answer in answers if answer.start is not None), None)
    if answer is None:
        return -1, -1
    start, end = answer.start, answer.start + len(answer.text)
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else (-1, -1)


def _check(example: Example) -> None:
    """Raises: NlpcliError for an answer that does not stand in the context where it says."""
    for answer in example.label or ():
        start = answer.start
        if not answer.text or start is None or example.texts[1][start : start + len(answer.text)] != answer.text:
            raise NlpcliError(
                f"{example.place}: the context does not contain the answer '{answer.text[:60]}' at character {start}"
                if start is not None
                else f"{example.place}: the start of the answer '{answer.text[:60]}' is missing"
            )


def _log_sum(scores: Sequence[float]) -> float:
    if not scores:
        return 0.0
    most = max(scores)
    return most + math.log(sum(math.exp(score - most) for score in scores))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
