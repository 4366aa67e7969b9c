"""Who may look at whom: patterns of attention, as short texts, as objects that combine, and as matrices.

    causal & (window:4+global:1)          Causal() & (Window(4) | Global(1))

A pattern says for query i and key j whether i may look at j: True = may attend. Positions count from 0 in the keys; n
queries are the last n of m keys, as in a decoder that has read m - n tokens before. In a text, `+` is or and `&` is
and; `&` binds tighter, as in Python, and parentheses group. `causal & window:4+global:1` is therefore not causal: token
0 sees everything. Numbers follow a name after colons:

    full               everyone sees everyone (Vaswani et al. 2017)
    causal             j <= i: nobody sees what comes later
    prefix:K           all see the first K; causal+prefix:K is a prefix language model (Raffel et al. 2020, fig. 3)
    window:W           |i - j| < W: W keys each way, the own one counted in both, so 2 W - 1 keys in a row, and W where
                       it is causal. Longformer's window w is window:W with W = w/2 + 1 (Beltagy et al. 2020, fig. 2b)
    dilated:W:D        a window with gaps: W keys each way, each D from the next (fig. 2c there)
    global:K           the first K tokens see all, and all see them (fig. 2d there); global@0,5,-1 names the positions,
                       negative ones from the end
    random:R           R different keys for each query, all equally likely (BigBird; Zaheer et al. 2020, fig. 1a);
                       random:R:SEED is another draw. The draw changes with the number of keys
    random-past:R      the same among the keys up to the query's own, whatever comes later: random:R in a decoder
    blockwise:B        i and j lie in the same block of B tokens; blockwise:B(pattern) is a pattern of blocks instead of
                       tokens: BigBird is blockwise:64(window:2+global@0,-1+random:3)
    strided:S          every S-th key, counted from the query: one of the two heads of Child et al. 2019 (fig. 3b);
                       both together are causal & (window:S+strided:S)
    fixed:S            the last key of each block of S, fixed:S:C the last C (fig. 3c there);
                       both heads together are causal & (blockwise:S+fixed:S)

`nlpcli.attention.pattern_parser` reads these texts. Importing this does not import torch.
"""

from __future__ import annotations

import functools
import operator
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LARGEST = 2**31 - 1

Range = tuple[int, int]
"""Positions from the first to before the second."""


@dataclass(frozen=True)
class Horizon:
    """What a decoder must remember: the first `first` keys, and the `last` newest ones; None: all.

    The newest ones count the query's own: a causal window of W needs W of them.
    """

    first: int = 0
    last: int | None = None


