"""The worst mistakes: examples the model was most sure of and wrong about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.tasks.choice import Choice
    from nlpcli.tasks.classification import Classification
    from nlpcli.tasks.multi_label import MultiLabel
    from nlpcli.tasks.regression import Regression
    from nlpcli.tasks.similarity import Similarity
    from nlpcli.tasks.span import SpanExtraction
    from nlpcli.tasks.tagging import Tagging
    from nlpcli.tasks.task import Task
    from nlpcli.tasks.text_to_text import TextToText


@dataclass(frozen=True)
class Mistake:
    """One example: how bad it is (greater is worse), in the unit of the task, and what was expected and predicted."""

    place: str
    badness: float
    expected: str
    predicted: str
    text: str


def mistakes(
    task: Task, examples: Sequence[Example], predictions: Sequence[Mapping[str, Any]], count: int
) -> list[Mistake]:
    """The `count` worst of a task's predictions, the worst first; right ones are none."""
    badness = _BADNESS[task.name]
    found = []
    for example, prediction in zip(examples, predictions, strict=True):
        bad, expected, predicted = badness(task, example, prediction)
        if bad > 0:
            text = (" " if task.name == "tag" else "\t").join(example.texts)
            found.append(Mistake(example.place, bad, expected, predicted, text))
    return sorted(found, key=lambda mistake: -mistake.badness)[:count]


def _label(task: Classification, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """1 - the probability of the right label."""
    right = prediction["probabilities"].get(example.label, 0.0)
    bad = 0.0 if prediction["label"] == example.label else 1.0 - right
    return bad, str(example.label), prediction["label"]


def _set(task: MultiLabel, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """The greatest distance of a label's probability from 0 or 1, among labels on the wrong side."""
    gold, said = set(task.labels_in(example)), set(prediction["labels"])
    bad = max(
        (abs((label in gold) - prediction["probabilities"].get(label, 0.0)) for label in gold ^ said), default=0.0
    )
    return bad, ",".join(sorted(gold)), ",".join(prediction["labels"])


def _number(task: Regression | Similarity, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """The distance of the scores."""
    gold = task.score_in(example)
    return abs(gold - prediction["score"]), f"{gold:g}", f"{prediction['score']:.4f}"


def _tags(task: Tagging, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """The number of wrong tags."""
    gold = task.tags_in(example)
    wrong = [i for i, (true, said) in enumerate(zip(gold, prediction["tags"], strict=True)) if true != said]

    def shown(tags: Sequence[str]) -> str:
        return " ".join(f"{example.texts[i]}/{tags[i]}" for i in wrong)

    return float(len(wrong)), shown(gold), shown(prediction["tags"])


def _answer(task: SpanExtraction, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """1 - F1 of the words."""
    from nlpcli.evaluation.squad_metrics import answer_f1

    gold = [answer.text for answer in example.label]
    bad = 1.0 - answer_f1([gold], [prediction["answer"]]).value / 100
    return bad, " | ".join(gold), prediction["answer"]


def _choice(task: Choice, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """1 - the probability of the right candidate."""
    right, said = task.choice_in(example), prediction["choice"]
    if right is None:
        return 1.0, str(example.label), said
    probability = prediction["probabilities"][prediction["candidates"].index(right)]
    return 0.0 if said == right else 1.0 - probability, right, said


def _text(task: TextToText, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
    """1 - ROUGE-L of the text."""
    from nlpcli.evaluation.rouge import rouge
    from nlpcli.tasks.text_to_text import references

    right = references(example)
    score = max(rouge([prediction["text"]], [[reference]], "rougeL").value for reference in right)
    return 1.0 - score / 100, " | ".join(right), prediction["text"]


_BADNESS: dict[str, Callable[..., tuple[float, str, str]]] = {
    "classify": _label,
    "multi-label": _set,
    "regress": _number,
    "similarity": _number,
    "tag": _tags,
    "span": _answer,
    "choice": _choice,
    "text-to-text": _text,
}
