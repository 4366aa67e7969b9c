"""Tokens as a person reads them, and the words they make up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from nlpcli.visualization.attention_data import Side

if TYPE_CHECKING:
    from nlpcli.text import Tokenizer
    from nlpcli.text.word_starts import WordStarts

SPACE_MARK = "\u2581"
_BROKEN = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8, each as a surrogate
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi, and of emoji


@dataclass(frozen=True)
class Part:
    """A stretch of what is read. special: whether its ids were put there for the model; group: the name of its part of
    the text, where there are several."""

    ids: Sequence[int]
    special: bool = False
    group: str = ""


def side(tokenizer: Tokenizer, parts: Sequence[Part]) -> Side:
    """The tokens of all parts, one after the other.

    Words are counted through all of them. Where words are written without spaces, each token counts as one.
    """
    tokens: list[str] = []
    words: list[int] = []
    count = 0
    for part in parts:
        tokens += (readable(tokenizer, id_) for id_ in part.ids)
        if part.special:
            words += [-1] * len(part.ids)
        elif part.ids:
            begun = accumulate(map(int, _word_starts(tokenizer)(part.ids)))
            numbers = [count + max(number - 1, 0) for number in begun]
            words += numbers
            count = numbers[-1] + 1
    groups = tuple(part.group for part in parts for _ in part.ids)
    special = tuple(part.special for part in parts for _ in part.ids)
    return Side(tuple(tokens), tuple(words), special, groups if any(groups) else ())


@lru_cache(maxsize=4)
def _word_starts(tokenizer: Tokenizer) -> WordStarts:
    from nlpcli.text.word_starts import WordStarts

    return WordStarts(tokenizer)


def readable(tokenizer: Tokenizer, id_: int) -> str:
    """The text of a token, on one line: `▁` for a space, `\\n` for the end of a line, `<0xF09F>` for bytes that are
    only a part of a character, `\\u202e` for a character that can't be seen. WordPiece's `##` stays."""
    surface = None if id_ in tokenizer.special.all() else tokenizer.surface(id_)
    if not surface:
        return escaped(tokenizer.id_to_piece(id_)) or f"<{id_}>"
    text = surface.decode("utf-8", "surrogateescape").replace(" ", SPACE_MARK)
    return _BROKEN.sub(_hexadecimal, escaped(text))


def _hexadecimal(found: re.Match[str]) -> str:
    return f"<0x{found.group().encode('utf-8', 'surrogateescape').hex().upper()}>"


def escaped(text: str) -> str:
    """Characters that are not seen, as their escapes."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    code = ord(char)
    if char.isprintable() or char in _JOINERS or 0xDC80 <= code <= 0xDCFF:
        return char
    if char in _NAMED:
        return _NAMED[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def behind_global_tokens(count: int, text: Side) -> Side:
    """A text behind `count` global tokens of the model, which belong to no word."""
    if not count:
        return text
    return Side(
        (*(f"<global {number}>" for number in range(1, count + 1)), *text.tokens),
        (*(-1,) * count, *text.words),
        (*(True,) * count, *text.special),
        (*("",) * count, *text.groups) if text.groups else (),
    )
