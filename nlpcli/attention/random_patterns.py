"""Patterns with random keys: a function of seed, query and, for `Random`, the number of keys."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlpcli.attention.key_ranges import Range, of_positions, union
from nlpcli.attention.pattern_base import Numbered, Pattern

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Random(Numbered):
    """`count` different keys for each query, all if there are no more; the same for the same seed and length."""

    form: ClassVar[str] = "random:R[:SEED]"
    count: int
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return _among(_sampled(self.count, self.seed, length), query, key)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return _key_ranges(_sampled(self.count, self.seed, length)[first:last])

    @property
    def depends_on_length(self) -> bool:
        return True

    def left_to_right(self) -> Pattern:
        return RandomPast(self.count, self.seed)


@dataclass(frozen=True)
class RandomPast(Numbered):
    """`count` different keys for each query from those up to its own, all if there are no more.

    They are the same for the same seed and query, whatever comes later.
    """

    form: ClassVar[str] = "random-past:R[:SEED]"
    count: int
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return _among(self._table(length), query, key)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return _key_ranges(self._table(length)[first:last])

    def _table(self, length: int) -> Tensor:
        rows = 1 << max(6, (length - 1).bit_length())  # so that it is made anew seldom while a text grows
        return _sampled_past(min(self.count, rows), self.seed, rows)


@functools.lru_cache(maxsize=64)
def sample_positions(count: int, seed: int, length: int) -> tuple[int, ...]:
    """`count` different positions of a text, or all, in rising order."""
    return tuple(sorted(random.Random(f"{seed}:{length}").sample(range(length), min(count, length))))


@dataclass(frozen=True)
class BigBird(Numbered):
    """Blocks of `size` tokens: a block sees itself, its two neighbors, the first and the last block and `count` others.

    The first and the last block see all blocks. The others are sampled uniformly for each block and number of
    blocks, and are the same for the same seed. Texts of at most (5 + 2 · count) · size tokens are too short for that:
    there all see all (Zaheer et al. 2020, section 2 and appendix D, and the authors' code, which sets this border).
    """

    form: ClassVar[str] = "bigbird:B[:R[:SEED]]"
    may_be_zero: ClassVar[tuple[str, ...]] = ("R", "SEED")
    size: int
    count: int = 3
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        if self._is_short(length):
            return (query >= 0) & (key >= 0)
        last = self._blocks(length) - 1
        query, key = query // self.size, key // self.size
        near = (query - key).abs() < 2
        wide = (query == 0) | (query == last) | (key == 0) | (key == last)
        return near | wide | _among(self.sampled(last + 1), query, key)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        blocks = self._blocks(length)
        first, last = first // self.size, (last - 1) // self.size + 1
        if self._is_short(length) or first == 0 or last == blocks:
            return [(0, length)]
        seen = [*_key_ranges(self.sampled(blocks)[first:last]), (first - 1, last + 1), (0, 1), (blocks - 1, blocks)]
        return [(start * self.size, min(end * self.size, length)) for start, end in union(seen)]

    def breaks(self, length: int) -> set[int]:
        if self._is_short(length):
            return set()
        return {self.size, (self._blocks(length) - 1) * self.size}

    def sampled(self, blocks: int) -> Tensor:
        """(blocks, count): the random blocks of each block, in rising order; those of the first and last one are 0."""
        return _sampled_blocks(self.count, self.seed, blocks)

    @property
    def depends_on_length(self) -> bool:
        return True

    def _blocks(self, length: int) -> int:
        return -(-length // self.size)

    def _is_short(self, length: int) -> bool:
        return length <= (5 + 2 * self.count) * self.size


def _among(sampled: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Whether the key is in the query's row of `sampled`."""
    sampled = sampled.to(query.device)
    seen = (query < 0) & (key < 0)
    for column in sampled.unbind(1):
        seen = seen | (column[query] == key)
    return seen


@functools.lru_cache(maxsize=64)
def _sampled(count: int, seed: int, length: int) -> Tensor:
    """(length, min(count, length)): the keys of each query, in rising order."""
    import torch

    source = random.Random(seed)
    sampled = [sorted(source.sample(range(length), min(count, length))) for _ in range(length)]
    with torch.inference_mode(False):
        return torch.tensor(sampled, dtype=torch.long, device="cpu").reshape(length, min(count, length))


@functools.lru_cache(maxsize=64)
def _sampled_blocks(count: int, seed: int, blocks: int) -> Tensor:
    """See `BigBird.sampled`; there are more blocks than 5 + count."""
    import torch

    source = random.Random(seed)
    sampled = [[0] * count]
    for block in range(1, blocks - 1):
        others = [other for other in range(1, blocks - 1) if abs(other - block) > 1]
        sampled.append(sorted(source.sample(others, count)))
    sampled.append([0] * count)
    with torch.inference_mode(False):
        return torch.tensor(sampled, dtype=torch.long, device="cpu").reshape(blocks, count)


@functools.lru_cache(maxsize=64)
def _sampled_past(count: int, seed: int, length: int) -> Tensor:
    """(length, count): the keys of each query, in rising order, -1 where there are not so many."""
    import torch

    sampled = []
    for i in range(length):
        keys = sorted(random.Random(f"{seed}:{i}").sample(range(i + 1), min(count, i + 1)))
        sampled.append(keys + [-1] * (count - len(keys)))
    with torch.inference_mode(False):
        return torch.tensor(sampled, dtype=torch.long, device="cpu").reshape(length, count)


def _key_ranges(sampled: Tensor) -> list[Range]:
    return of_positions(key for key in sampled.unique().tolist() if key >= 0)
