"""The base class of attention patterns, which combine with `|` and `&`. Importing this does not import torch."""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from nlpcli.attention.key_ranges import Range, intersection, union

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST = 2**31 - 1
"""The largest number in a pattern."""


@dataclass(frozen=True)
class Horizon:
    """The keys that a decoder must keep: the `first` first ones and the `last` newest ones; None: all.

    The newest ones count the query's own: a causal window of W needs W of them.
    """

    first: int = 0
    last: int | None = None


class Pattern(ABC):
    """For query i and key j: may i attend to j? `|` is or, `&` is and; `str` gives a text that `parse` reads back.

    form: how a pattern that has a name is written.
    """

    form: ClassVar[str]

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        """Boolean, element by element: may the query at position `query` attend to the key at position `key`?

        query, key: integers of shapes that broadcast, counted in a text of `length` keys, from 0 to length - 1. Only
        elementwise operations and look-ups are used, so that it serves as FlexAttention's `mask_mod` too.
        """

    def dense(self, n: int, m: int | None = None, *, device: torch.device | str = "cpu") -> Tensor:
        """(n, m) boolean, True = may attend, for the last n queries of a text of m keys; m is n when left out.

        Raises: ValueError for more queries than keys.
        """
        import torch

        m = n if m is None else m
        if n > m:
            raise ValueError(f"there are {n} queries but only {m} keys")
        key = torch.arange(m, device=device)
        query = key[m - n :, None]
        return self.allows(query, key, m).expand(n, m).contiguous()

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        """Ascending, separate ranges of keys that contain all keys of the queries from `first` to before `last`."""
        return [(0, length)]

    def breaks(self, length: int) -> set[int]:
        """The queries at which `reach` changes suddenly."""
        return set()

    @property
    def horizon(self) -> Horizon:
        """The keys that a decoder with this pattern must keep."""
        return Horizon()

    @property
    def depends_on_length(self) -> bool:
        """Whether what a query sees of the keys so far changes when the text grows."""
        return False

    def left_to_right(self) -> Pattern:
        """The pattern as a decoder uses it: without `Causal`, and random keys are sampled from the past."""
        return self

    def __or__(self, other: Pattern) -> Pattern:
        return joined(Either, self, other)

    def __and__(self, other: Pattern) -> Pattern:
        return joined(Both, self, other)


@dataclass(frozen=True)
class Numbered(Pattern):
    """A name and whole numbers: the first `required` ones must be given; those of `may_be_zero` may be 0."""

    form: ClassVar[str]
    required: ClassVar[int] = 1
    may_be_zero: ClassVar[tuple[str, ...]] = ("SEED",)

    def __post_init__(self) -> None:
        names = self.form.replace("[", "").replace("]", "").split(":")[1:]
        for name, field in zip(names, fields(self), strict=True):
            least = 0 if name in self.may_be_zero else 1
            number = getattr(self, field.name)
            if not least <= number <= LARGEST:
                raise ValueError(f"{name} is {number}, but must be a whole number from {least} to {LARGEST}")

    def __str__(self) -> str:
        numbers = [getattr(self, field.name) for field in fields(self)]
        while len(numbers) > self.required and numbers[-1] == fields(self)[len(numbers) - 1].default:
            numbers.pop()
        return ":".join([self.form.partition(":")[0], *map(str, numbers)])


@dataclass(frozen=True)
class _Joined(Pattern):
    sign: ClassVar[str]
    parts: tuple[Pattern, ...]

    def breaks(self, length: int) -> set[int]:
        return set().union(*(part.breaks(length) for part in self.parts))

    @property
    def depends_on_length(self) -> bool:
        return any(part.depends_on_length for part in self.parts)

    def left_to_right(self) -> Pattern:
        return joined(type(self), *(part.left_to_right() for part in self.parts))

    def __str__(self) -> str:
        return self.sign.join(f"({part})" if isinstance(part, _Joined) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Either(_Joined):
    """Allows what one of the parts allows."""

    sign: ClassVar[str] = "+"

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return functools.reduce(operator.or_, (part.allows(query, key, length) for part in self.parts))

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return union(found for part in self.parts for found in part.reach(first, last, length))

    @property
    def horizon(self) -> Horizon:
        parts = [part.horizon for part in self.parts]
        lasts = [part.last for part in parts if part.last is not None]
        return Horizon(max(part.first for part in parts), max(lasts) if len(lasts) == len(parts) else None)


@dataclass(frozen=True)
class Both(_Joined):
    """Allows what all of the parts allow."""

    sign: ClassVar[str] = " & "

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return functools.reduce(operator.and_, (part.allows(query, key, length) for part in self.parts))

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return functools.reduce(intersection, (part.reach(first, last, length) for part in self.parts))

    @property
    def horizon(self) -> Horizon:
        horizons = [part.horizon for part in self.parts]
        bounded = [(horizon.first, horizon.last) for horizon in horizons if horizon.last is not None]
        if not bounded:
            return Horizon()
        return Horizon(max(first for first, _ in bounded), min(last for _, last in bounded))


def joined(kind: type[_Joined], *patterns: Pattern) -> Pattern:
    """The parts of like unions or intersections laid flat, each named once."""
    flat = [part for pattern in patterns for part in (pattern.parts if isinstance(pattern, kind) else (pattern,))]
    parts = tuple(dict.fromkeys(flat))
    return parts[0] if len(parts) == 1 else kind(parts)
