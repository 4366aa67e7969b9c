"""Clipped n-gram matches of many lines at once.

All n-grams of a batch of lines are packed into whole numbers: the line, then the units, then the side, so that one sort
brings equal n-grams of all orders together: those of order n begin with the same n units. Counts are exact. Source of
the counts: Papineni et al. 2002, section 2.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_PORTION = 1 << 16  # n-grams sorted at once, which stay in a processor's cache
_BITS = 63  # of a number
_HELD = 1 << 21  # characters of chunks whose words are cached
_WORDS = 1 << 16  # chunks or words that are cached


@dataclass(frozen=True)
class Units:
    """The units (words or characters) of lines: ids from 1, end to end, and how many each line has.

    Equal ids mean equal units, also in the other side of a comparison. ids: (units,) int64; lengths: (lines,) int64.
    """

    ids: np.ndarray
    lengths: np.ndarray

    def between(self, start: int, end: int) -> Units:
        """The units of some of the lines."""
        first, count = self.lengths[:start].sum(), self.lengths[start:end].sum()
        return Units(self.ids[first : first + count], self.lengths[start:end])

    def totals(self, order: int) -> np.ndarray:
        """The number of n-grams of each line, (lines, order) for n = 1..order."""
        return np.maximum(self.lengths[:, None] - np.arange(order), 0)


def characters(lines: Iterable[str]) -> Units:
    """The code points of lines."""
    texts = list(lines)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return Units(codes.astype(np.int64) + 1, np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))


class WordIds(dict[str, bytes]):
    """The words of lines as ids. Each chunk of a line between white space is cut into words on its own.

    words_of: the words of a chunk. The words of a chunk are cached; `forget` bounds the memory that this takes.
    """

    def __init__(self, words_of: Callable[[str], Iterable[str]]) -> None:
        self._words_of = words_of
        self._ids: dict[str, int] = {}
        self._held = 0

    def __missing__(self, chunk: str) -> bytes:
        found = self.encode(self._words_of(chunk))
        self[chunk] = found
        self._held += len(chunk)
        return found

    def encode(self, words: Iterable[str]) -> bytes:
        """The ids of words, 4 bytes each."""
        ids = self._ids
        return b"".join([ids.setdefault(word, len(ids) + 1).to_bytes(4, "little") for word in words])

    def units(self, lines: Iterable[str]) -> Units:
        """The words of lines, each cut at its white space."""
        of = self.__getitem__
        return self.joined([b"".join(map(of, line.split())) for line in lines])

    def whole_units(self, lines: Iterable[str]) -> Units:
        """The words of lines whose chunks can't be cut into words one by one."""
        return self.joined([self.encode(self._words_of(line)) for line in lines])

    def joined(self, lines: Sequence[bytes]) -> Units:
        """Lines of ids as units."""
        ids = np.frombuffer(b"".join(lines), dtype="<u4").astype(np.int64)
        return Units(ids, np.fromiter(map(len, lines), dtype=np.int64, count=len(lines)) // 4)

    def forget(self) -> None:
        """Drops what is remembered if it is much. Ids from before must not be compared with those from after."""
        if self._held > _HELD or max(len(self), len(self._ids)) > _WORDS:
            self.clear()
            self._ids.clear()
            self._held = 0


def clipped_matches(sides: Sequence[Units], order: int) -> np.ndarray:
    """How many n-grams of each hypothesis are in its references, (lines, order) for n = 1..order.

    Each n-gram counts as often as it is in the hypothesis, but at most as often as in that reference that has it most
    often. sides: the hypotheses, then one or more sets of references, for the same lines.
    """
    found = np.zeros((len(sides[0].lengths), order), dtype=np.int64)
    if order:
        for start, end in _portions(sides):
            found[start:end] = _matches([side.between(start, end) for side in sides], order)
    return found


def _portions(sides: Sequence[Units]) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(sum(side.lengths for side in sides))
    start = done = 0
    while start < len(ends):
        end = max(start + 1, int(np.searchsorted(ends, done + _PORTION, side="right")))
        yield start, end
        start, done = end, int(ends[end - 1])


def _matches(sides: Sequence[Units], order: int) -> np.ndarray:
    count = len(sides[0].lengths)
    lengths = np.concatenate([side.lengths for side in sides])
    ids = np.concatenate([side.ids for side in sides])
    lines = np.repeat(np.tile(np.arange(count), len(sides)), lengths)
    side_bits = (len(sides) - 1).bit_length()
    room = (_BITS - side_bits - (count - 1).bit_length()) // order
    for renumber in (_as_they_are, _in_batch, _in_line):
        ids = renumber(ids, lines)
        bits = int(ids.max(initial=1)).bit_length()
        if bits <= room:
            keys = _packed(ids, lines, lengths, order, bits) << side_bits
            keys |= np.repeat(np.arange(len(sides)).repeat(count), lengths)
            return _counted_together(keys, len(sides), count, order, bits)
    if count == 1:
        return _counted_alone(sides, order)
    half = count // 2
    parts = [[side.between(*ends) for side in sides] for ends in ((0, half), (half, count))]
    return np.concatenate([_matches(part, order) for part in parts])


def _as_they_are(ids: np.ndarray, lines: np.ndarray) -> np.ndarray:
    return ids


def _in_batch(ids: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Ids from 1 to the number of different ones."""
    table = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.int64)
    table[ids] = 1
    different = np.flatnonzero(table)
    table[different] = np.arange(1, len(different) + 1)
    return table[ids]


def _in_line(ids: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Ids from 1 to the number of different ones in the same line of all sides."""
    keys, places = np.unique(lines * (int(ids.max(initial=0)) + 1) + ids, return_inverse=True)
    of = keys // (int(ids.max(initial=0)) + 1)
    first = np.searchsorted(of, np.arange(int(lines.max(initial=0)) + 1))
    return places - first[lines] + 1


def _packed(ids: np.ndarray, lines: np.ndarray, lengths: np.ndarray, order: int, bits: int) -> np.ndarray:
    """For each place a number: its line, and the units from there on, 0 beyond the end of the line."""
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))
    padded = np.concatenate([ids, np.zeros(order, dtype=np.int64)])
    keys = lines.astype(np.int64)
    for step in range(order):
        keys <<= bits
        keys |= padded[step : step + len(ids)] * (left > step)
    return keys


