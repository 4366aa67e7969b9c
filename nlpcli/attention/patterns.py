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
    blockwise:B        i and j lie in the same block of B tokens; blockwise:B(pattern) is a pattern of blocks instead of
                       tokens: BigBird is blockwise:64(window:2+global@0,-1+random:3)
    strided:S          every S-th key, counted from the query: one of the two heads of Child et al. 2019 (fig. 3b);
                       both together are causal & (window:S+strided:S)
    fixed:S            the last key of each block of S, fixed:S:C the last C (fig. 3c there);
                       both heads together are causal & (blockwise:S+fixed:S)
"""

from __future__ import annotations

import functools
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from nlpcli.errors import NlpcliError, unknown

_LARGEST = 2**31 - 1
_DEEPEST = 50


class Pattern(ABC):
    """For query i and key j: may i look at j? `|` is or, `&` is and; `str` gives a text that `parse` reads back."""

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
        m = n if m is None else m
        if n > m:
            raise ValueError(f"{n} queries can't be the last of {m} keys")
        key = torch.arange(m, device=device)
        query = key[m - n :, None]
        return self.allows(query, key, m).expand(n, m).contiguous()

    def __or__(self, other: Pattern) -> Pattern:
        return _joined(Either, self, other)

    def __and__(self, other: Pattern) -> Pattern:
        return _joined(Both, self, other)


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

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class _Numbered(Pattern):
    """A name and whole numbers, the first `required` of which must be given."""

    form: ClassVar[str]
    required: ClassVar[int] = 1

    def __post_init__(self) -> None:
        names = self.form.replace("[", "").replace("]", "").split(":")[1:]
        for name, field in zip(names, fields(self), strict=True):
            least = 0 if name == "SEED" else 1
            number = getattr(self, field.name)
            if not least <= number <= _LARGEST:
                raise ValueError(f"{name} is {number}, and must be a whole number from {least} to {_LARGEST}")

    def __str__(self) -> str:
        numbers = [getattr(self, field.name) for field in fields(self)]
        if len(numbers) > self.required and numbers[-1] == fields(self)[-1].default:
            numbers.pop()
        return ":".join([self.form.partition(":")[0], *map(str, numbers)])


@dataclass(frozen=True)
class Prefix(_Numbered):
    """j < count: the first tokens are seen by all, and see what else the pattern allows."""

    form: ClassVar[str] = "prefix:K"
    count: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (key < self.count) & (query >= 0)


@dataclass(frozen=True)
class Window(_Numbered):
    """|i - j| < width, so that a window of 1 is the token itself (what `window:W` means in a model's settings)."""

    form: ClassVar[str] = "window:W"
    width: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key).abs() < self.width


@dataclass(frozen=True)
class Dilated(_Numbered):
    """|i - j| = k · gap for some k < width (Beltagy et al. 2020, section 3.1)."""

    form: ClassVar[str] = "dilated:W:D"
    required: ClassVar[int] = 2
    width: int
    gap: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        away = (query - key).abs()
        return (away % self.gap == 0) & (away < self.width * self.gap)


@dataclass(frozen=True)
class Strided(_Numbered):
    """(i - j) mod step = 0 (Child et al. 2019, section 4.3, the second head of strided attention)."""

    form: ClassVar[str] = "strided:S"
    step: int

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query - key) % self.step == 0


@dataclass(frozen=True)
class Fixed(_Numbered):
    """j mod size >= size - last (Child et al. 2019, section 4.3, the second head of fixed attention)."""

    form: ClassVar[str] = "fixed:S[:C]"
    size: int
    last: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last > self.size:
            raise ValueError(f"C is {self.last}, more than the {self.size} keys of a block")

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return (query >= 0) & (key % self.size >= self.size - self.last)


@dataclass(frozen=True)
class Random(_Numbered):
    """`count` different keys for each query, all if there are no more; the same for the same seed and length."""

    form: ClassVar[str] = "random:R[:SEED]"
    count: int
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        drawn = _drawn(self.count, self.seed, length).to(query.device)
        seen = (query < 0) & (key < 0)
        for column in drawn.unbind(1):
            seen = seen | (column[query] == key)
        return seen


