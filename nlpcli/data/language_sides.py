"""Identifies which of two languages a line is in, from the two sides of the corpus itself.

A line is a sequence of characters c_1 … c_n with a space at both ends, digits counting as one. For each order k of 2, 3
and 4, how often each k-gram g stands on each side is counted, a(g) of A and b(g) of B in all; then

    evidence(line) = 1/3 Σ_k Σ_i  log( (a(g_i) + ½) / A_k ) - log( (b(g_i) + ½) / B_k )          in nats

is positive for what looks like the first side. This is the naive classifier of Cavnar and Trenkle's features (1994);
since overlapping k-grams are redundant, each order counts for a third. The own k-grams of a line of the first side are
removed from a before (one each), so that it is not evidence for itself; likewise for a line of the second side in b.
A few lines in the wrong language don't spoil the counts: they are outnumbered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_ORDERS = (2, 3, 4)
_BITS = 18  # k-grams are distinguished by so many bits of a hash
_OUTSIDE = 0  # the bucket of k-grams that reach into the next line; it has no weight
_SMOOTHING = 0.5
_LINE_END = 10
_PRIME = np.uint32(0x9E3779B1)


class Sides:
    """The k-grams of two sides. First `count` both sides, then compute the `evidence` of lines."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, len(_ORDERS), 1 << _BITS))
        self._tables: list[np.ndarray] | None = None

    def count(self, side: int, lines: Sequence[str]) -> None:
        """Adds lines of side 0 or 1."""
        for place, buckets in enumerate(_grams(_codes(lines))):
            self._counts[side, place] += np.bincount(buckets, minlength=1 << _BITS)
        self._tables = None

    def evidence(self, side: int, lines: Sequence[str]) -> np.ndarray:
        """(lines,): how much each line of side 0 or 1 looks like side 0 and not like side 1, in nats."""
        if self._tables is None:
            self._tables = [self._table(0), self._table(1)]
        codes = _codes(lines)
        weights = np.zeros(len(codes), dtype=np.float32)
        for place, buckets in enumerate(_grams(codes)):
            weights[: len(buckets)] += self._tables[side][place][buckets]
        ends = np.flatnonzero(codes == _LINE_END)
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        return np.add.reduceat(weights, starts).astype(float) / len(_ORDERS) if len(ends) else np.zeros(0)

    def _table(self, side: int) -> np.ndarray:
        """(orders, buckets): the weight of each k-gram that is met on a side."""
        counts = self._counts.copy()
        counts[:, :, _OUTSIDE] = 0
        totals = np.maximum(counts.sum(axis=2, keepdims=True), 1)
        counts[side] = np.maximum(counts[side] - 1, 0)
        first, second = np.log(counts + _SMOOTHING) - np.log(totals)
        table = first - second
        table[:, _OUTSIDE] = 0
        return table.astype(np.float32)


def _codes(lines: Iterable[str]) -> np.ndarray:
    """The code points of all characters, each line between spaces and ended by LF."""
    text = "".join([f" {line} \n" for line in lines])
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4")
    return np.where((codes > ord("0")) & (codes <= ord("9")), np.uint32(ord("0")), codes)


def _grams(codes: np.ndarray) -> Iterator[np.ndarray]:
    """For each order, the bucket of the k-gram that begins at each place."""
    mixed, inside = codes * _PRIME, codes != _LINE_END
    for order in range(2, _ORDERS[-1] + 1):
        length = max(len(codes) - order + 1, 0)
        part = codes[order - 1 :]
        mixed = ((mixed[:length] ^ (mixed[:length] >> np.uint32(15))) + part) * _PRIME
        inside = inside[:length] & (part != _LINE_END)
        yield (mixed >> np.uint32(32 - _BITS)) * inside
