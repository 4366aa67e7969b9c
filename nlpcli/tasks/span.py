"""Extractive question answering: the place of the answer to a question in a context, if there is one.

    p(start = i) = softmax_i(u h_i)      p(end = j) = softmax_j(v h_j)

over the tokens of the context and the token that represents the whole, at which both point where there is no answer;
the answer i … j is the one with the greatest u h_i + v h_j, i <= j. Sources: Devlin et al. 2019, sections 4.2 and 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.data.squad import read_questions
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.span_windows import SpanBatch, SpanItem, WindowReader
from nlpcli.tasks.task import Context, Prediction, SampleData, Stored, Task
from nlpcli.tasks.text_batches import pair_line, token_head

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score

_N_BEST = 20


class SpanExtraction(Task[SpanItem, SpanBatch, np.ndarray]):
    """See the module.

    A context that is too long is read in windows, see `WindowReader`; a window without the answer is one without an
    answer. Only the first 64 tokens of a question are read. The first of several reference answers is learned.
    no_answer: whether "no answer" may be predicted: where the probability of it beside the best answer,
    σ(null - best) with the least `null` of all windows, is above `threshold`. max_answer: in tokens.
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
        self.reader = WindowReader(context, stride)

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        stride: int = 128,
        max_answer: int = 30,
        no_answer: bool | None = None,
        threshold: float = 0.5,
        **head: Any,
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
        settings = token_head(context, 2, **head)
        return cls(
            context, head=settings, no_answer=no_answer, stride=stride, max_answer=max_answer, threshold=threshold
        )

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
        """Nothing: whatever the reference answers are, a prediction is compared with their texts."""

    def parse(self, line: str) -> Example:
        """Question and context, which a tab divides. Raises: NlpcliError without a tab."""
        if "\t" not in line:
            raise NlpcliError(
                f"'{line[:40]}' has no context", hint="write the question, a tab and the context in one line"
            )
        return pair_line(line)

    def encode(self, examples: Sequence[Example]) -> list[list[SpanItem]]:
        return self.reader.encode(examples)

    def collate(self, items: Sequence[SpanItem]) -> SpanBatch:
        return self.reader.collate(items)

    def loss(self, model: nn.Module, batch: SpanBatch) -> Loss:
        """The mean of the losses of start and end, for each window."""
        assert batch.targets is not None, "examples without labels have no loss"
        logits = self._logits(model, batch).masked_fill(~batch.possible[..., None], -torch.inf)
        # (rows, n, 2) and (rows, 2): start and end are two problems with the same classes
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="sum") / 2
        return Loss(losses, losses.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: SpanBatch) -> list[np.ndarray]:
        """(1 + k, 2) for each window: the logits of start and end, of "no answer" first and then of each token."""
        logits = self._logits(model, batch).cpu().numpy()
        return [
            row[np.concatenate([[item.null], item.positions])] for row, item in zip(logits, batch.items, strict=True)
        ]

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
    """The best spans i … j of at most `longest` tokens by logits[i, 0] + logits[j, 1].

    logits: (k, 2). Returns: at most `count` of (score, i, j), the best first.
    """
    size = len(logits)
    longest = min(longest, size)
    scores = np.full((longest, size), -np.inf)  # (further tokens, first)
    for more in range(longest):
        scores[more, : size - more] = logits[: size - more, 0] + logits[more:, 1]
    flat = scores.ravel()
    count = min(count, int(np.isfinite(flat).sum()))
    if count == 0:
        return []
    chosen = np.argpartition(-flat, count - 1)[:count]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    return [(float(flat[i]), int(i % size), int(i % size + i // size)) for i in chosen]


def _check(example: Example) -> None:
    """Raises: NlpcliError for an answer that the context does not contain at its start."""
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
