"""Points for a regression: tables of numbers whose last column is y and whose other columns are x."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_float
from nlpcli.data.open_text import display_name
from nlpcli.data.table_rows import Row, begin, format_of, rows_in
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted

MOST_POINTS = 1_000
MOST_COLUMNS = 20
LARGEST, SMALLEST = 1e100, 1e-50
"""Numbers beyond the one, and columns of x whose numbers differ by less than the other, have squares that no float
holds."""

_FEW = ("no point", "only one point")
_SEPARATORS = re.compile(r"[,;|]")


@dataclass(frozen=True)
class Points:
    """names: of the columns, the last is y; x: (n, d) and y: (n,), in the order of the file."""

    names: tuple[str, ...]
    x: tuple[tuple[float, ...], ...]
    y: tuple[float, ...]


def read_points(path: Path | str) -> Points:
    """The points of a file, compressed or not, or of standard input for "-": one a row, at least two.

    TSV, CSV (commas, semicolons, tabs or bars), JSON lines, or numbers between spaces; the first row may name the
    columns.
    Raises: NlpcliError, with file and line, for a cell that is not a finite number, rows of unequal length, fewer than
        two points or columns, more than `MOST_POINTS` or `MOST_COLUMNS`, and a column of x whose numbers are all equal.
    """
    rows = _rows(path)
    first = next(rows)
    cells = first.cells[1:] if first.cells and first.cells[0] == "#" else first.cells  # the header of numpy.savetxt
    width = len(cells)
    if width < 2:
        raise NlpcliError(
            f"{first.place}: the row has {counted(width, 'column')}, but a point needs at least two: x and y",
            hint="separate the numbers by tabs, commas, semicolons or spaces",
        )
    if width > MOST_COLUMNS:
        raise NlpcliError(f"{first.place}: the row has {width:,} columns, but at most {MOST_COLUMNS} are possible")
    names = first.names or tuple(_cell_text(cell).strip() for cell in cells)
    if first.names is not None or not _is_header(cells):
        rows = chain([first], rows)
        names = first.names or (*_numbered("x", width - 1), "y")
    found = list(islice(rows, MOST_POINTS + 1))
    numbers = [_numbers(row, names) for row in found]
    if len(numbers) < 2:
        raise NlpcliError(
            f"{display_name(path)} contains {_FEW[len(numbers)]}, but a regression needs at least two points"
        )
    if len(numbers) > MOST_POINTS:
        raise NlpcliError(
            f"{display_name(path)} contains more than {MOST_POINTS:,} points, and each is compared with every other",
            hint=f"use a sample of them: shuf -n {MOST_POINTS} FILE > sample.tsv",
        )
    for name, column in zip(names[:-1], zip(*numbers, strict=True), strict=False):
        if max(column) - min(column) < SMALLEST:
            raise NlpcliError(
                f"{display_name(path)}: all numbers in column {quoted(name)} are equal, so y can't depend on them",
                hint="leave this column out; if it is y, it must be the last column",
            )
    return Points(names, tuple(row[:-1] for row in numbers), tuple(row[-1] for row in numbers))


def _rows(path: Path | str) -> Iterator[Row]:
    """All rows, a header among them; JSON objects have names."""
    first, lines = begin(path)
    format = format_of(path, first)
    if format in ("lines", "labeled-lines"):
        format = "csv" if _SEPARATORS.search(first) else "lines"
    for row in rows_in(lines, path, format, lambda cells: False, first):
        yield Row(None, row.cells[0].split(), row.place) if format == "lines" else row


def _is_header(cells: Sequence[object]) -> bool:
    """Whether no cell is a number; `nan` and `inf` are not names either."""
    return all(_as_python(_cell_text(cell)) is None for cell in cells)


def _as_python(text: str) -> float | None:
    """Python's `float` of a text, infinite or not; None if it is not a number."""
    try:
        return float(text)
    except ValueError:
        return None


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}{number}" for number in range(1, count + 1)]


def _numbers(row: Row, names: tuple[str, ...]) -> tuple[float, ...]:
    cells = row.cells
    if row.names is not None:
        by_name = dict(zip(row.names, cells, strict=True))
        missing = next((name for name in names if name not in by_name), None)
        if missing is not None:
            raise NlpcliError(f"{row.place}: the key {quoted(missing)} of the first object is missing")
        cells = [by_name[name] for name in names]
    if len(cells) != len(names):
        raise NlpcliError(
            f"{row.place}: the row has {counted(len(cells), 'column')}, but the first row has {len(names)}"
        )
    return tuple(_number(cell, name, row.place) for cell, name in zip(cells, names, strict=True))


def _number(cell: object, name: str, place: str) -> float:
    text = _cell_text(cell)
    value = parse_float(text)
    if value is not None and abs(value) <= LARGEST:
        return value
    as_python = _as_python(text)
    what = "not a number" if as_python is None or math.isfinite(as_python) else "not finite"
    what = f"larger than {LARGEST:g}" if value is not None else what
    raise NlpcliError(f"{place}: {quoted(text)} in column {quoted(name)} is {what}")


def _cell_text(cell: object) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)
