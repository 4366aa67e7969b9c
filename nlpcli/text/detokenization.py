"""Tokens as bytes: decoding and word borders for every kind whose tokens, laid end to end, are the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

SPACE_MARK = "\u2581"  # a space in printed tokens, as in SentencePiece


def byte_piece(value: int) -> str:
    """The spelling of a single byte: `<0x0A>`."""
    return f"<0x{value:02X}>"


BYTE_PIECES = [byte_piece(value) for value in range(256)]


def printable(token: str) -> str:
    """`token` without control characters and line ends, which are spelled as bytes, so that it fits on a line."""
    if token.isprintable():
        return token
    return "".join(
        "".join(map(byte_piece, char.encode())) if char < " " or char in "\x7f\x85\u2028\u2029" else char
        for char in token
    )


def join_surfaces(surfaces: Sequence[bytes], ids: Sequence[int]) -> str:
    """The text of `ids`; bytes that are not UTF-8 (only a model can write them) become U+FFFD."""
    return b"".join([surfaces[id_] for id_ in ids]).decode("utf-8", "replace")


def word_starts(tokens: Sequence[bytes]) -> list[bool]:
    """One True for each whitespace-separated word: at its first token, or at the single space in a token of its own
    just before it. A token that spans several words is marked once."""
    starts = [False] * len(tokens)
    ends = list(accumulate(map(len, tokens)))
    # one character a byte where the bytes are broken, so that offsets stay true
    text = b"".join(tokens).decode("utf-8", "surrogateescape")
    offset, within, previous_space = 0, False, -1
    for char in text:
        size = 1 if "\udc80" <= char <= "\udcff" else len(char.encode())
        if char.isspace():
            within, previous_space = False, offset
        elif not within:
            within = True
            at = bisect_right(ends, offset)
            if at and _is_lone_space(tokens, ends, at - 1, offset, previous_space):
                at -= 1
            starts[at] = True
        offset += size
    return starts


def _is_lone_space(tokens: Sequence[bytes], ends: Sequence[int], at: int, word: int, space: int) -> bool:
    return ends[at] == word and space >= 0 and ends[at] - len(tokens[at]) == space