def _counted_together(keys: np.ndarray, sides: int, count: int, order: int, bits: int) -> np.ndarray:
    keys.sort()
    side_bits = (sides - 1).bit_length()
    of = keys & ((1 << side_bits) - 1)
    upto = [np.concatenate([[0], np.cumsum(of == side)]) for side in range(sides)]
    found = np.zeros((count, order), dtype=np.int64)
    keys >>= side_bits
    starts = np.arange(len(keys))
    for n in range(order, 0, -1):
        new = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        kept = np.concatenate([[0], new]) if len(keys) else new
        keys, starts = keys[kept], starts[kept]
        ends = np.append(starts[1:], len(of))
        ours, *theirs = (sums[ends] - sums[starts] for sums in upto)
        matched = np.minimum(ours, theirs[0] if len(theirs) == 1 else np.maximum.reduce(theirs))
        matched *= (keys & ((1 << bits) - 1)) != 0  # shorter lines have no such n-gram
        found[:, n - 1] = np.bincount(keys >> (n * bits), weights=matched, minlength=count)
        keys = keys >> bits
    return found


def _counted_alone(sides: Sequence[Units], order: int) -> np.ndarray:
    """The matches of one line with more different units than numbers can hold."""
    ours, *theirs = (side.ids.tolist() for side in sides)
    found = np.zeros((1, order), dtype=np.int64)
    for n in range(1, order + 1):
        best: Counter[tuple[int, ...]] = Counter()
        for ids in theirs:
            best |= _ngrams(ids, n)
        found[0, n - 1] = (_ngrams(ours, n) & best).total()
    return found


def _ngrams(ids: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(ids[start:] for start in range(n)), strict=False))
