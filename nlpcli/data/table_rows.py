"""Rows of tables and JSON lines, with the place each of them stands at.

Tab-separated files have no quoting: what stands between two tabs is the cell, quotation marks and all, as in GLUE and
the STS benchmark. Files with quoted cells are `csv`, whatever separates their cells.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from nlpcli.data.columns import usual_names
from nlpcli.data.json_objects import begins_list, member, read_objects
from nlpcli.data.open_text import inner_suffix, shown, zero_byte
from nlpcli.data.readers import blank, read_lines
from nlpcli.errors import NlpcliError

PREFIX = "__label__"
"""What marks labels at the beginning of a line for fastText (Joulin et al. 2017, released code)."""

_LONGEST_CELL = 1 << 24
_LOOK_AHEAD_LINES = 50
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKED = re.compile(rf"({PREFIX}[^ \t]+(?:[ \t]+{PREFIX}[^ \t]+)*)[ \t]+(.*)", re.DOTALL)
_LABELLED = re.compile(r"([^ \t]+)[ \t](.*)", re.DOTALL)
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv"}
_SEPARATORS = ",;\t|"

Lines = Iterable[tuple[int, str]]


class Row(NamedTuple):
    """One row: the names of its cells (None without a header), the cells, and the place ("dev.tsv:12")."""

    names: tuple[str, ...] | None
    cells: Sequence[Any]
    place: str


def read_rows(
    path: Path | str, format: str, is_header: Callable[[Sequence[str]], bool], named: Sequence[str] = ()
) -> Iterator[Row]:
    """The rows of a file, compressed or not, or of standard input for "-". Blank lines are left out.

    format: `tsv`; `csv`: with quoting, separated as `separator_of` finds; `jsonl`: JSON objects, as
    `nlpcli.data.json_objects.read_objects` reads them, whose keys are the names, and numbers stay the strings they are;
    `labeled-lines`: the first word of a line is its label, as in `LOC:city What county …` (columns `label`, `text`,
    and `coarse`, the label up to a colon) or `__label__city What county …`, where there can be several; `lines`: the
    line is the only cell. `auto`: see `format_of`.
    is_header: tells from the cells of the first row of a table whether they are names. named: columns that were asked
    for, among them paths into JSON objects such as `data.text`.

    Raises: NlpcliError, with file and line, for what is not in this format, and for a file without rows.
    """
    first, lines = begin(path)
    format = format_of(path, first) if format == "auto" else format
    yield from rows_in(lines, path, format, is_header, first, named)


def begin(path: Path | str) -> tuple[str, Iterator[tuple[int, str]]]:
    """The first line of a file that is not blank, and all lines from there with their numbers and ends.

    Raises: NlpcliError for a file that is missing, empty, not UTF-8, or no text at all.
    """
    lines = _text_lines(path)
    first = next(lines, None)
    if first is None:
        raise NlpcliError(f"{shown(path)}: is empty, there are no examples in it")
    return first[1], chain([first], lines)


def rows_in(
    lines: Lines,
    path: Path | str,
    format: str,
    is_header: Callable[[Sequence[str]], bool],
    first: str,
    named: Sequence[str] = (),
) -> Iterator[Row]:
    """The rows in the lines that `begin` gives; see `read_rows`."""
    empty = True
    if format == "jsonl":
        rows = (record_row(record, place, named) for record, place in read_objects(lines, path))
    else:
        rows = _rows(lines, path, format, is_header)
    for row in rows:
        empty = False
        yield row
    if empty:
        raise NlpcliError(f"{shown(path)}: has a header, but no examples")


def format_of(path: Path | str, first: str) -> str:
    """The format of a file by its name and its first line.

    .jsonl, .ndjson, .json and .tsv are what they say, .csv is `tsv` if tabs separate the cells of its first line.
    Others are `jsonl` if the first line begins an object or a list of them, `tsv` if it has a tab, `labeled-lines` if
    it begins with `__label__`, and else `lines`.
    """
    suffix = inner_suffix(path)
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix == ".csv":
        return "tsv" if separator_of([first]) == "\t" else "csv"
    if first.startswith("{") or begins_list(first):
        return "jsonl"
    if "\t" in first:
        return "tsv"
    return "labeled-lines" if first.startswith(PREFIX) else "lines"


def separator_of(lines: Sequence[str]) -> str:
    """What separates the quoted cells of the first lines of a table: a comma, a semicolon, a tab or a bar.

    It is the one that gives all rows the same number of cells, more than one; of several the one with more usual names
    of columns in the first row, then the one with more cells, then the comma. Where none does, the first row decides.
    """
    found = {separator: _cells(lines, separator) for separator in _SEPARATORS}

    def fit(separator: str) -> tuple[bool, int, int]:
        rows = found[separator]
        widths = {len(row) for row in rows}
        width = len(rows[0]) if rows else 0
        return len(widths) == 1 and width > 1, usual_names(rows[0]) if width > 1 else 0, width

    return max(_SEPARATORS, key=fit)  # of equals the first


def separator_note(path: Path | str, format: str) -> str | None:
    """A sentence about what separates the cells of a file, where that is not the comma of its format; None else.

    Only of files that can be read twice. Raises: NlpcliError as `begin`.
    """
    if not Path(path).is_file() or format not in ("auto", "csv"):
        return None
    first, lines = begin(path)
    if format == "auto" and (inner_suffix(path) != ".csv" or format_of(path, first) != "csv"):
        return None
    separator = separator_of([text for _, text in islice(lines, _LOOK_AHEAD_LINES)])
    named = {";": "semicolons", "\t": "tabs", "|": "bars (|)"}.get(separator)
    return f"{shown(path)}: its cells are separated by {named}" if named else None


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return []
    return rows[:-1] if len(lines) == _LOOK_AHEAD_LINES and len(rows) > 1 else rows  # the last one may go on


def record_row(record: dict[str, Any], place: str, named: Sequence[str] = ()) -> Row:
    """A JSON object as a row. named: columns that were asked for; what stands deeper is a cell under its path, too."""
    cells = dict(record)
    for name in named:
        if name not in cells and "." in name:
            with suppress(KeyError):
                cells[name] = member(record, name)
    return Row(tuple(cells), list(cells.values()), place)


def as_text(value: Any, what: str, place: str) -> str:
    """A cell as text: strings as they are, numbers as they are written, `true` and `false`.

    Raises: NlpcliError for null, lists, objects, and strings that are no Unicode text. what: named there.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        raise NlpcliError(f"{place}: {what} is {json.dumps(value, ensure_ascii=False)[:40]}, not a text")
    if _SURROGATE.search(value):
        raise NlpcliError(f"{place}: {what} holds half of a surrogate pair, which is no Unicode text")
    return value


