"""From the text of a pattern to the pattern: the one parser of model settings, pictures and tests.

The language is described in `nlpcli.attention.patterns`. Importing this does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace

from nlpcli.attention.pattern_base import Both, Either, Numbered, Pattern, joined
from nlpcli.attention.patterns import PATTERNS, Blockwise, Causal, Full, Global, GlobalRandom
from nlpcli.attention.random_patterns import BigBird, Random, RandomPast
from nlpcli.errors import NlpcliError, unknown

_DEEPEST = 50


def parse(text: str, *, seed: int = 0) -> Pattern:
    """The pattern of a text such as "causal & (window:4+global:1)".

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
        return joined(Either, *parts)

    def both(self) -> Pattern:
        parts = [self.part()]
        while self.take("&"):
            parts.append(self.part())
        return joined(Both, *parts)

    def part(self) -> Pattern:
        word, place = self.words[self.next] if self.next < len(self.words) else ("", len(self.text))
        self.next += 1
        if word == "(":
            return self.inside(place)
        if word in ("", "+", "&", ")", "|"):
            raise self.wrong(f"a pattern is missing {f'before {word!r}' if word else 'at the end'}", place)
        atom = self.atom(word, place)
        if isinstance(atom, Blockwise) and self.take("("):
            return Blockwise(atom.size, self.inside(self.words[self.next - 1][1]))
        return atom

    def inside(self, place: int) -> Pattern:
        pattern = self.either()
        if not self.take(")"):
            if self.next < len(self.words):
                raise self.stray()
            raise self.wrong("')' is missing for this '('", place)
        return pattern

    def take(self, sign: str) -> bool:
        found = self.next < len(self.words) and self.words[self.next][0] == sign
        self.next += found
        return found

    def atom(self, word: str, place: int) -> Pattern:
        name = re.split("[:@]", word, maxsplit=1)[0]
        sign, rest = word[len(name) :][:1], word[len(name) + 1 :]
        if name not in PATTERNS:
            raise self.wrong(f"unknown pattern '{name}'", place, unknown("pattern", name, PATTERNS).hint)
        kind = PATTERNS[name]
        numbers = rest.split("," if sign == "@" else ":") if sign else []
        fits = kind is Global if sign == "@" else len(numbers) in _counts(kind)
        if not fits or any(not re.fullmatch(r"-?[0-9]{1,12}", part) for part in numbers):
            raise self.wrong(f"'{word}' is not of the form {kind.form}", place, _example(kind))
        values = tuple(map(int, numbers))
        try:
            if sign == "@":
                return Global(positions=values)
            if kind in (Random, RandomPast, GlobalRandom) and len(values) == 1:
                return kind(values[0], self.seed)
            if kind is BigBird and len(values) < 3:
                return replace(BigBird(*values), seed=self.seed)
            return kind(*values)
        except ValueError as error:
            raise self.wrong(f"'{word}': {error}", place, _example(kind)) from None

    def stray(self) -> NlpcliError:
        word, place = self.words[self.next]
        hints = {")": "this ')' has no '('", "|": "'or' is written +"}
        hint = hints.get(word, "write + (or) or & (and) between two patterns")
        return self.wrong(f"'{word}' is not allowed here", place, hint)

    def wrong(self, what: str, place: int, hint: str | None = None) -> NlpcliError:
        return NlpcliError(f"pattern '{self.text}', character {place + 1}: {what}", hint=hint)


def forms() -> Sequence[str]:
    """How each pattern is written, such as "window:W"."""
    return [kind.form for kind in PATTERNS.values()]


def _counts(kind: type[Pattern]) -> range:
    """How many numbers may follow a name."""
    if issubclass(kind, Numbered):
        return range(kind.required, len(fields(kind)) + 1)
    return range(0, 1) if kind in (Full, Causal) else range(1, 2)


def _example(kind: type[Pattern]) -> str:
    numbers = {"W": "4", "D": "2", "K": "1", "R": "3", "SEED": "7", "B": "8", "S": "8", "C": "2"}
    name, *letters = re.findall(r"\w+", kind.form)
    example = f"for example {':'.join([name, *(numbers[letter] for letter in letters)])}"
    return example + (
        " for the first token, or global@0,5 for the tokens at positions 0 and 5" if kind is Global else ""
    )
