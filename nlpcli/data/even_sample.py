"""Indices of an evenly spaced sample."""

from __future__ import annotations


def evenly_spaced(size: int, count: int) -> list[int]:
    """`count` of the indices 0 to size - 1: the middle of each of `count` equal parts; all if there are fewer."""
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]
