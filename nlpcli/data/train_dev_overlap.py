"""Finds dev examples that are also in the training data, and dev pairs whose sides are exchanged."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from nlpcli.data.language_sides import Sides

SWAPPED = 6.0
"""Nats of evidence of both lines of a pair together for being exchanged."""

_TRAINING_PAIRS, _HELD_OUT_PAIRS = 20_000, 1_000  # that the languages of both sides are learnt from and looked for in


class Placed(NamedTuple):
    """The texts of an example, and where it stands."""

    texts: Sequence[str]
    place: str


@dataclass(frozen=True)
class Shared:
    """The number of dev examples that are also in the training data; the places of the first one in both."""

    count: int
    total: int
    held_out: str
    training: str


def normal(line: str) -> str:
    """A line without differences of case, of white space and of compatible characters (NFKC)."""
    if not line.isascii():
        line = unicodedata.normalize("NFKC", line)
    return " ".join(line.casefold().split())


def shared(held_out: Iterable[Placed], training: Iterable[Placed]) -> Shared | None:
    """The dev examples with the same normalized texts as a training example; None without any.

    Examples without text don't count. The training data goes by in constant memory; of each held-out example a hash is
    kept.
    """
    places: dict[int, list[int]] = {}  # hash -> numbers
    names: list[str] = []
    for number, (texts, place) in enumerate(held_out):
        names.append(place)
        if any(text and not text.isspace() for text in texts):
            places.setdefault(_hash(texts), []).append(number)
    found: dict[int, str] = {}
    for texts, place in training:
        if len(found) == len(places):
            break
        key = _hash(texts)
        if key in places:
            found.setdefault(key, place)
    if not found:
        return None
    first = min(found, key=lambda key: places[key][0])
    return Shared(sum(len(places[key]) for key in found), len(names), names[places[first][0]], found[first])


def swapped(held_out: Iterable[tuple[str, str]], training: Iterable[tuple[str, str]]) -> bool:
    """Whether most dev pairs seem to have exchanged sides, compared with the first training pairs."""
    sides = Sides()
    for side, lines in enumerate(zip(*islice(training, _TRAINING_PAIRS), strict=True)):
        sides.count(side, lines)
    pairs = [pair for pair in islice(held_out, _HELD_OUT_PAIRS) if all(text.strip() for text in pair)]
    if not pairs:
        return False
    first, second = (sides.evidence(side, lines) for side, lines in enumerate(zip(*pairs, strict=True)))
    exchanged = (first < 0) & (second > 0) & (second - first > SWAPPED)
    return bool(np.mean(exchanged) > 0.5)


def placed_pairs(pairs: Iterable[tuple[str, str]], name: str) -> Iterator[Placed]:
    """Pairs of lines with their places in the file of this name."""
    return (Placed(pair, f"{name}:{number}") for number, pair in enumerate(pairs, start=1))


def _hash(texts: Sequence[str]) -> int:
    return hash(tuple(map(normal, texts)))
