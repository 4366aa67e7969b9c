"""The longest common subsequence of two sequences, in the bits of whole numbers.

Row i of the usual table is one number: bit j is 0 where the length grows between columns j and j + 1. A row follows
from the one before in a few operations on numbers as long as the other sequence. Source: Hyyrö 2004, "Bit-parallel
LCS-length computation revisited".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def common_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence."""
    if len(first) < len(second):  # the shorter one in the loop
        first, second = second, first
    places, row, full = _places(first), (1 << len(first)) - 1, (1 << len(first)) - 1
    for item in second:
        row = _next(row, places.get(item, 0), full)
    return len(first) - row.bit_count()


def common_places(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[int]:
    """The places in `first` of one longest common subsequence, falling.

    Of several the one that ROUGE-1.5.5 finds: read from the ends, a place of `first` is left before one of `second`
    where either keeps the length.
    """
    full = (1 << len(second)) - 1
    places, rows = _places(second), [full]
    for item in first:
        rows.append(_next(rows[-1], places.get(item, 0), full))
    found: list[int] = []
    i, j = len(first), len(second)
    length = j - rows[i].bit_count()
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j, length = i - 1, j - 1, length - 1
            found.append(i)
        elif _length(rows[i - 1], j) == length:
            i -= 1
        else:
            j -= 1
    return found


def _places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """For each item the number whose bit j is 1 where it stands at j."""
    places: dict[Hashable, int] = {}
    for number, item in enumerate(items):
        places[item] = places.get(item, 0) | (1 << number)
    return places


def _next(row: int, matches: int, full: int) -> int:
    hit = row & matches
    return ((row + hit) | (row - hit)) & full


def _length(row: int, columns: int) -> int:
    """The length of the subsequence in the first columns of a row."""
    return columns - (row & ((1 << columns) - 1)).bit_count()
