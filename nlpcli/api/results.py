"""The results of the functions: immutable plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted
from nlpcli.evaluation.minimal_pair_accuracy import MinimalPairScores
from nlpcli.evaluation.score import Score

__all__ = [
    "Confusion",
    "Continuation",
    "Evaluation",
    "MinimalPairScores",
    "Mistake",
    "Prediction",
    "Progress",
    "Run",
    "Score",
    "Translation",
]

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Progress:
    """The progress of a training after some steps and after each evaluation.

    share: of the run that is done, 0 to 1. loss: in nats a token or example, lr: the learning rate, speed: in tokens
    per second; these three are None after an evaluation. metrics: on the dev set, None after steps; improved: whether
    they are the best so far.
    """

    step: int
    epoch: int
    share: float
    loss: float | None = None
    lr: float | None = None
    speed: float | None = None
    metrics: Mapping[str, float] | None = None
    improved: bool = False


@dataclass(frozen=True)
class Run:
    """A training that ended. It can stand for its folder: `load(run)`, `open(run / ...)` by `run.path`.

    path: the run's folder, which holds the model. best_checkpoint: whose weights the model has, such as `step 200`.
    stopped: why the training stopped. seconds: of training. metrics: on the dev set, of the best checkpoint; best: the
    best value of each metric in the run.
    """

    path: Path
    best_checkpoint: str
    stopped: str
    steps: int
    tokens: int
    seconds: float
    metrics: Mapping[str, float]
    best: Mapping[str, float]

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Translation:
    """A translation of `source`. score: what the search ranks by; logprob: in nats.

    alignment: pairs (source word, target word), counted from 0, None unless requested. others: the further ones of the
    n best, best first. finished: False when the length limit cut it.
    """

    source: str
    text: str
    score: float
    logprob: float
    finished: bool = True
    alignment: tuple[tuple[int, int], ...] | None = None
    others: tuple[Translation, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Continuation:
    """A language model's continuation of `prompt`; `text` is the continuation alone.

    tokens: their number, the end not counted; logprob: in nats, the end counted; finished: False when the limit cut it.
    prompt_number, sample: which prompt and which of its continuations this is, counted from 0.
    """

    prompt: str
    text: str
    tokens: int
    logprob: float
    finished: bool
    prompt_number: int
    sample: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Prediction:
    """A fine-tuned model's prediction for one text.

    answer: by the model's task a label (classify, choice), labels (multi-label), a score (regress, similarity), a tag
    for each word (tag) or a text (span, text-to-text); None for a blank text. `label`, `labels`, `score`, `tags` and
    `text` give it with its type. probability: of the answer, 0 to 1, where the task has one. details: all that is
    predicted, with the keys of `nlpcli predict --json`.
    """

    answer: str | float | tuple[str, ...] | None
    probability: float | None
    details: Mapping[str, Any] = field(repr=False)

    @property
    def label(self) -> str:
        """The label. Raises: NlpcliError where the answer is something else."""
        return self._named("label", str)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels. Raises: NlpcliError where the answer is something else."""
        return self._named("labels", tuple)

    @property
    def score(self) -> float:
        """The score. Raises: NlpcliError where the answer is something else."""
        return self._named("score", float)

    @property
    def tags(self) -> tuple[str, ...]:
        """A tag for each word. Raises: NlpcliError where the answer is something else."""
        return self._named("tags", tuple)

    @property
    def text(self) -> str:
        """The answer of a span model, or what was written. Raises: NlpcliError where the answer is something else."""
        return self._named("answer" if "answer" in self.details else "prediction", str)

    def _named(self, key: str, kind: type[_Kind]) -> _Kind:
        answer = self.answer
        if key not in self.details or not isinstance(answer, kind):
            raise NlpcliError(f"this prediction has no {key}; its answer is {quoted(self.answer)}", hint="use .answer")
        return answer


@dataclass(frozen=True)
class Confusion:
    """How often the label of a row was taken for that of a column; both are in the order of `labels`."""

    labels: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction. place: file and line. error: a larger number is worse; its unit depends on the task."""

    place: str
    error: float
    expected: str
    predicted: str
    text: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on labelled examples, by metric. confusion and worst: None unless requested."""

    model: Path
    examples: int
    scores: Mapping[str, Score]
    confusion: Confusion | None = None
    worst: tuple[Mistake, ...] = ()
