"""Correlation of numbers: Pearson's and Spearman's coefficients, times 100 as GLUE's table prints them.

    r = Σ (x - x̄)(y - ȳ) / sqrt(Σ (x - x̄)² · Σ (y - ȳ)²)

over the numbers themselves (Pearson) or over their ranks, the mean of their places for equal ones (Spearman). Where
one side is constant there is no correlation: the value is 0 and `cautions` reports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once
from nlpcli.evaluation.score import NUMBERS, Resampling, Score

_ROUNDING = 1e-13  # a variance below this share of the mean square is none


class Pearson(ExampleMetric):
    """Pearson's correlation times 100, from -100 to 100."""

    name: ClassVar[str] = "Pearson"
    needs: ClassVar[str] = NUMBERS

    def measure(self, hypotheses: Sequence[float], references: Sequence[Sequence[float]]) -> Measurement:
        x, y = _centred(hypotheses), _centred(references[0])

        def values(weights: np.ndarray) -> np.ndarray:
            return _correlation(weights, np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape))

        return self._measurement(values, len(x))

    def cautions(self, hypotheses: Sequence[float], references: Sequence[Sequence[float]]) -> list[str]:
        return [
            f"every {side} is {numbers[0]:g}, so the correlation is undefined and reported as 0"
            for side, numbers in (("reference", references[0]), ("prediction", hypotheses))
            if len(set(numbers)) == 1
        ]

    @staticmethod
    def _measurement(values: Callable[[np.ndarray], np.ndarray], size: int) -> Measurement:
        return Measurement(size, once(values, size), values, counted(size, "pair"), {"examples": size})


class Spearman(Pearson):
    """Spearman's rank correlation times 100; a resample is ranked anew."""

    name: ClassVar[str] = "Spearman"

    def measure(self, hypotheses: Sequence[float], references: Sequence[Sequence[float]]) -> Measurement:
        x, y = (np.unique(_finite(side), return_inverse=True)[1] for side in (hypotheses, references[0]))

        def values(weights: np.ndarray) -> np.ndarray:
            return _correlation(weights, _ranks(weights, x), _ranks(weights, y))

        return self._measurement(values, len(x))


def pearson(references: Sequence[float], predicted: Sequence[float], resampling: Resampling | None = None) -> Score:
    """Pearson's correlation times 100. Raises: NlpcliError for unequal lengths, nothing, or a number not finite."""
    return Pearson().corpus(predicted, [references], resampling)


def spearman(references: Sequence[float], predicted: Sequence[float], resampling: Resampling | None = None) -> Score:
    """Spearman's correlation times 100. Raises: NlpcliError for unequal lengths, nothing, or a number not finite."""
    return Spearman().corpus(predicted, [references], resampling)


def _finite(numbers: Sequence[float]) -> np.ndarray:
    for place, number in enumerate(numbers, start=1):
        if not math.isfinite(number):
            raise NlpcliError(f"a correlation needs finite numbers, but number {place} is {number}")
    return np.asarray(numbers, dtype=np.float64)


def _centred(numbers: Sequence[float]) -> np.ndarray:
    """Numbers less their mean, and divided by the greatest, so that no square is too large or too small."""
    array = _finite(numbers)
    if array.min() == array.max():
        return np.zeros_like(array)
    array = array / np.abs(array).max()
    array = array - array.mean()
    return array / np.abs(array).max()


def _ranks(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Ranks (rows, n), less half the number of examples, of values with these places among the distinct ones (n,)."""
    size = int(places.max()) + 1
    held = np.stack([np.bincount(places, weights=row, minlength=size) for row in weights])  # (rows, distinct)
    ranks = np.cumsum(held, axis=1) - held / 2  # the mean of the places, less 1/2
    return ranks[:, places] - held.sum(axis=1, keepdims=True) / 2


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """100 · r of each row, all (rows, n) -> (rows,)."""
    total = weights.sum(axis=1, keepdims=True)
    squares = [(weights * side**2).sum(axis=1) for side in (x, y)]
    x = x - (weights * x).sum(axis=1, keepdims=True) / total
    y = y - (weights * y).sum(axis=1, keepdims=True) / total
    spread_x, spread_y = (weights * x**2).sum(axis=1), (weights * y**2).sum(axis=1)
    constant = (spread_x <= _ROUNDING * squares[0]) | (spread_y <= _ROUNDING * squares[1])
    below = np.sqrt(np.where(constant, 1, spread_x)) * np.sqrt(np.where(constant, 1, spread_y))
    return 100 * np.clip(np.where(constant, 0, (weights * x * y).sum(axis=1)) / below, -1, 1)
