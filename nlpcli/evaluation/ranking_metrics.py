"""Metrics of rankings: how high what belongs together stands.

    AP = Σ_k (R_k - R_{k-1}) P_k          over the different scores from the highest on, with P_k and R_k the precision
                                          and recall of taking all examples with at least the k-th score
    MRR = mean of 1 / rank                of the one correct answer to each question

Both on the scale of 0 to 100. Sources: Manning, Raghavan and Schütze 2008, section 8.4; Voorhees 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once, shares
from nlpcli.evaluation.score import NUMBERS, Resampling, Score


class AveragePrecision(ExampleMetric):
    """Average precision of scores beside ones and zeros, in percent; equal scores are taken together."""

    name: ClassVar[str] = "AP"
    needs: ClassVar[str] = NUMBERS

    def measure(self, hypotheses: Sequence[float], references: Sequence[Sequence[float]]) -> Measurement:
        scores, labels = np.asarray(hypotheses, dtype=np.float64), np.asarray(references[0])
        wrong = labels[~np.isin(labels, (0, 1))]
        if wrong.size:
            raise NlpcliError(f"average precision needs references that are 0 or 1, not {wrong[0]:g}")
        order = np.argsort(-scores, kind="stable")
        scores, labels = scores[order], labels[order]
        last = np.searchsorted(-scores, -scores, side="right") - 1  # the last one with the same score

        def values(weights: np.ndarray) -> np.ndarray:
            taken = weights[:, order]
            correct = taken * labels
            above = np.cumsum(taken, axis=1)[:, last]
            precision = np.cumsum(correct, axis=1)[:, last] / np.where(above > 0, above, 1)
            total = correct.sum(axis=1)
            return 100 * (correct * precision).sum(axis=1) / np.where(total > 0, total, 1)

        size, positive = len(labels), int(labels.sum())
        return Measurement(
            size, once(values, size), values, f"{positive} of {size} positive", {"examples": size, "positive": positive}
        )


class ReciprocalRank(ExampleMetric):
    """Mean of 1 / rank in percent; the hypotheses are the ranks from 1, whatever the references."""

    name: ClassVar[str] = "MRR"
    needs: ClassVar[str] = NUMBERS

    def measure(self, hypotheses: Sequence[float], references: Sequence[Sequence[float]]) -> Measurement:
        ranks = np.asarray(hypotheses, dtype=np.float64)
        if ranks.min() < 1:
            raise NlpcliError(f"ranks start at 1, but one rank is {ranks.min():g}")
        values = shares(1 / ranks)
        first = int((ranks == 1).sum())
        details = {"examples": len(ranks), "first": first}
        return Measurement(
            len(ranks), once(values, len(ranks)), values, f"{first} of {len(ranks)} ranked first", details
        )


def average_precision(
    references: Sequence[int], scores: Sequence[float], resampling: Resampling | None = None
) -> Score:
    """Average precision in percent. Raises: NlpcliError for unequal lengths, nothing, or references but 0 and 1."""
    return AveragePrecision().corpus(scores, [references], resampling)


def reciprocal_rank(ranks: Sequence[int], resampling: Resampling | None = None) -> Score:
    """Mean reciprocal rank in percent. Raises: NlpcliError for no ranks or one below 1."""
    return ReciprocalRank().corpus(ranks, [ranks], resampling)
