"""Ranges of positions: their union and their intersection."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
"""Positions from the first to before the second."""


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
    """The intersection of two lists of ascending ranges."""
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


def within(ranges: Iterable[Range], length: int) -> list[Range]:
    """The parts of the ranges within a text of this length."""
    return union((max(0, start), min(end, length)) for start, end in ranges)


def of_positions(positions: Iterable[int]) -> list[Range]:
    """Ranges of exactly these positions."""
    return union((position, position + 1) for position in positions)
