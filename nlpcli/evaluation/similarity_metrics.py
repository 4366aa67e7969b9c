"""Metrics of similarity models, which depend on the labels of the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.evaluation import Resampling, Score

_BLOCK = 1 << 24  # similarities in memory at once


class SimilarityTask(Protocol):
    """The methods of a task that these metrics use."""

    def judged(self, examples: Sequence[Example]) -> str:
        """The kind of labels of examples: scores, labels, alike, pairs, …"""
        ...

    def score_in(self, example: Example) -> float: ...


def similarity_scores(
    task: SimilarityTask,
    examples: Sequence[Example],
    predictions: Sequence[Any],  # mappings that also have `vectors`
    resampling: Resampling | None = None,
) -> dict[str, Score]:
    """Correlations with scores; average precision with two labels for similar and dissimilar; accuracy of named labels;
    without labels, the reciprocal rank of each example's second text among all texts that are not first texts.

    Raises: NlpcliError for a label that is neither known nor a number.
    """
    from nlpcli.evaluation.classification_metrics import accuracy, f1
    from nlpcli.evaluation.correlation import pearson, spearman
    from nlpcli.evaluation.ranking_metrics import average_precision, reciprocal_rank

    judged = task.judged(examples)
    if judged == "labels":
        references = [example.label for example in examples]
        predicted = [prediction["label"] for prediction in predictions]
        return {
            "accuracy": accuracy(references, predicted, resampling),
            "macro_f1": f1(references, predicted, average="macro", resampling=resampling),
        }
    if judged == "pairs":
        return {"mrr": reciprocal_rank(ranks(examples, predictions), resampling)}
    scores, found = [task.score_in(example) for example in examples], [p["score"] for p in predictions]
    if judged == "two":
        return {
            "average_precision": average_precision([int(score) for score in scores], found, resampling),
            "spearman": spearman(scores, found, resampling),
        }
    return {"spearman": spearman(scores, found, resampling), "pearson": pearson(scores, found, resampling)}


def ranks(examples: Sequence[Example], predictions: Sequence[Any]) -> list[int]:
    """The rank of each example's second text, from 1, among all different texts that are not first ones, by their
    cosine with the first text. What belongs to an equal first text is not counted, nor is the first text itself."""
    places: dict[str, int] = {}
    rows: list[np.ndarray] = []
    seconds: dict[str, set[int]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        for number, text in enumerate(example.texts[1:], start=1):
            if text not in places:
                places[text] = len(rows)
                rows.append(_unit(prediction.vectors[number].numpy()))
        seconds.setdefault(example.texts[0], set()).add(places[example.texts[1]])
    candidates = np.stack(rows)
    found: list[int] = []
    size = max(_BLOCK // len(rows), 1)
    for start in range(0, len(examples), size):
        block = slice(start, start + size)
        firsts = np.stack([_unit(prediction.vectors[0].numpy()) for prediction in predictions[block]])
        for example, cosines in zip(examples[block], firsts @ candidates.T, strict=True):
            own = places[example.texts[1]]
            left_out = (seconds[example.texts[0]] | {places.get(example.texts[0], own)}) - {own}
            better = cosines > cosines[own]
            better[list(left_out)] = False
            found.append(1 + int(better.sum()))
    return found


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
