"""Subword regularisation (Kudo 2018): a segmentation drawn from all that a unigram model allows.

P(subwords | text) is proportional to exp(strength · sum of log P(subword)) (eq. 8 with the whole lattice for the n-best
list). SentencePiece can draw too, but its generator can't be seeded so that another process draws the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

Arcs = tuple[list[float], list[int], list[int]]
"""The subwords that may end at a place: cumulative probabilities, where they start, their ids."""

_CACHED_WORDS = 50_000
_CACHED_LENGTH = 40  # characters; longer words hardly come again


class UnigramLattice:
    """Draws segmentations of words; a word's lattice is kept for the next time.

    subwords: spelling to (id, log probability). unknown: log probability of a character that is no subword.
    """

    def __init__(self, subwords: Mapping[str, tuple[int, float]], unknown: float, strength: float) -> None:
        self._subwords = subwords
        self._unknown = unknown
        self._longest = max(map(len, subwords), default=1)
        self._lattices: dict[str, list[Arcs]] = {}
        self.strength = strength

    def draw(self, words: Iterable[str], draws: Iterator[float]) -> Iterator[int]:
        """The ids of the words; a character that is no subword is given as -1 minus its code point.

        draws: uniform numbers from [0, 1).
        """
        for word in words:
            lattice = self._lattices.get(word) or self._lattice(word)
            end, ids = len(word), []
            while end:
                cumulative, starts, subwords = lattice[end]
                chosen = bisect_right(cumulative, next(draws)) if cumulative else 0
                end = starts[chosen]
                ids.append(subwords[chosen])
            yield from reversed(ids)

    def _lattice(self, word: str) -> list[Arcs]:
        """Forward filtering: α(j) = Σ over the subwords from i to j of α(i) · P(subword)^strength."""
        forward = [0.0]  # log α
        lattice: list[Arcs] = [([], [], [])]
        for end in range(1, len(word) + 1):
            starts, ids, weights = [], [], []
            for start in range(max(0, end - self._longest), end):
                found = self._subwords.get(word[start:end])
                if found is None and start < end - 1:
                    continue
                id_, score = found if found is not None else (-1 - ord(word[start]), self._unknown)
                starts.append(start)
                ids.append(id_)
                weights.append(forward[start] + self.strength * score)
            top = max(weights)
            scaled = [math.exp(weight - top) for weight in weights]
            total = math.fsum(scaled)
            forward.append(top + math.log(total))
            # the last border is left out: what is above all others is the last arc
            lattice.append((_running(scaled[:-1], total), starts, ids))
        if len(word) <= _CACHED_LENGTH:
            if len(self._lattices) >= _CACHED_WORDS:
                self._lattices.clear()
            self._lattices[word] = lattice
        return lattice


def _running(weights: list[float], total: float) -> list[float]:
    borders, seen = [], 0.0
    for weight in weights:
        seen += weight
        borders.append(seen / total)
    return borders
