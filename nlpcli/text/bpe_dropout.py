"""BPE-dropout (Provilkov et al. 2020, algorithm 1): merges left out at random, so that a word is cut in many ways.

`tokenizers` has a dropout of its own but no seed for it, and SentencePiece's seed holds within one process only; this
one samples with the generator that it is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_BLOCK = 1024  # random numbers sampled at once


class MergeDropout:
    """The merges of a trained BPE model, applied word by word.

    merges: (left id, right id) to (rank, merged id); the lowest rank is merged first.
    """

    def __init__(self, merges: Mapping[tuple[int, int], tuple[float, int]]) -> None:
        self._merges = merges

    def encode(self, words: Iterable[Sequence[int]], dropout: float, uniforms: Iterator[float]) -> list[int]:
        """The ids of the words, which come as the ids of their single symbols, one after the other.

        Before each merge every candidate is left out with probability `dropout`; the first that stays in the order
        of ranks is merged; a word is done when none stays. 0 is plain BPE, 1 leaves the symbols.
        uniforms: uniform numbers from [0, 1).
        """
        ids: list[int] = []
        for word in words:
            ids += self._word(word, dropout, uniforms)
        return ids

    def _word(self, symbols: Sequence[int], dropout: float, uniforms: Iterator[float]) -> Sequence[int]:
        if len(symbols) < 2:
            return symbols
        ids: list[int | None] = list(symbols)
        following = [*range(1, len(ids)), -1]
        previous = list(range(-1, len(ids) - 1))
        queue: list[tuple[float, int, int, int]] = []  # rank, position, left id, right id

        def offer(left: int) -> None:
            if left >= 0 and (right := following[left]) >= 0:
                left_id, right_id = ids[left], ids[right]
                if left_id is not None and right_id is not None and (left_id, right_id) in self._merges:
                    heapq.heappush(queue, (self._merges[left_id, right_id][0], left, left_id, right_id))

        for position in range(len(ids) - 1):
            offer(position)
        left_out: list[tuple[float, int, int, int]] = []
        while queue:
            entry = heapq.heappop(queue)
            _, left, left_id, right_id = entry
            right = following[left]
            if ids[left] != left_id or right < 0 or ids[right] != right_id:
                continue  # one of the two was merged meanwhile
            if next(uniforms) < dropout:
                left_out.append(entry)
                continue
            ids[left] = self._merges[left_id, right_id][1]
            ids[right] = None
            following[left] = following[right]
            if following[left] >= 0:
                previous[following[left]] = left
            while left_out:
                heapq.heappush(queue, left_out.pop())
            offer(left)
            offer(previous[left])
        return [id_ for id_ in ids if id_ is not None]


def uniform(rng: np.random.Generator) -> Iterator[float]:
    """Uniform numbers from [0, 1) without end."""
    while True:
        yield from rng.random(_BLOCK).tolist()
