"""The metrics of sacreBLEU in this package's shape: its numbers, its signatures, its significance tests.

Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores"; Koehn 2004, "Statistical Significance Tests for
Machine Translation Evaluation".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from sacrebleu.metrics.base import Metric as Sacre
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.base import Signature

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.bootstrap import paired_p_value, sampled_segments, weights_of
from nlpcli.evaluation.line_statistics import LineMetric, Statistics
from nlpcli.evaluation.score import (
    NO_BOUNDS,
    TEXT_PAIRS,
    Bounds,
    Lines,
    ReferenceLines,
    Resampling,
    Score,
    check_segments,
    reference_count,
)

_BATCH = 1024  # lines
_EXACT = 1 << 24  # whole numbers below are float32

_AnyScore = TypeVar("_AnyScore", bound=SacreScore)


def with_plain_float(score: _AnyScore) -> _AnyScore:
    """A score of sacreBLEU whose value is one of Python's floats, and not NumPy's as for some of the resamples.

    sacreBLEU's mean of the resamples fails for a mixture of the two.
    """
    score.score = float(score.score)
    return score


class SacreMetric(LineMetric):
    """Base of BLEU, chrF and TER; a subclass builds its sacreBLEU object and selects the counts that are shown.

    The statistics of a line are those of sacreBLEU, which makes the score of their sums.
    """

    needs: ClassVar[str] = TEXT_PAIRS
    max_references: ClassVar[int | None] = None
    options: ClassVar[frozenset[str]] = frozenset()

    def build(self, *, sentence: bool = False) -> Sacre:
        """A fresh sacreBLEU metric, in the form fit for single sentences where there is one."""
        raise NotImplementedError

    def details(self, score: SacreScore) -> dict[str, Any]:
        """The counts behind a score of this metric."""
        return {}

    def line_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines], first: int = 1) -> np.ndarray:
        starts = range(0, len(hypotheses), _BATCH)
        return np.concatenate(
            [
                self.batch_statistics(
                    hypotheses[start : start + _BATCH], [lines[start : start + _BATCH] for lines in references]
                )
                for start in starts
            ]
        )

    def batch_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """The statistics of some lines, computed at once."""
        raise NotImplementedError

    def collector(self, *, resampled: bool) -> Statistics:
        return Statistics(np.float32 if resampled else None)  # as sacreBLEU resamples them

    def sentences(self, hypotheses: Lines, references: Sequence[ReferenceLines], first: int = 1) -> list[Score]:
        check_segments(hypotheses, references)
        metric = self.build(sentence=True)
        metric.num_refs = _number(reference_count(references))
        scores = map(metric._compute_score_from_stats, self.line_statistics(hypotheses, references).tolist())
        return [self._finish(score, metric.get_signature()) for score in scores]

    def score_from(self, statistics: Statistics, references: str = "1", resampling: Resampling | None = None) -> Score:
        metric = self.build()
        metric.num_refs = _number(references)
        score = metric._compute_score_from_stats(statistics.sums.tolist())
        if resampling is not None:
            metric.n_bootstrap, metric.seed = resampling.samples, str(resampling.seed)
            score.estimate_ci(_resampled(metric, statistics, resampling))
        return self._finish(score, metric.get_signature(), resampled=resampling is not None)

    def check_resampling(self, resampling: Resampling) -> None:
        if resampling.seed == 0:
            raise NlpcliError("the paired test of sacreBLEU ignores seed 0", hint="choose another --seed")

    def compare_from(
        self, baseline: Statistics, systems: Sequence[Statistics], references: str, resampling: Resampling
    ) -> list[Score]:
        """Koehn's test as `sacrebleu.significance.PairedTest` makes it."""
        from sacrebleu.significance import estimate_ci

        metric = self.build()
        metric.num_refs = _number(references)
        metric.n_bootstrap, metric.seed = resampling.samples, str(resampling.seed)
        scores: list[Score] = []
        first, chance = 0.0, np.zeros(0)
        for statistics in (baseline, *systems):
            score = metric._compute_score_from_stats(statistics.sums.tolist())
            resampled = np.array([one.score for one in _resampled(metric, statistics, resampling)])
            mean, half_width = estimate_ci(resampled)
            p_value = None
            if scores:
                p_value = paired_p_value(resampled, chance, abs(first - score.score))
            else:
                first, chance = score.score, resampled
            signed = f"{score.name}|{metric.get_signature()}"
            bounds = _bounds(float(mean), float(half_width))
            scores.append(Score(score.name, float(score.score), signed, *bounds, p_value=p_value))
        return scores

    def _finish(self, score: SacreScore, signature: Signature, *, resampled: bool = False) -> Score:
        shown = json.loads(score.format(width=15, signature=str(signature), is_json=True))
        bounds: Bounds = NO_BOUNDS
        if resampled:  # sacreBLEU leaves the interval out when every resample scores 0
            bounds = _bounds(shown.get("confidence_mean", 0.0), shown.get("confidence_var", 0.0))
        return Score(
            score.name,
            float(score.score),
            f"{score.name}|{signature}",
            *bounds,
            summary=shown.get("verbose_score", ""),
            details=self.details(score),
        )


def _number(references: str) -> int:
    return -1 if references == "var" else int(references)


def _resampled(metric: Sacre, statistics: Statistics, resampling: Resampling) -> list[SacreScore]:
    """The scores of sacreBLEU's resamples, whose statistics it sums in float32, one line after the other.

    Sums of whole numbers are the same in any order as long as float32 holds them exactly.
    """
    rows = statistics.rows
    whole = bool((rows == np.floor(rows)).all())
    exact = rows.astype(np.float64) if whole else None
    scores = []
    for sampled in sampled_segments(statistics.lines, resampling):
        sums = None if exact is None else weights_of(sampled) @ exact
        for number, lines in enumerate(sampled):
            if sums is not None and sums[number].max() < _EXACT:
                scores.append(metric._compute_score_from_stats(sums[number].astype(np.float32)))
            else:
                scores.append(metric._compute_score_from_stats(rows[lines].sum(0)))
    return scores


def _bounds(mean: float, half_width: float) -> tuple[float, float, float]:
    """low, high and mean from sacreBLEU's "mean ± half the width of the central 95 %"."""
    return mean - half_width, mean + half_width, mean
