"""Metrics of generated texts, and how to compute them again from stored outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.evaluation import Metric, Resampling, Score

MEASURES = {
    "rouge": ("rougeL", "rouge1", "rouge2"),
    "bleu": ("bleu",),
    "accuracy": ("accuracy",),
    "exact-match": ("exact_match",),
}
"""Choices of the user -> names of the metrics; the first one selects the model."""


def generated_text_scores(
    measure: str, outputs: list[str], references: Sequence[Sequence[str]], resampling: Resampling | None = None
) -> dict[str, Score]:
    """The scores of `measure`, a key of `MEASURES`, of outputs with one or several references each."""
    compute = {"rouge": _rouge, "bleu": _bleu, "accuracy": _same_text, "exact-match": _same_answer}
    return compute[measure](outputs, references, resampling)


def stored_measures(measure: str, references: Sequence[Sequence[str]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The metrics of `generated_text_scores` by name: those of `nlpcli score` or `nlpcli report`, and their options."""
    settings: dict[str, Any] = dict(_rouge_settings(references)) if measure == "rouge" else {}
    names = {"accuracy": "same-text", "exact_match": "exact-match"}
    return {name: (names.get(name, name.lower()), settings) for name in MEASURES[measure]}


def _rouge(outputs: list[str], references: Sequence[Sequence[str]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.rouge import Rouge1, Rouge2, RougeL
    from nlpcli.evaluation.score import reference_sets

    settings = _rouge_settings(references)
    kinds: dict[str, Callable[..., Metric]] = {"rougeL": RougeL, "rouge1": Rouge1, "rouge2": Rouge2}
    sets = reference_sets(references)
    return {name: kind(**settings).corpus(outputs, sets, resampling) for name, kind in kinds.items()}


def _rouge_settings(references: Sequence[Sequence[str]]) -> dict[str, str]:
    letters = [letter for texts in references for letter in texts[0] if letter.isalpha()]
    latin = 2 * sum(map(str.isascii, letters)) >= len(letters)
    return {"rouge_stemmer": "porter", "rouge_tokenize": "ascii" if latin else "unicode"}


def _bleu(outputs: list[str], references: Sequence[Sequence[str]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.bleu import Bleu
    from nlpcli.evaluation.score import reference_sets

    return {"bleu": Bleu().corpus(outputs, reference_sets(references), resampling)}


def _same_text(
    outputs: list[str], references: Sequence[Sequence[str]], resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.classification_metrics import accuracy

    nearest = [text if text in texts else texts[0] for text, texts in zip(outputs, references, strict=True)]
    return {"accuracy": accuracy(nearest, outputs, resampling)}


def _same_answer(
    outputs: list[str], references: Sequence[Sequence[str]], resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.squad_metrics import exact_match

    return {"exact_match": exact_match(references, outputs, resampling)}
