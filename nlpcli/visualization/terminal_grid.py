"""Many matrices of weights side by side in a terminal, small: a picture for each head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nlpcli.visualization.heat_map import BOLD, FAINT, Line, Scale, blocks_note, painted, pooled
from nlpcli.visualization.text_width import cells, cut, wrapped

_GAP = 2
_SMALLEST = 10  # columns of a map that is made smaller than its matrix

Tile = tuple[str, np.ndarray]
"""A matrix (n, m) and what is written above it."""


def grid(strips: Sequence[Sequence[Tile]], scale: Scale, width: int) -> list[Line]:
    """Each strip's tiles beside each other, in several lines of tiles where one is too wide; all are alike in size."""
    n, m = strips[0][0][1].shape
    across = _across(max(map(len, strips)), m, scale, width)
    slot = (width + _GAP) // across - _GAP
    cell = 2 if 2 * m <= slot or not scale.narrow else 1
    halves = cell == 1 and scale.ink.halves
    wide = math.ceil(m / (slot // cell))
    high = wide if cell == 2 or halves else 2 * wide
    lines: list[Line] = []
    if wide > 1 or high > 1:
        note = f"{blocks_note(n, m, high, wide)} and shows the largest weight"
        lines += [[(line, FAINT)] for line in wrapped(note, width)]
    slot = min(slot, max(math.ceil(m / wide) * cell, *(cells(label) for strip in strips for label, _ in strip)))
    for strip in strips:
        for start in range(0, len(strip), across):
            tiles = strip[start : start + across]
            maps = [painted(pooled(tile, high, wide), scale, cell, halves=halves) for _, tile in tiles]
            names: Line = [(cut(label, slot, "").ljust(slot + _GAP), BOLD) for label, _ in tiles[:-1]]
            names.append((cut(tiles[-1][0], slot, "").ljust(slot), BOLD))
            lines += [[], names, *_beside(maps, slot + _GAP)]
    return lines if wide > 1 or high > 1 else lines[1:]


def _across(count: int, m: int, scale: Scale, width: int) -> int:
    """How many tiles a line holds: as many as are still readable, the lines alike in length."""
    smallest = min(m, _SMALLEST) * (1 if scale.narrow else 2)
    most = max(1, (width + _GAP) // (smallest + _GAP))
    return math.ceil(count / math.ceil(count / most))


def _beside(maps: Sequence[Sequence[Line]], step: int) -> list[Line]:
    lines = []
    for row in zip(*maps, strict=True):
        line: Line = []
        for part in row:
            line += part
            line.append((" " * (step - sum(cells(text) for text, _ in part)), ""))
        lines.append(line[:-1])
    return lines
