"""The text length from which an entry of `model.attention` is faster than full attention."""

from __future__ import annotations

import functools

from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.patterns import Full, split_causal
from nlpcli.attention.tiles import LEAST, tiling

LONGEST = 8192
"""Tokens up to which a pattern is tried."""


@functools.lru_cache(maxsize=64)
def faster_from(text: str, *, causal: bool) -> int | None:
    """Tokens from which on it is faster in training; None: at no length that was tried, up to `LONGEST`.

    Of a pattern the least power of two at which it is computed in tiles; of another kind what was measured on one CPU
    thread with 4 heads of width 64 (`benchmarks/attention/README.md`).
    """
    entry = parse_attention(text)
    if entry.name != "softmax":
        return entry.kind.faster_from and entry.kind.faster_from[causal]
    pattern, length = entry.pattern_of(causal=causal), LEAST
    while length <= LONGEST and tiling(pattern, length, length, merges=True) is None:
        length *= 2
    return length if length <= LONGEST else None


def is_full(text: str) -> bool:
    """Whether it is softmax attention to all keys, or in a decoder to all so far."""
    entry = parse_attention(text)
    return entry.name == "softmax" and split_causal(entry.pattern)[1] == Full()