class Pattern(ABC):
    """For query i and key j: may i look at j? `|` is or, `&` is and; `str` gives a text that `parse` reads back.

    form: how a pattern that has a name is written.
    """

    form: ClassVar[str]

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        """Boolean, element by element: may the query at position `query` look at the key at position `key`?

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
        """Ranges of keys, rising and apart, outside of which no query from `first` to before `last` may look."""
        return [(0, length)]

    def breaks(self, length: int) -> set[int]:
        """The queries at which `reach` changes suddenly."""
        return set()

    @property
    def horizon(self) -> Horizon:
        """What a decoder with this pattern must remember of the keys."""
        return Horizon()

    @property
    def counts_on_length(self) -> bool:
        """Whether what a query sees of the keys so far changes when the text grows."""
        return False

    def left_to_right(self) -> Pattern:
        """The pattern as a decoder uses it: without `Causal`, and what it draws is drawn from the past."""
        return self

    def __or__(self, other: Pattern) -> Pattern:
        return joined(Either, self, other)

    def __and__(self, other: Pattern) -> Pattern:
        return joined(Both, self, other)


@dataclass(frozen=True)
class Full(Pattern):
    """Everyone sees everyone."""

    form: ClassVar[str] = "full"

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query >= 0) & (key >= 0)

    def __str__(self) -> str:
        return "full"


@dataclass(frozen=True)
class Causal(Pattern):
    """j <= i: a query sees itself and what came before."""

    form: ClassVar[str] = "causal"

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return key <= query

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return [(0, last)]

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class Numbered(Pattern):
    """A name and whole numbers, the first `required` of which must be given."""

    form: ClassVar[str]
    required: ClassVar[int] = 1

    def __post_init__(self) -> None:
        names = self.form.replace("[", "").replace("]", "").split(":")[1:]
        for name, field in zip(names, fields(self), strict=True):
            least = 0 if name == "SEED" else 1
            number = getattr(self, field.name)
            if not least <= number <= _LARGEST:
                raise ValueError(f"{name} is {number}, but must be a whole number from {least} to {_LARGEST}")

    def __str__(self) -> str:
        numbers = [getattr(self, field.name) for field in fields(self)]
        if len(numbers) > self.required and numbers[-1] == fields(self)[-1].default:
            numbers.pop()
        return ":".join([self.form.partition(":")[0], *map(str, numbers)])


@dataclass(frozen=True)
class Prefix(Numbered):
    """j < count: the first tokens are seen by all, and see what else the pattern allows."""

    form: ClassVar[str] = "prefix:K"
    count: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (key < self.count) & (query >= 0)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return [(0, min(self.count, length))]

    @property
    def horizon(self) -> Horizon:
        return Horizon(self.count, 0)


@dataclass(frozen=True)
class Window(Numbered):
    """|i - j| < width, so that a window of 1 is the token itself."""

    form: ClassVar[str] = "window:W"
    width: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key).abs() < self.width

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return [(max(0, first - self.width + 1), min(length, last + self.width - 1))]

    @property
    def horizon(self) -> Horizon:
        return Horizon(0, self.width)


@dataclass(frozen=True)
class Dilated(Numbered):
    """|i - j| = k · gap for some k < width (Beltagy et al. 2020, section 3.1)."""

    form: ClassVar[str] = "dilated:W:D"
    required: ClassVar[int] = 2
    width: int
    gap: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        away = (query - key).abs()
        return (away % self.gap == 0) & (away < self.width * self.gap)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        far = (self.width - 1) * self.gap
        return [(max(0, first - far), min(length, last + far))]

    @property
    def horizon(self) -> Horizon:
        return Horizon(0, (self.width - 1) * self.gap + 1)


@dataclass(frozen=True)
class Strided(Numbered):
    """(i - j) mod step = 0 (Child et al. 2019, section 4.3, the second head of strided attention)."""

    form: ClassVar[str] = "strided:S"
    step: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key) % self.step == 0

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        if last - first >= self.step:
            return [(0, length)]
        begin = first % self.step - self.step
        return _within(
            ((start, start + last - first) for start in range(begin, length, self.step)),
            length,
        )


@dataclass(frozen=True)
class Fixed(Numbered):
    """j mod size >= size - last (Child et al. 2019, section 4.3, the second head of fixed attention)."""

    form: ClassVar[str] = "fixed:S[:C]"
    size: int
    last: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last > self.size:
            raise ValueError(f"C is {self.last}, but must be at most S, the {self.size} keys of a block")

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query >= 0) & (key % self.size >= self.size - self.last)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        ends = range(self.size, length + self.last, self.size)
        return _within(((end - self.last, end) for end in ends), length)


@dataclass(frozen=True)
class Random(Numbered):
    """`count` different keys for each query, all if there are no more; the same for the same seed and length."""

    form: ClassVar[str] = "random:R[:SEED]"
    count: int
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return _among(_drawn(self.count, self.seed, length), query, key)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return _singles(_drawn(self.count, self.seed, length)[first:last])

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
        return _singles(self._table(length)[first:last])

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


@dataclass(frozen=True)
class Global(Pattern):
    """Tokens that see all and that all see: the first `count`, or those at `positions`, from the end where negative.

    A position outside of the text is nobody's.
    """

    form: ClassVar[str] = "global:K"
    count: int = 0
    positions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.count and self.positions:
            raise ValueError("global tokens are either the first K or those at given positions, not both")
        if not (self.positions or 1 <= self.count <= _LARGEST):
            raise ValueError(f"K is {self.count}, but must be a whole number from 1 to {_LARGEST}")
        if any(abs(position) > _LARGEST for position in self.positions):
            raise ValueError(f"positions must be whole numbers up to {_LARGEST}")
        object.__setattr__(self, "positions", tuple(dict.fromkeys(self.positions)))

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return self._among(query, length) | self._among(key, length)

    def _among(self, place: Tensor, length: int) -> Tensor:
        found = place < self.count
        for position in self.positions:
            found = found | (place == position % length if -length <= position < length else place < 0)
        return found

    def _ranges(self, length: int) -> list[Range]:
        """Where the global tokens stand."""
        if self.count:
            return [(0, min(self.count, length))]
        places = (position % length for position in self.positions if -length <= position < length)
        return union((place, place + 1) for place in places)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        own = self._ranges(length)
        return [(0, length)] if intersection(own, [(first, last)]) else own

    def breaks(self, length: int) -> set[int]:
        return {place for places in self._ranges(length) for place in places}

    @property
    def horizon(self) -> Horizon:
        return Horizon(max(self.count, *(place + 1 for place in self.positions), 0), 0)

    @property
    def counts_on_length(self) -> bool:
        return any(position < 0 for position in self.positions)

    def __str__(self) -> str:
        return "global@" + ",".join(map(str, self.positions)) if self.positions else f"global:{self.count}"


@dataclass(frozen=True)
class Blockwise(Pattern):
    """`inner` between the blocks of `size` tokens in which i and j lie; without it, both lie in the same block."""

    form: ClassVar[str] = "blockwise:B"
    size: int
    inner: Pattern = Window(1)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST:
            raise ValueError(f"B is {self.size}, but must be a whole number from 1 to {_LARGEST}")

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return self.inner.allows(query // self.size, key // self.size, self._blocks(length))

    def _blocks(self, length: int) -> int:
        return -(-length // self.size)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        blocks = self.inner.reach(first // self.size, (last - 1) // self.size + 1, self._blocks(length))
        return [(start * self.size, min(end * self.size, length)) for start, end in blocks]

    def breaks(self, length: int) -> set[int]:
        return {place * self.size for place in self.inner.breaks(self._blocks(length))}

    @property
    def horizon(self) -> Horizon:
        inner = self.inner.horizon
        return Horizon(inner.first * self.size, None if inner.last is None else inner.last * self.size)

    @property
    def counts_on_length(self) -> bool:
        return self.inner.counts_on_length

    def left_to_right(self) -> Pattern:
        return replace(self, inner=self.inner.left_to_right())

    def __str__(self) -> str:
        return f"blockwise:{self.size}" + ("" if self.inner == Window(1) else f"({self.inner})")


@dataclass(frozen=True)
class _Joined(Pattern):
    sign: ClassVar[str]
    parts: tuple[Pattern, ...]

    def breaks(self, length: int) -> set[int]:
        return set().union(*(part.breaks(length) for part in self.parts))

    @property
    def counts_on_length(self) -> bool:
        return any(part.counts_on_length for part in self.parts)

    def left_to_right(self) -> Pattern:
        return joined(type(self), *(part.left_to_right() for part in self.parts))

    def __str__(self) -> str:
        return self.sign.join(f"({part})" if isinstance(part, _Joined) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Either(_Joined):
    """What one of the parts allows."""

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
    """What all of the parts allow."""

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


def split_causal(pattern: Pattern) -> tuple[bool, Pattern]:
    """Whether the pattern is `Causal() & rest` or `Causal()`, and the rest, which is `Full()` where there is none."""
    parts = pattern.parts if isinstance(pattern, Both) else (pattern,)
    rest = [part for part in parts if part not in (Causal(), Full())]
    return Causal() in parts, joined(Both, *rest) if rest else Full()


def decoder_pattern(pattern: Pattern) -> Pattern:
    """What a decoder whose setting is `pattern` looks at: `pattern` so far as it lies in the past.

    Raises: ValueError for a pattern that counts from the end of the text, which a decoder doesn't know.
    """
    _, rest = split_causal(pattern.left_to_right())
    if rest.counts_on_length:
        raise ValueError(f"'{rest}' counts from the end of the text, which a decoder does not know")
    return Causal() & rest if rest != Full() else Causal()


# --- ranges ------------------------------------------------------------------------------------------------------


def union(ranges: Iterable[Range]) -> list[Range]:
    """The same positions in ranges that rise and don't touch."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def intersection(left: list[Range], right: list[Range]) -> list[Range]:
    """What lies in both of two lists of rising ranges."""
    found, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def _within(ranges: Iterable[Range], length: int) -> list[Range]:
    return union((max(0, start), min(end, length)) for start, end in ranges)


def _singles(keys: Tensor) -> list[Range]:
    return union((key, key + 1) for key in keys.unique().tolist() if key >= 0)


PATTERNS: dict[str, type[Pattern]] = {
    kind.form.partition(":")[0]: kind
    for kind in (Full, Causal, Prefix, Window, Dilated, Global, Random, RandomPast, Blockwise, Strided, Fixed)
}
