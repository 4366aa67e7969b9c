"""Patterns whose keys are drawn at random: a function of seed, query and, for `Random`, the number of keys."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlpcli.attention.key_ranges import Range, of_positions
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
        return _among(_drawn(self.count, self.seed, length), query, key)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return _key_ranges(_drawn(self.count, self.seed, length)[first:last])

    @property
    def counts_on_length(self) -> bool:
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
        return _drawn_past(min(self.count, rows), self.seed, rows)


def _among(drawn: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Whether the key is in the query's row of `drawn`."""
    drawn = drawn.to(query.device)
    seen = (query < 0) & (key < 0)
    for column in drawn.unbind(1):
        seen = seen | (column[query] == key)
    return seen


@functools.lru_cache(maxsize=64)
def _drawn(count: int, seed: int, length: int) -> Tensor:
    """(length, min(count, length)): the keys of each query, in rising order."""
    import torch

    source = random.Random(seed)
    drawn = [sorted(source.sample(range(length), min(count, length))) for _ in range(length)]
    with torch.inference_mode(False):
        return torch.tensor(drawn, dtype=torch.long, device="cpu").reshape(length, min(count, length))


@functools.lru_cache(maxsize=64)
def _drawn_past(count: int, seed: int, length: int) -> Tensor:
    """(length, count): the keys of each query, in rising order, -1 where there are not so many."""
    import torch

    drawn = []
    for i in range(length):
        keys = sorted(random.Random(f"{seed}:{i}").sample(range(i + 1), min(count, i + 1)))
        drawn.append(keys + [-1] * (count - len(keys)))
    with torch.inference_mode(False):
        return torch.tensor(drawn, dtype=torch.long, device="cpu").reshape(length, count)


def _key_ranges(drawn: Tensor) -> list[Range]:
    return of_positions(key for key in drawn.unique().tolist() if key >= 0)
