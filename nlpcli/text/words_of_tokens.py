"""The white-space separated word to which each token of a text belongs."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

NO_WORD = -1
"""The word of special tokens, padding, and blanks that belong to none."""

_WORD = re.compile(r"\S+")


def words_of_spans(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The number of the white-space separated word of `text` in which each span of characters begins.

    `NO_WORD` for an empty span.
    """
    starts = [match.start() for match in _WORD.finditer(text)]
    return [bisect_right(starts, start) - 1 if start < end else NO_WORD for start, end in spans]
