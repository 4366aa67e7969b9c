"""Curves in a terminal: a line of blocks, and a plot of dots or letters in lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from nlpcli.visualization.charts import Panel, short_number
from nlpcli.visualization.text_width import cells, cut

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-~=+*#"
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille letter, by column and row
Range = tuple[float, float]
"""The least and the greatest value of an axis."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
POINT, ASCII_POINT = "•", "."
_POINTS = -1


def sparkline(
    x: Sequence[float],
    y: Sequence[float],
    width: int,
    *,
    span: Range,
    within: Range,
    unicode: bool = True,
) -> str:
    """One line of `width` blocks: the mean of the values in each stretch of the axis, or the last one before it.

    span: the least and the greatest x, within: the same of y, which lines that are to be compared share.
    """
    blocks = _BLOCKS if unicode else _ASCII_BLOCKS
    cells: list[list[float]] = [[] for _ in range(width)]
    for place, value in zip(x, y, strict=True):
        cells[_cell(place, span, width)].append(value)
    if not any(cells):
        return ""
    last = max(i for i, cell in enumerate(cells) if cell)
    drawn, block = [], " "
    for cell in cells[: last + 1]:
        block = blocks[_cell(sum(cell) / len(cell), within, len(blocks))] if cell else block
        drawn.append(block)
    return "".join(drawn)


def plot(panel: Panel, width: int, height: int, *, unicode: bool = True) -> list[str]:
    """The lines of text of a plot, `width` columns wide at most, with its axes.

    One curve is drawn in braille dots, several with a letter each, in the order of their runs (* where several meet);
    without `unicode` one is drawn with letters, too. Points are dots in front of the letters. Marks of training and
    dev curves are not distinguished, so a panel should hold one kind.
    """
    lines = [line for line in panel.lines if line.x]
    if not lines:
        return []
    left, right = extent(value for line in lines for value in line.x) if panel.right is None else (0.0, panel.right)
    low, high = extent(_scaled(value, panel) for line in lines for value in line.y)
    numbers = [short_number(10**value if panel.logarithmic else value) for value in (high, (low + high) / 2, low)]
    margin = max(map(len, numbers)) + 1
    columns = max(8, width - margin - 1)
    if len(lines) == 1 and unicode:
        rows = _in_dots(panel, columns, height, (left, right), (low, high))
    else:
        rows = _in_letters(panel, columns, height, (left, right), (low, high), POINT if unicode else ASCII_POINT)
    at = {0: numbers[0], height // 2: numbers[1], height - 1: numbers[2]}
    bar, corner, floor = ("│", "└", "─") if unicode else ("|", "+", "-")
    drawn = [f"{at.get(i, '').rjust(margin - 1)} {bar}{row}".rstrip() for i, row in enumerate(rows)]
    first, last = short_number(left), f"{short_number(right)} {panel.x_label}"
    gap = max(1, columns - cells(first) - cells(last))
    below = cut(first + " " * gap + last, columns, "…" if unicode else "~")
    return [*drawn, " " * margin + corner + floor * columns, " " * (margin + 1) + below]


def extent(values: Iterable[float]) -> Range:
    """The least and the greatest of values, a little apart where they are the same."""
    values = list(values)
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low, high


def _scaled(value: float, panel: Panel) -> float:
    return math.log10(value) if panel.logarithmic else value


def _cell(value: float, within: Range, count: int) -> int:
    """In which of `count` equal parts of a range a value lies."""
    low, high = within
    if high <= low:
        return count // 2
    return min(count - 1, max(0, int((value - low) / (high - low) * count)))


def _points(panel: Panel, columns: int, rows: int, span: Range, within: Range) -> Iterator[tuple[int, int, int]]:
    """The cells (run, column, row from above) that the lines of a panel touch, in between their points as well.

    Of points that are not joined to a line only their own cells, with the run _POINTS.
    """
    for line in panel.lines:
        before = None
        for place, value in zip(line.x, line.y, strict=True):
            now = (_cell(place, span, columns), rows - 1 - _cell(_scaled(value, panel), within, rows))
            if line.kind == "points":
                yield (_POINTS, *now)
                continue
            steps = 1 if before is None else max(abs(now[0] - before[0]), abs(now[1] - before[1]), 1)
            begin = now if before is None else before
            for k in range(steps + 1):
                share = k / steps
                yield (line.run, round(begin[0] + share * (now[0] - begin[0])),
                       round(begin[1] + share * (now[1] - begin[1])))  # fmt: skip
            before = now


def _in_dots(panel: Panel, columns: int, height: int, span: Range, within: Range) -> list[str]:
    grid = [[0] * columns for _ in range(height)]
    for _, column, row in _points(panel, 2 * columns, 4 * height, span, within):
        grid[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in grid]


def _in_letters(panel: Panel, columns: int, height: int, span: Range, within: Range, point: str) -> list[str]:
    grid: list[list[set[int]]] = [[set() for _ in range(columns)] for _ in range(height)]
    for run, column, row in _points(panel, columns, height, span, within):
        grid[row][column].add(run)
    return ["".join(_letter(cell, point) for cell in row) for row in grid]


def _letter(cell: set[int], point: str) -> str:
    if not cell or _POINTS in cell:
        return point if cell else " "
    return "*" if len(cell) > 1 else LETTERS[next(iter(cell)) % len(LETTERS)]
