"""Patterns of attention: which keys a query may attend to, as short texts, as objects that combine, and as matrices.

    causal & (window:4+global:1)          Causal() & (Window(4) | Global(1))

A pattern defines for query i and key j whether i may attend to j. Positions count from 0 in the keys; n
queries are the last n of m keys, as in a decoder that has read m - n tokens before. In a text, `+` is or and `&` is
and; `&` binds tighter, as in Python, and parentheses group. `causal & window:4+global:1` is therefore not causal: token
0 sees everything. Numbers follow a name after colons:

    full               everyone sees everyone (Vaswani et al. 2017)
    causal             j <= i: nobody sees what comes later
    prefix:K           all see the first K; causal+prefix:K is a prefix language model (Raffel et al. 2020, fig. 3)
    window:W           |i - j| < W: W keys each way, the own one counted in both, so 2 W - 1 keys in a row, and W where
                       it is causal. Longformer's window w is window:W with W = w/2 + 1 (Beltagy et al. 2020, fig. 2b)
    restricted:R       |i - j| <= R: R keys on each side and the own one, window:R+1 (Vaswani et al. 2017, section 4). A
                       window w with w/2 keys on each side is restricted:R with R = w/2
    dilated:W:D        a window with gaps: W keys each way, each D from the next (fig. 2c there)
    global:K           the first K tokens see all, and all see them (fig. 2d there); global@0,5,-1 names the positions,
                       negative ones from the end; global-random:K, or global-random:K:SEED, samples K positions of
                       the text
    random:R           R different keys for each query, all equally likely (BigBird; Zaheer et al. 2020, fig. 1a);
                       random:R:SEED is another sample. The sample changes with the number of keys
    random-past:R      the same among the keys up to the query's own, whatever comes later: random:R in a decoder
    blockwise:B        i and j lie in the same block of B tokens; blockwise:B(pattern) is a pattern of blocks instead of
                       tokens
    bigbird:B          blocks of B tokens: a block sees itself, its two neighbors, the first and the last block and
                       3 random other ones, bigbird:B:R R of them; the first and the last block see all (BigBird,
                       Zaheer et al. 2020, fig. 1d). bigbird:B:R:SEED is another sample. Texts of at most (5 + 2 R) B
                       tokens are full attention
    strided:S          every S-th key, counted from the query: one of the two heads of Child et al. 2019 (fig. 3b);
                       both together are causal & (window:S+strided:S)
    fixed:S            the last key of each block of S, fixed:S:C the last C (fig. 3c there);
                       both heads together are causal & (blockwise:S+fixed:S)

`nlpcli.attention.pattern_parser` reads these texts. Importing this does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nlpcli.attention.key_ranges import Range, intersection, of_positions, within
from nlpcli.attention.pattern_base import LARGEST, Both, Either, Horizon, Numbered, Pattern, joined
from nlpcli.attention.random_patterns import BigBird, Random, RandomPast, sample_positions

if TYPE_CHECKING:
    from torch import Tensor


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
class Restricted(Numbered):
    """|i - j| <= radius."""

    form: ClassVar[str] = "restricted:R"
    radius: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key).abs() <= self.radius

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return [(max(0, first - self.radius), min(length, last + self.radius))]

    @property
    def horizon(self) -> Horizon:
        return Horizon(0, self.radius + 1)


@dataclass(frozen=True)
class Dilated(Numbered):
    """|i - j| = k · gap for some k < width (Beltagy et al. 2020, section 3.1)."""

    form: ClassVar[str] = "dilated:W:D"
    required: ClassVar[int] = 2
    width: int
    gap: int

    @property
    def divisor(self) -> int:
        """Queries see keys whose positions leave the same remainder."""
        return self.gap

    @property
    def places_away(self) -> int | None:
        """How many places among these keys are seen to each side."""
        return self.width - 1

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

    @property
    def divisor(self) -> int:
        """Queries see keys whose positions leave the same remainder."""
        return self.step

    @property
    def places_away(self) -> int | None:
        """All of these keys are seen."""
        return None

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key) % self.step == 0

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        if last - first >= self.step:
            return [(0, length)]
        begin = first % self.step - self.step
        return within(
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
        return within(((end - self.last, end) for end in ends), length)


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
        if not (self.positions or 1 <= self.count <= LARGEST):
            raise ValueError(f"K is {self.count}, but must be a whole number from 1 to {LARGEST}")
        if any(abs(position) > LARGEST for position in self.positions):
            raise ValueError(f"positions must be whole numbers up to {LARGEST}")
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
        return of_positions(places)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        own = self._ranges(length)
        return [(0, length)] if intersection(own, [(first, last)]) else own

    def breaks(self, length: int) -> set[int]:
        return {place for places in self._ranges(length) for place in places}

    @property
    def horizon(self) -> Horizon:
        return Horizon(max(self.count, *(place + 1 for place in self.positions), 0), 0)

    @property
    def depends_on_length(self) -> bool:
        return any(position < 0 for position in self.positions)

    def __str__(self) -> str:
        return "global@" + ",".join(map(str, self.positions)) if self.positions else f"global:{self.count}"


@dataclass(frozen=True)
class GlobalRandom(Numbered):
    """Global tokens at `count` positions of the text, or at all, the same for the same seed and length."""

    form: ClassVar[str] = "global-random:K[:SEED]"
    count: int
    seed: int = 0

    def _sampled(self, length: int) -> Global:
        return Global(positions=sample_positions(self.count, self.seed, length))

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return self._sampled(length).allows(query, key, length)

    def reach(self, first: int, last: int, length: int) -> list[Range]:
        return self._sampled(length).reach(first, last, length)

    def breaks(self, length: int) -> set[int]:
        return self._sampled(length).breaks(length)

    @property
    def depends_on_length(self) -> bool:
        return True


@dataclass(frozen=True)
class Blockwise(Pattern):
    """`inner` between the blocks of `size` tokens in which i and j lie; without it, both lie in the same block."""

    form: ClassVar[str] = "blockwise:B"
    size: int
    inner: Pattern = Window(1)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST:
            raise ValueError(f"B is {self.size}, but must be a whole number from 1 to {LARGEST}")

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
    def depends_on_length(self) -> bool:
        return self.inner.depends_on_length

    def left_to_right(self) -> Pattern:
        return replace(self, inner=self.inner.left_to_right())

    def __str__(self) -> str:
        return f"blockwise:{self.size}" + ("" if self.inner == Window(1) else f"({self.inner})")


def split_causal(pattern: Pattern) -> tuple[bool, Pattern]:
    """Whether the pattern is `Causal() & rest` or `Causal()`, and the rest, which is `Full()` where there is none."""
    parts = pattern.parts if isinstance(pattern, Both) else (pattern,)
    rest = [part for part in parts if part not in (Causal(), Full())]
    return Causal() in parts, joined(Both, *rest) if rest else Full()


def split_by_remainder(pattern: Pattern) -> tuple[Pattern | None, Strided | Dilated] | None:
    """The rest of "strided:S+rest" or "dilated:W:S+rest", causal if the pattern is, and its strided or dilated part;
    None for other patterns."""
    causal, rest = split_causal(pattern)
    parts = rest.parts if isinstance(rest, Either) else (rest,)
    found = [part for part in parts if isinstance(part, (Strided, Dilated))]
    if len(found) != 1:
        return None
    others = [part for part in parts if part is not found[0]]
    if not others:
        return None, found[0]
    near = joined(Either, *others)
    return Causal() & near if causal else near, found[0]


def decoder_pattern(pattern: Pattern) -> Pattern:
    """The pattern of a decoder with the setting `pattern`: its part that lies in the past.

    Raises: ValueError for a pattern that depends on the length of the text, which a decoder doesn't know.
    """
    _, rest = split_causal(pattern.left_to_right())
    if rest.depends_on_length:
        raise ValueError(f"'{rest}' depends on the length of the text, which a decoder does not know")
    return Causal() & rest if rest != Full() else Causal()


PATTERNS: dict[str, type[Pattern]] = {
    kind.form.partition(":")[0]: kind
    for kind in (
        Full, Causal, Prefix, Window, Restricted, Dilated, Global, GlobalRandom, Random, RandomPast, Blockwise, BigBird,
        Strided, Fixed,
    )
}  # fmt: skip
