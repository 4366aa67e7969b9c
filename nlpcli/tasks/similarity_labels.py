"""Labels of pairs of texts: scores, named labels, labels for similar and dissimilar, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nlpcli.config.number_parsing import parse_float
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError, unknown

OBJECTIVES = ("cosine", "softmax", "contrastive", "multiple-negatives")
MARGIN, SCALE = 0.5, 20.0

_ALIKE = {"1", "yes", "true", "positive", "similar", "same", "duplicate", "paraphrase", "equivalent", "entailment"}
_ALL_POSITIVE = "set head.objective=multiple-negatives if the texts of every pair belong together"


@dataclass(frozen=True)
class Comparison:
    """How two texts are compared: the objective, what the labels mean, and the constants of the losses.

    labels: all of `softmax`, or (not alike, alike). minimum, maximum: of the scores.
    """

    objective: str
    labels: Sequence[str] = ()
    minimum: float = 0.0
    maximum: float = 1.0
    margin: float = MARGIN
    scale: float = SCALE

    @classmethod
    def for_examples(
        cls,
        examples: Sequence[Example],
        objective: str = "auto",
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        margin: float = MARGIN,
        scale: float = SCALE,
    ) -> Comparison:
        """Raises: NlpcliError, naming file and line, for labels that don't fit the objective."""
        for example in examples:
            check_texts(example)
        chosen = _objective_for(examples) if objective == "auto" else objective
        if chosen not in OBJECTIVES:
            raise unknown("objective of similarity", chosen, OBJECTIVES)
        if chosen == "cosine":
            return cls(chosen, (), *_score_range(examples, minimum, maximum), margin, scale)
        labels: list[str] = []
        if chosen == "multiple-negatives":
            _without_labels(examples)
        else:
            labels = _label_names(examples) if chosen == "softmax" else _two_labels(examples)
        return cls(chosen, labels, margin=margin, scale=scale)


def check_texts(example: Example) -> None:
    """Raises: NlpcliError for an example with one text only."""
    if len(example.texts) < 2:
        raise NlpcliError(f"{example.place}: the second text is missing", hint="name its column with --text2")


def number_in(label: object) -> float | None:
    """The score that a label is, None where it is none."""
    return parse_float(label) if isinstance(label, str) else None


def _objective_for(examples: Sequence[Example]) -> str:
    """The objective that the labels fit."""
    labels = {example.label for example in examples}
    if labels == {None}:
        return "multiple-negatives"
    numbers = {number_in(label) for label in labels}
    if None in numbers:
        return "contrastive" if len(labels) == 2 and _alike(labels) else "softmax"
    return "cosine" if len(numbers) > 2 else "contrastive"


def _alike(labels: set[Any]) -> list[str]:
    """The labels for similar texts; the greater one of two numbers."""
    numbers = {number_in(label): label for label in labels}
    known = [number for number in numbers if number is not None]
    if len(known) == len(numbers) == 2:
        return [numbers[max(known)]]
    found = [label for label in labels if isinstance(label, str) and label.lower() in _ALIKE]
    return found if len(found) == 1 else []


def _score_range(examples: Sequence[Example], minimum: float | None, maximum: float | None) -> tuple[float, float]:
    scores = []
    for example in examples:
        score = number_in(example.label)
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


def _examples_by_label(examples: Sequence[Example]) -> dict[str, Example]:
    """Each label with an example that has it."""
    found: dict[str, Example] = {}
    for example in examples:
        if example.label is None or example.label == "":
            raise NlpcliError(f"{example.place}: the label is missing")
        found.setdefault(str(example.label), example)
    return found


def _label_names(examples: Sequence[Example]) -> list[str]:
    found = _examples_by_label(examples)
    if len(found) < 2:
        raise NlpcliError(
            f"{examples[0].place}: all training examples have the same label '{examples[0].label}'",
            hint=_ALL_POSITIVE,
        )
    return sorted(found)


def _two_labels(examples: Sequence[Example]) -> list[str]:
    found = _examples_by_label(examples)
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
    """Raises: NlpcliError for labels that differ: then some pairs do not belong together."""
    first = examples[0]
    other = next((example for example in examples if example.label != first.label), None)
    if other is not None:
        raise NlpcliError(
            f"{other.place}: the objective multiple-negatives needs pairs that all have the same label, "
            f"but this one has '{other.label}' and the first one '{first.label}'",
            hint="leave out the pairs that do not belong together, or choose another head.objective",
        )