def _text_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    begun = False
    for number, line in enumerate(read_lines(path, ends=True), start=1):
        if "\x00" in line:
            raise zero_byte(path, number)
        begun = begun or not blank(line)
        if begun:
            yield number, line


def _rows(lines: Lines, path: Path | str, format: str, is_header: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    if format == "lines":
        for number, line in lines:
            if not blank(line):
                yield Row(None, (_bare(line),), f"{shown(path)}:{number}")
    elif format == "labeled-lines":
        for number, line in lines:
            if not blank(line):
                yield _labelled(_bare(line), f"{shown(path)}:{number}")
    elif format in ("tsv", "csv"):
        cells = _tsv(lines, path) if format == "tsv" else _csv(lines, path)
        yield from _table(cells, is_header)
    else:
        raise NlpcliError(f"{shown(path)}: format '{format}' is not one of texts with labels")


def _table(rows: Iterable[tuple[list[str], str]], is_header: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    names: tuple[str, ...] | None = None
    for number, (cells, place) in enumerate(rows):
        if number == 0 and is_header(cells):
            names = tuple(name.strip() for name in cells)
        else:
            yield Row(names, cells, place)


def _tsv(lines: Lines, path: Path | str) -> Iterator[tuple[list[str], str]]:
    for number, line in lines:
        if not blank(line):
            yield _bare(line).split("\t"), f"{shown(path)}:{number}"


def _csv(lines: Lines, path: Path | str) -> Iterator[tuple[list[str], str]]:
    if csv.field_size_limit() < _LONGEST_CELL:  # the limit is the module's, there is none for one reader
        csv.field_size_limit(_LONGEST_CELL)
    lines = iter(lines)
    ahead = list(islice(lines, _LOOK_AHEAD_LINES))
    separator = separator_of([text for _, text in ahead])
    last = ahead[0][0] - 1

    def texts() -> Iterator[str]:
        nonlocal last
        for number, line in chain(ahead, lines):
            last = number
            yield line

    reader = csv.reader(texts(), delimiter=separator, strict=True)
    while True:
        place = f"{shown(path)}:{last + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise NlpcliError(
                f"{place}: the quotation marks of this row don't fit ({error})",
                hint="a quotation mark inside a quoted cell is written twice; format tsv has no quoting",
            ) from error
        if cells is None:
            return
        if cells and not (len(cells) == 1 and blank(cells[0])):
            yield cells, place


def _labelled(line: str, place: str) -> Row:
    found = _MARKED.fullmatch(line) or _LABELLED.fullmatch(line)
    if not found or blank(found[2]):
        raise NlpcliError(f"{place}: no label with a text after it")
    labels = [mark.removeprefix(PREFIX) for mark in re.split(r"[ \t]+", found[1])]
    if len(labels) > 1:
        return Row(("label", "text"), (labels, found[2]), place)
    return Row(("label", "text", "coarse"), (labels[0], found[2], labels[0].partition(":")[0]), place)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
