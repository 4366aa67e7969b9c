"""The span of characters in a text for each of its tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

Span = tuple[int, int]
"""Characters start to end of a text, end not included."""

Encoded = tuple[list[list[int]], list[list[Span]]]
"""The ids of each text, and the span of each id."""

# an ASCII character begins something new for every normal form, so only what is not ASCII is looked at closely
_STRETCH = re.compile(r"[\x00-\x7f]+(?![^\x00-\x7f])|[\x00-\x7f]?[^\x00-\x7f]+")


def encode_by_library(core: Core, texts: Sequence[str]) -> Encoded:
    """Ids and offsets from the `tokenizers` library."""
    found = core.encode_batch(texts, add_special_tokens=False)
    return [one.ids for one in found], [one.offsets for one in found]


def trimmed(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans without the white space at their ends; one of white space alone becomes empty, at its end."""
    kept = []
    for start, end in spans:
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        kept.append((start, end))
    return kept


def moved_back(spans: Sequence[Span], origin: Sequence[Span]) -> list[Span]:
    """Spans in a rewritten text as spans in what it was before; origin: of each character of the rewritten text."""
    last = len(origin) - 1
    moved = []
    for start, end in spans:
        if start < end:
            moved.append((origin[start][0], origin[end - 1][1]))
        else:
            place = origin[min(start, last)][0] if origin else 0
            moved.append((place, place))
    return moved


def origins(text: str, normalize: Callable[[str], str], normal: str) -> list[Span] | None:
    """Where each character of `normal`, which is normalize(text), comes from; None where it is the same place.

    Characters that were composed or taken apart together have all of their origin: "e" and an accent that become one
    character, or the three that ½ becomes.
    """
    if normal == text or (text.isascii() and len(normal) == len(text)):
        return None
    found: list[Span] = []
    for stretch in _STRETCH.finditer(text):
        start = stretch.start()
        if stretch.group().isascii():
            found += [(place, place + 1) for place in range(start, stretch.end())]
            continue
        for part in _parts(stretch.group(), normalize):
            found += [(start, start + len(part))] * len(normalize(part))
            start += len(part)
    return found if len(found) == len(normal) else [(0, len(text))] * len(normal)


def _parts(text: str, normalize: Callable[[str], str]) -> list[str]:
    """The shortest parts of a text that are normalised independently of each other."""
    parts: list[str] = []
    for char in text:
        if parts and (
            unicodedata.combining(char) or normalize(parts[-1] + char) != normalize(parts[-1]) + normalize(char)
        ):
            parts[-1] += char
        else:
            parts.append(char)
    return parts
