"""Metrics whose value is a function of how often each example counts: one frame for labels, numbers, tags, answers.

A metric measures one system once and keeps what it found in every example; the value of a resample is then the value
with example i counted as often as it was sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nlpcli import __version__
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.bootstrap import interval, paired_p_value, sampled_weights
from nlpcli.evaluation.score import NO_BOUNDS, Resampling, Score, check_segments, reference_count


@dataclass(frozen=True)
class Measurement:
    """One system, measured.

    `values`: weights (rows, size) -> values (rows,), the value of a text in which example i stands weights[r, i]
    times; `value` is the one with every example standing once.
    """

    size: int
    value: float
    values: Callable[[np.ndarray], np.ndarray]
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def resampled(self, resampling: Resampling) -> np.ndarray:
        """The value of each resample, (samples,)."""
        return np.concatenate([self.values(weights) for weights in sampled_weights(self.size, resampling)])


class ExampleMetric:
    """Base of these metrics; a subclass defines how a system is measured and the choices in the signature.

    It is a `Metric`: `corpus`, `sentences`, `compare` and `cautions` take one item of what the metric `needs` for each
    example, beside one or more sequences of references.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    max_references: ClassVar[int | None] = 1
    options: ClassVar[frozenset[str]] = frozenset()

    def measure(self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]]) -> Measurement:
        """The system against its references, whose lengths are checked."""
        raise NotImplementedError

    def choices(self) -> str:
        """The part of the signature that belongs to this metric: "average:macro|labels:3"."""
        return ""

    def cautions(self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]]) -> list[str]:
        return []

    def sentences(self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]]) -> list[Score]:
        raise NlpcliError(
            f"{self.name} is defined only for a whole test set, not for a single example", hint="leave out --sentence"
        )

    def corpus(
        self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]], resampling: Resampling | None = None
    ) -> Score:
        return self._score(self._measured(hypotheses, references), reference_count(references), resampling)

    def compare(
        self,
        baseline: Sequence[Any],
        systems: Sequence[Sequence[Any]],
        references: Sequence[Sequence[Any]],
        resampling: Resampling,
    ) -> list[Score]:
        measured = [self._measured(system, references) for system in (baseline, *systems)]
        return self._compared(measured, reference_count(references), resampling)

    def signature(self, references: str = "1", resampling: Resampling | None = None) -> str:
        """Every choice that affects the value, in sacreBLEU's form. references: see `reference_count`."""
        bootstrap = f"bs:{resampling.samples}|seed:{resampling.seed}" if resampling else ""
        parts = [self.name, f"nrefs:{references}", bootstrap, self.choices(), f"nlpcli:{__version__}"]
        return "|".join(part for part in parts if part)

    def per_example(self, values: Iterable[float], references: str = "1") -> list[Score]:
        """Sentence scores of these values."""
        signature = self.signature(references)
        return [Score(self.name, float(value), signature) for value in values]

    def _measured(self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]]) -> Measurement:
        check_segments(hypotheses, references, self.max_references)
        return self.measure(hypotheses, references)

    def _compared(self, measured: Sequence[Measurement], references: str, resampling: Resampling) -> list[Score]:
        """The scores of a baseline and of systems that are compared with it."""
        first, *others = measured
        of_baseline = first.resampled(resampling)
        scores = [self._score(first, references, resampling, of_baseline)]
        for other in others:
            resampled = other.resampled(resampling)
            p_value = paired_p_value(resampled, of_baseline, abs(other.value - first.value))
            scores.append(self._score(other, references, resampling, resampled, p_value))
        return scores

    def _score(
        self,
        measured: Measurement,
        references: str,
        resampling: Resampling | None,
        resampled: np.ndarray | None = None,
        p_value: float | None = None,
    ) -> Score:
        bounds = NO_BOUNDS
        if resampling is not None:
            bounds = interval(measured.resampled(resampling) if resampled is None else resampled)
        return Score(
            self.name,
            measured.value,
            self.signature(references, resampling),
            *bounds,
            p_value=p_value,
            summary=measured.summary,
            details=measured.details,
        )


def shares(amounts: np.ndarray, totals: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """`values` of 100 · Σ amounts / Σ totals over examples, amounts and totals (examples,); totals None: one each."""

    def values(weights: np.ndarray) -> np.ndarray:
        below = weights.sum(axis=1) if totals is None else weights @ totals
        return 100 * (weights @ amounts) / np.where(below > 0, below, 1)

    return values


def once(values: Callable[[np.ndarray], np.ndarray], size: int) -> float:
    """The value with every example counted once."""
    return float(values(np.ones((1, size)))[0])