@functools.lru_cache(maxsize=64)
def _drawn(count: int, seed: int, length: int) -> Tensor:
    """(length, min(count, length)): the keys of each query, in rising order."""
    source = random.Random(seed)
    drawn = [sorted(source.sample(range(length), min(count, length))) for _ in range(length)]
    return torch.tensor(drawn, dtype=torch.long).reshape(length, min(count, length))


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
            raise ValueError("global tokens are either the first K or those at chosen positions")
        if not (self.positions or 1 <= self.count <= _LARGEST):
            raise ValueError(f"K is {self.count}, and must be a whole number from 1 to {_LARGEST}")
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
            raise ValueError(f"B is {self.size}, and must be a whole number from 1 to {_LARGEST}")

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return self.inner.allows(query // self.size, key // self.size, -(-length // self.size))

    def __str__(self) -> str:
        return f"blockwise:{self.size}" + ("" if self.inner == Window(1) else f"({self.inner})")


@dataclass(frozen=True)
class _Joined(Pattern):
    sign: ClassVar[str]
    parts: tuple[Pattern, ...]

    def __str__(self) -> str:
        return self.sign.join(f"({part})" if isinstance(part, _Joined) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Either(_Joined):
    """What one of the parts allows."""

    sign: ClassVar[str] = "+"

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return functools.reduce(torch.logical_or, (part.allows(query, key, length) for part in self.parts))


@dataclass(frozen=True)
class Both(_Joined):
    """What all of the parts allow."""

    sign: ClassVar[str] = " & "

    def allows(self, query: Tensor, key: Tensor, length: int) -> Tensor:
        return functools.reduce(torch.logical_and, (part.allows(query, key, length) for part in self.parts))


def _joined(kind: type[_Joined], *patterns: Pattern) -> Pattern:
    """The parts of like unions or intersections laid flat, each named once."""
    flat = [part for pattern in patterns for part in (pattern.parts if isinstance(pattern, kind) else (pattern,))]
    parts = tuple(dict.fromkeys(flat))
    return parts[0] if len(parts) == 1 else kind(parts)


PATTERNS: dict[str, type[Pattern]] = {
    kind.form.partition(":")[0]: kind
    for kind in (Full, Causal, Prefix, Window, Dilated, Global, Random, Blockwise, Strided, Fixed)
}


def parse(text: str, *, seed: int = 0) -> Pattern:
    """The pattern that a text such as "causal & (window:4+global:1)" stands for.

    seed: of the random parts that name none.
    Raises: NlpcliError that names the part, its place in the text, and the nearest right name.
    """
    return _Reader(text, seed).read()


class _Reader:
    """Reads `either = both {+ both}`, `both = part {& part}`, `part = name{:number}[(either)] | (either)`."""

    def __init__(self, text: str, seed: int) -> None:
        self.text = text
        self.seed = seed
        self.words = [(found[0], found.start()) for found in re.finditer(r"[+&()|]|[^+&()|\s]+", text)]
        self.next = 0
        self.depth = 0

    def read(self) -> Pattern:
        if not self.words:
            raise NlpcliError("the pattern is empty", hint=f"write one of: {', '.join(forms())}")
        pattern = self.either()
        if self.next < len(self.words):
            raise self.stray()
        return pattern

    def either(self) -> Pattern:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.wrong(f"parentheses are nested deeper than {_DEEPEST}", self.words[self.next - 1][1])
        parts = [self.both()]
        while self.take("+"):
            parts.append(self.both())
        self.depth -= 1
        return _joined(Either, *parts)

    def both(self) -> Pattern:
        parts = [self.part()]
        while self.take("&"):
            parts.append(self.part())
        return _joined(Both, *parts)

    def part(self) -> Pattern:
        word, place = self.words[self.next] if self.next < len(self.words) else ("", len(self.text))
        self.next += 1
        if word == "(":
            return self.inside(place)
        if word in ("", "+", "&", ")", "|"):
            raise self.wrong(f"a part is missing {f'before {word!r}' if word else 'at the end'}", place)
        atom = self.atom(word, place)
        if isinstance(atom, Blockwise) and self.take("("):
            return Blockwise(atom.size, self.inside(self.words[self.next - 1][1]))
        return atom

    def inside(self, place: int) -> Pattern:
        pattern = self.either()
        if not self.take(")"):
            if self.next < len(self.words):
                raise self.stray()
            raise self.wrong("'(' is never closed", place)
        return pattern

    def take(self, sign: str) -> bool:
        found = self.next < len(self.words) and self.words[self.next][0] == sign
        self.next += found
        return found

    def atom(self, word: str, place: int) -> Pattern:
        name, sign, rest = re.fullmatch(r"([^:@]*)([:@]?)(.*)", word, re.DOTALL).groups()
        if name not in PATTERNS:
            raise self.wrong(f"there is no '{name}'", place, unknown("pattern", name, PATTERNS).hint)
        kind = PATTERNS[name]
        numbers = rest.split("," if sign == "@" else ":") if sign else []
        fits = kind is Global if sign == "@" else len(numbers) in _counts(kind)
        if not fits or any(not re.fullmatch(r"-?[0-9]{1,12}", part) for part in numbers):
            raise self.wrong(f"'{word}' is not of the form {kind.form}", place, _example(kind))
        values = tuple(map(int, numbers))
        try:
            if sign == "@":
                return Global(positions=values)
            if kind is Random and len(values) == 1:
                return Random(values[0], self.seed)
            return kind(*values)
        except ValueError as error:
            raise self.wrong(f"'{word}': {error}", place, _example(kind)) from None

    def stray(self) -> NlpcliError:
        word, place = self.words[self.next]
        hints = {")": "it closes nothing", "|": "'or' is written +"}
        hint = hints.get(word, "put + (or) or & (and) between two parts")
        return self.wrong(f"'{word}' does not belong here", place, hint)

    def wrong(self, what: str, place: int, hint: str | None = None) -> NlpcliError:
        return NlpcliError(f"pattern '{self.text}', character {place + 1}: {what}", hint=hint)


def forms() -> Sequence[str]:
    """How each pattern is written, such as "window:W"."""
    return [kind.form for kind in PATTERNS.values()]


def _counts(kind: type[Pattern]) -> range:
    """How many numbers may follow a name."""
    if issubclass(kind, _Numbered):
        return range(kind.required, len(fields(kind)) + 1)
    return range(0, 1) if kind in (Full, Causal) else range(1, 2)


def _example(kind: type[Pattern]) -> str:
    numbers = {"W": "4", "D": "2", "K": "1", "R": "3", "SEED": "7", "B": "8", "S": "8", "C": "2"}
    name, *letters = re.findall(r"\w+", kind.form)
    example = f"for instance {':'.join([name, *(numbers[letter] for letter in letters)])}"
    return example + (" for the first token, or global@0,5 for those at 0 and 5" if kind is Global else "")
