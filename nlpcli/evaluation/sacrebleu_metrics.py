"""The metrics of sacreBLEU in this package's shape: its numbers, its signatures, its significance tests.

Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores"; Koehn 2004, "Statistical Significance Tests for
Machine Translation Evaluation".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from sacrebleu.metrics.base import Metric as Sacre
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.base import Signature

from nlpcli.errors import NlpcliError
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

if TYPE_CHECKING:
    from sacrebleu.significance import Result

_SEED = "SACREBLEU_SEED"  # the only door to sacreBLEU's random numbers


_AnyScore = TypeVar("_AnyScore", bound=SacreScore)


def with_plain_float(score: _AnyScore) -> _AnyScore:
    """A score of sacreBLEU whose value is one of Python's floats, and not NumPy's as for some of the resamples.

    sacreBLEU's mean of the resamples fails for a mixture of the two.
    """
    score.score = float(score.score)
    return score


class SacreMetric:
    """What BLEU, chrF and TER share; each subclass says how its sacreBLEU object is built and which counts it shows."""

    needs: ClassVar[str] = TEXT_PAIRS
    max_references: ClassVar[int | None] = None
    options: ClassVar[frozenset[str]] = frozenset()

    def build(self, *, sentence: bool = False) -> Sacre:
        """A fresh sacreBLEU metric, in the form fit for single sentences where there is one."""
        raise NotImplementedError

    def details(self, score: SacreScore) -> dict[str, Any]:
        """The counts behind a score of this metric."""
        return {}

    def cautions(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> list[str]:
        return []

    def corpus(
        self, hypotheses: Lines, references: Sequence[ReferenceLines], resampling: Resampling | None = None
    ) -> Score:
        check_segments(hypotheses, references)
        metric = self.build()
        with _seed(resampling):
            score = metric.corpus_score(
                list(hypotheses),
                [list(lines) for lines in strings(references)],
                n_bootstrap=resampling.samples if resampling else 1,
            )
        return self._finish(score, metric.get_signature(), resampled=resampling is not None)

    def sentences(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> list[Score]:
        check_segments(hypotheses, references)
        metric = self.build(sentence=True)
        scores = [
            metric.sentence_score(hypothesis, [line for line in lines if line is not None])
            for hypothesis, *lines in zip(hypotheses, *references, strict=True)
        ]
        count = reference_count(references)
        metric.num_refs = -1 if count == "var" else int(count)  # of all, and not of the last
        return [self._finish(score, metric.get_signature()) for score in scores]

    def compare(
        self, baseline: Lines, systems: Sequence[Lines], references: Sequence[ReferenceLines], resampling: Resampling
    ) -> list[Score]:
        from sacrebleu.significance import PairedTest

        for lines in (baseline, *systems):
            check_segments(lines, references)
        if resampling.seed == 0:
            raise NlpcliError("the paired test of sacreBLEU ignores seed 0", hint="choose another --seed")
        named: list[tuple[str, Sequence[str]]] = [
            (str(number), list(lines)) for number, lines in enumerate((baseline, *systems))
        ]
        with _seed(resampling):
            test = PairedTest(named, {"metric": self.build()}, strings(references), "bs", resampling.samples)
            signatures, table = test()
        (name, signature), *_ = signatures.items()
        signed = f"{name}|{signature}"
        first, *others = cast("list[Result]", table[name])  # the names of the systems stand in another column
        scores = [Score(name, float(first.score), signed, *_bounds_of(first))]
        for result in others:
            # sacreBLEU counts chance differences above the one measured: none, so p = 0.001, for a system and itself.
            p_value = 1.0 if result.score == first.score else result.p_value
            scores.append(Score(name, float(result.score), signed, *_bounds_of(result), p_value=p_value))
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


def strings(references: Sequence[ReferenceLines]) -> Sequence[Lines]:
    """References as sacreBLEU types them, though it takes None for a missing line."""
    return cast("Sequence[Lines]", references)


def _bounds_of(result: Result) -> tuple[float, float, float]:
    assert result.mean is not None and result.ci is not None  # a bootstrap gives both
    return _bounds(float(result.mean), float(result.ci))


def _bounds(mean: float, half_width: float) -> tuple[float, float, float]:
    """low, high and mean from sacreBLEU's "mean ± half the width of the central 95 %"."""
    return mean - half_width, mean + half_width, mean


@contextmanager
def _seed(resampling: Resampling | None) -> Iterator[None]:
    """Hands the seed to sacreBLEU, which reads it from the environment only, and puts back what stood there."""
    before = os.environ.get(_SEED)
    if resampling is not None:
        os.environ[_SEED] = str(resampling.seed)
    try:
        yield
    finally:
        if resampling is not None:
            del os.environ[_SEED]
            if before is not None:
                os.environ[_SEED] = before
