"""One matrix of weights in a terminal, with its tokens: whole, in panels below each other, or as an overview."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.heat_map import FAINT, Line, Scale, TerminalAbilities, blocks_note, painted, pooled
from nlpcli.visualization.text_width import cells, clusters, cut, printable, to_left, to_right, wrapped

_TALLEST = 12  # lines of the upright labels of columns
_MOST_LINES = 400  # of a matrix in full; more are an overview
_OVERVIEW_ROWS = 64
_RULER = 10  # columns between the numbers over an overview


def matrix(values: np.ndarray, queries: Side, keys: Side, scale: Scale, width: int, *, samples: bool) -> list[Line]:
    """The weights (n, m) under their keys and beside their queries, in at most `width` columns.

    Cells are two columns wide, one where that fits the width, and the keys are broken into panels where that doesn't.
    A matrix that would take hundreds of lines, or whose numbered keys don't fit, becomes an overview in blocks: of
    each block the weight farthest from zero, or its first with `samples`.
    """
    rows, columns = Axis.of(queries, scale.ink), Axis.of(keys, scale.ink)
    room = min(max(map(cells, rows.labels), default=0), max(5, min(24, width // 4)))
    left = width - room - 1
    cell = scale.columns
    if scale.narrow and columns.narrow and len(columns.panels(left, cell)) > 1:
        cell = 1
    panels = columns.panels(left, cell)
    long = len(panels) > 1 and (columns.numbered or len(panels) * (len(queries) + _TALLEST) > _MOST_LINES)
    if long or len(queries) > _MOST_LINES:
        return _overview(values, rows, columns, scale, width, samples)
    lines: list[Line] = []
    for panel in panels:
        lines += [[], *_panel(values, rows, columns, panel, scale, room, cell)]
    return lines[1:]


@dataclass(frozen=True)
class Axis:
    """The tokens of one side as they are written. groups: their part of the text where there are several, else ""."""

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    ink: TerminalAbilities

    @classmethod
    def of(cls, side: Side, ink: TerminalAbilities) -> Axis:
        several = len(set(side.groups)) > 1
        groups = tuple(printable(group, unicode=ink.unicode) for group in side.groups) if several else ("",) * len(side)
        return cls(tuple(printable(token, unicode=ink.unicode) for token in side.tokens), groups, ink)

    @property
    def narrow(self) -> bool:
        """Whether every letter fits one column."""
        return self.numbered or all(cells(cluster) == 1 for label in self.labels for cluster in clusters(label))

    @property
    def numbered(self) -> bool:
        """Whether the tokens are numbers (positions), which need no label each."""
        return len(self.labels) > _RULER and all(label.isascii() and label.isdigit() for label in self.labels)

    @property
    def mark(self) -> str:
        return "…" if self.ink.unicode else "~"

    def parted(self, index: int, first: int) -> bool:
        """Whether another part of the text begins at `index`, in a panel that begins at `first`."""
        return index > first and self.groups[index] != self.groups[index - 1]

    def panels(self, room: int, cell: int) -> list[range]:
        """The tokens in stretches that fit `room` columns, as even as can be."""
        panels = self._filled(room, cell, len(self.labels))
        return self._filled(room, cell, math.ceil(len(self.labels) / len(panels))) if len(panels) > 1 else panels

    def _filled(self, room: int, cell: int, most: int) -> list[range]:
        panels, first, used = [], 0, 0
        for index in range(len(self.labels)):
            used += cell + self.parted(index, first)
            if index > first and (used > room or index - first >= most):
                panels.append(range(first, index))
                first, used = index, cell
        return [*panels, range(first, len(self.labels))]

    def name(self, index: int) -> str:
        """The number of a token: its own, or its place from 1."""
        return self.labels[index] if self.numbered else str(index + 1)


# --- with all tokens ---------------------------------------------------------------------------------------------


def _panel(
    values: np.ndarray, rows: Axis, columns: Axis, panel: range, scale: Scale, room: int, cell: int
) -> list[Line]:
    margin = (" " * (room + 1), "")
    bar = ("│" if scale.ink.unicode else "|", FAINT)
    lines = [[margin, *line] for line in _column_heads(columns, panel, cell, bar)]
    for index, label in enumerate(rows.labels):
        if rows.groups[index] and (index == 0 or rows.parted(index, 0)):
            lines.append([(to_right(cut(rows.groups[index], room, rows.mark), room), FAINT)])
        line = [(to_right(cut(label, room, rows.mark), room) + " ", "")]
        for key in panel:
            if columns.parted(key, panel.start):
                line.append(bar)
            line.append(scale.cell(float(values[index, key]), cell))
        lines.append(line)
    return lines


def _column_heads(columns: Axis, panel: range, cell: int, bar: tuple[str, str]) -> list[Line]:
    """The names of the parts of the text, then every label upright, standing on its column."""
    lines = [_part_names(columns, panel, cell)] if columns.groups[panel.start] else []
    if columns.numbered:
        return lines + _ruler([columns.name(key) for key in panel], cell, columns.ink)
    stacks = [_stack(columns.labels[key], columns.mark) for key in panel]
    height = max(map(len, stacks), default=0)
    for level in range(height):
        line: Line = []
        for key, stack in zip(panel, stacks, strict=True):
            if columns.parted(key, panel.start):
                line.append(bar)
            above = height - len(stack)
            line.append((to_left(stack[level - above], cell) if level >= above else " " * cell, ""))
        lines.append(line)
    return lines


def _part_names(columns: Axis, panel: range, cell: int) -> Line:
    starts = [key for key in panel if key == panel.start or columns.parted(key, panel.start)]
    line: Line = []
    for start, end in zip(starts, [*starts[1:], panel.stop], strict=True):
        last = end == panel.stop
        span = (end - start) * cell
        line.append((to_left(cut(columns.groups[start], span, columns.mark), span) + ("" if last else " "), FAINT))
    return line


def _stack(label: str, mark: str) -> list[str]:
    letters = list(clusters(label))
    return letters if len(letters) <= _TALLEST else [*letters[: _TALLEST - 1], mark]


def _ruler(names: Sequence[str], cell: int, ink: TerminalAbilities) -> list[Line]:
    """The names of some columns above ticks: as many as there is room for."""
    step = max(1, math.ceil((max(map(len, names), default=0) + 1) / cell))
    step = next((round_ for round_ in (1, 2, 5, 10) if round_ >= step), step)
    numbers, ticks = "", ""
    for index in range(0, len(names), step):
        if cells(names[index]) > (len(names) - index) * cell:
            break
        numbers = numbers.ljust(index * cell) + names[index]
        ticks = ticks.ljust(index * cell) + ("╷" if ink.unicode else "|")
    return [[(numbers, "")], [(ticks, FAINT)]]


# --- in blocks ---------------------------------------------------------------------------------------------------


def _overview(values: np.ndarray, rows: Axis, columns: Axis, scale: Scale, width: int, samples: bool) -> list[Line]:
    n, m = values.shape
    cell = 1 if scale.narrow else 2
    room = _room(rows, width)
    wide = math.ceil(m / ((width - room - 1) // cell))
    high, halves = 1, False
    if n > _OVERVIEW_ROWS:  # a column is half as wide as a line is high
        halves = scale.ink.halves
        high = max(wide, math.ceil(n / 2 / _OVERVIEW_ROWS)) * (1 if halves or cell == 2 else 2)
    tall = 2 * high if halves else high
    blocks = values[::high, ::wide] if samples else pooled(values, high, wide)
    what = "the first" if samples else "the largest"
    note = f"{blocks_note(n, m, high, wide)} and shows {what} value"
    lines: list[Line] = [[(line, FAINT)] for line in wrapped(note, width)]
    names = [columns.name(key) for key in range(0, m, wide)]
    lines += [[(" " * (room + 1), ""), *line] for line in _ruler(names, cell, scale.ink)]
    for index, line in enumerate(painted(blocks, scale, cell, halves=halves)):
        lines.append([(_range_label(rows, index * tall, min(n, (index + 1) * tall), room) + " ", ""), *line])
    return lines


def _room(rows: Axis, width: int) -> int:
    """Columns for two row numbers and, unless the numbers are the names, a token."""
    numbers = 2 * len(rows.name(len(rows.labels) - 1)) + 1
    token = 0 if rows.numbered else 1 + max(map(cells, rows.labels))
    return max(5, min(numbers + token, 24, width // 4))


def _range_label(rows: Axis, start: int, end: int, room: int) -> str:
    """`17-32 schläft`: which queries a line holds, and the first of them where there is room."""
    between = "–" if rows.ink.unicode else "-"
    name = rows.name(start) if end - start == 1 else f"{rows.name(start)}{between}{rows.name(end - 1)}"
    left = room - cells(name) - 1
    if rows.numbered or left < 2:
        return to_right(cut(name, room, rows.mark), room)
    return f"{name} " + to_left(cut(rows.labels[start], left, rows.mark), left)
