"""Whether the two lines of a pair have lengths that fit each other, and where two files part ways.

A translation's length follows that of its source (Gale and Church 1993, section 2.2): with c the ratio of all lengths
of the target side to all of the source side, and s² the variance per character,

    z = (t - c s) / ( s_dev · √( (s + t / c) / 2 ) )           lengths s and t of source and target

is about normally distributed. The deviation s_dev is taken from the middle of the pairs (1.4826 times the median of
|t - c s| / √(…)), so that outliers don't hide themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT = 6.0
"""|z| from which on a pair is an outlier."""

_SPAN = 4.0  # larger |z| count as this: how wrong a wrong pair is does not matter
_NARROW = 0.05  # no deviation is smaller, as between copies
_NUMBERS = 2.0  # what other numbers on both sides add
_PROOF = 4.0  # times the root of the number of lines: by how much the wrong way must be worse


@dataclass(frozen=True)
class Ratio:
    """c: characters (or tokens) of the target for one of the source. deviation: s_dev."""

    c: float
    deviation: float

    @classmethod
    def of(cls, source: np.ndarray, target: np.ndarray) -> Ratio:
        """From the lengths of both sides, (pairs,) each, those of blank lines left out."""
        filled = (source > 0) & (target > 0)
        if not filled.any():
            return cls(1.0, 1.0)
        c = float(target[filled].sum() / source[filled].sum())
        median_deviation = float(np.median(np.abs(_distance(source[filled], target[filled], c))))
        return cls(c, max(1.4826 * median_deviation, _NARROW))

    def z(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """(pairs,)"""
        return _distance(source, target, self.c) / self.deviation


def _distance(source: np.ndarray, target: np.ndarray, c: float) -> np.ndarray:
    return (target - c * source) / np.sqrt(np.maximum((source + target / c) / 2, 1))


def parting(
    source: np.ndarray, target: np.ndarray, source_numbers: np.ndarray, target_numbers: np.ndarray
) -> int | None:
    """The line, from 1, from which on two files of unequal length don't belong together, if it can be determined.

    Before it line n belongs to line n; from it on, to the line that is as many lines farther down as one file has more.
    So a few lines that are missing in one place are found; what is missing in several is not. source, target: lengths;
    the others: a hash of the numbers in each line, equal where there are none.

    None if neither lengths nor numbers are enough evidence.
    """
    if len(source) > len(target):
        return parting(target, source, target_numbers, source_numbers)
    n, moved = len(source), len(target) - len(source)
    if not n or not moved:
        return None
    c = max(float(target.mean() / max(source.mean(), 1e-9)), 1e-3)
    above, below = _ways(source, target, c, moved)
    above = above + _NUMBERS * (source_numbers != target_numbers[:n])
    below = below + _NUMBERS * (source_numbers != target_numbers[moved:])
    # cost of a parting before line p: the lines above it stay, those from it on move
    cost = np.concatenate(([0.0], np.cumsum(above))) + np.concatenate((np.cumsum(below[::-1])[::-1], [0.0]))
    place = int(np.argmin(cost))
    # where neither way fits, the costs wander by about the root of the number of lines
    gain = max(cost[0], cost[n]) - cost[place]
    return place + 1 if gain > _PROOF * np.sqrt(n) else None


def _ways(source: np.ndarray, target: np.ndarray, c: float, moved: int) -> tuple[np.ndarray, np.ndarray]:
    """How badly each line fits the one of its number, and the one that is `moved` lines farther down."""
    near = [np.abs(_distance(source, part, c)) for part in (target[: len(source)], target[moved:])]
    deviation = max(1.4826 * float(np.median(np.minimum(*near))), _NARROW)
    return np.minimum(near[0] / deviation, _SPAN), np.minimum(near[1] / deviation, _SPAN)
