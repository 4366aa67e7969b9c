"""Which of many things are looked at."""

from __future__ import annotations


def spread(size: int, count: int) -> list[int]:
    """`count` places of `size`, evenly spread: the middle of each of as many equal parts; all where there are fewer."""
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]
