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
from nlpcli.data.open_text import display_name, inner_suffix, zero_byte
from nlpcli.data.readers import blank, read_lines
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened

PREFIX = "__label__"
"""The prefix of labels at the beginning of a line for fastText (Joulin et al. 2017, released code)."""

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

    @property
    def is_blank(self) -> bool:
        """Whether the row is a blank line, which has no cells."""
        return self.names is None and not self.cells


def read_rows(
    path: Path | str,
    format: str,
    is_header: Callable[[Sequence[str]], bool],
    named: Sequence[str] = (),
    *,
    blank_lines: bool = False,
) -> Iterator[Row]:
    """The rows of a file, compressed or not, or of standard input for "-".

    format: `tsv`; `csv`: with quoting, separated as `separator_of` finds; `jsonl`: JSON objects, as
    `nlpcli.data.json_objects.read_objects` reads them, whose keys are the names, and numbers stay the strings they are;
    `labeled-lines`: the first word of a line is its label, as in `LOC:city What county …` (columns `label`, `text`,
    and `coarse`, the label up to a colon) or `__label__city What county …`, where there can be several; `lines`: the
    line is the only cell. `auto`: see `format_of`.
    is_header: decides from the cells of the first row of a table whether they are names. named: requested
    columns, among them paths into JSON objects such as `data.text`.
    blank_lines: whether each blank line between rows, before a header too, is a row (see `Row.is_blank`); else it is
    skipped.

    Raises: NlpcliError, with file and line, for anything that is not in this format, and for a file without rows.
    """
    first, lines = begin(path, blank_lines=blank_lines)
    format = format_of(path, first) if format == "auto" else format
    yield from rows_in(lines, path, format, is_header, first, named, blank_lines=blank_lines)


def begin(path: Path | str, *, blank_lines: bool = False) -> tuple[str, Iterator[tuple[int, str]]]:
    """The first line of a file that is not blank, and all lines from there with their numbers and ends.

    blank_lines: of a file that has only blank lines, these; their first line is "".

    Raises: NlpcliError for a file that is missing, empty, not UTF-8, or no text at all.
    """
    lines, last = _text_lines(path), 0
    first = None
    for last, line in lines:
        if not blank(line):
            first = (last, line)
            break
    if first is None and last and blank_lines:
        return "", ((number, "\n") for number in range(1, last + 1))
    if first is None:
        raise NlpcliError(f"{display_name(path)} is empty")
    return first[1], chain([first], lines)


def rows_in(
    lines: Lines,
    path: Path | str,
    format: str,
    is_header: Callable[[Sequence[str]], bool],
    first: str,
    named: Sequence[str] = (),
    *,
    blank_lines: bool = False,
) -> Iterator[Row]:
    """The rows in the lines that `begin` gives; see `read_rows`."""
    empty = True
    if format == "jsonl":
        found = read_objects(lines, path, blank_lines=blank_lines)
        rows: Iterator[Row] = (
            _blank_row(place) if record is None else record_row(record, place, named) for record, place in found
        )
    else:
        rows = _with_blank_before(lines, path, format, is_header)
    for row in rows:
        if not row.is_blank or blank_lines:
            empty = False
            yield row
    if empty:
        raise NlpcliError(f"{display_name(path)} has a header but no examples")


def format_of(path: Path | str, first: str) -> str:
    """The format of a file by its name and its first line.

    The suffixes .jsonl, .ndjson, .json and .tsv determine the format; .csv is `tsv` if tabs separate the cells of its
    first line. Others are `jsonl` if the first line begins an object or a list of them, `tsv` if it has a tab,
    `labeled-lines` if it begins with `__label__`, and else `lines`.
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
    """The separator of the quoted cells in the first lines of a table: a comma, a semicolon, a tab or a bar.

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
    return f"the cells of {display_name(path)} are separated by {named}" if named else None


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return []
    return rows[:-1] if len(lines) == _LOOK_AHEAD_LINES and len(rows) > 1 else rows  # the last one may go on


def record_row(record: dict[str, Any], place: str, named: Sequence[str] = ()) -> Row:
    """A JSON object as a row. named: requested columns; what stands deeper is a cell under its path, too."""
    cells = dict(record)
    for name in named:
        if name not in cells and "." in name:
            with suppress(KeyError):
                cells[name] = member(record, name)
    return Row(tuple(cells), list(cells.values()), place)


def as_text(value: object, what: str, place: str) -> str:
    """A cell as text: strings as they are, numbers as they are written, `true` and `false`.

    Raises: NlpcliError for null, lists, objects, and strings that are not Unicode text. what: named there.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        raise NlpcliError(f"{place}: {what} must be text, not {shortened(json.dumps(value, ensure_ascii=False), 40)}")
    if _SURROGATE.search(value):
        raise NlpcliError(f"{place}: {what} contains half of a surrogate pair, which is not valid Unicode")
    return value


def _text_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_lines(path, ends=True), start=1):
        if "\x00" in line:
            raise zero_byte(path, number)
        yield number, line


def _blank_row(place: str) -> Row:
    return Row(None, (), place)


def _with_blank_before(
    lines: Lines, path: Path | str, format: str, is_header: Callable[[Sequence[str]], bool]
) -> Iterator[Row]:
    """The rows, behind those of the blank lines that come before the first of the lines."""
    lines = iter(lines)
    begun = list(islice(lines, 1))
    for number in range(1, begun[0][0] if begun else 1):
        yield _blank_row(f"{display_name(path)}:{number}")
    yield from _rows(chain(begun, lines), path, format, is_header)


def _rows(lines: Lines, path: Path | str, format: str, is_header: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    if format == "lines":
        for number, line in lines:
            place = f"{display_name(path)}:{number}"
            yield _blank_row(place) if blank(line) else Row(None, (_bare(line),), place)
    elif format == "labeled-lines":
        for number, line in lines:
            place = f"{display_name(path)}:{number}"
            yield _blank_row(place) if blank(line) else _labelled(_bare(line), place)
    elif format in ("tsv", "csv"):
        cells = _tsv(lines, path) if format == "tsv" else _csv(lines, path)
        yield from _table(cells, is_header)
    else:
        raise NlpcliError(
            f"{display_name(path)}: the format '{format}' does not support texts with labels",
            hint="choose tsv, csv, jsonl or labeled-lines",
        )


def _table(rows: Iterable[tuple[list[str], str]], is_header: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    """The rows below the header, if there is one; no cells are a blank line."""
    names: tuple[str, ...] | None = None
    begun = False
    for cells, place in rows:
        if not cells:
            yield _blank_row(place)
        elif not begun and is_header(cells):
            names = tuple(name.strip() for name in cells)
        else:
            yield Row(names, cells, place)
        begun = begun or bool(cells)


def _tsv(lines: Lines, path: Path | str) -> Iterator[tuple[list[str], str]]:
    for number, line in lines:
        yield [] if blank(line) else _bare(line).split("\t"), f"{display_name(path)}:{number}"


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
        place = f"{display_name(path)}:{last + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise NlpcliError(
                f"{place}: the quotation marks of this row are wrong ({error})",
                hint="write a quotation mark inside a quoted cell twice, or use --format tsv, which has no quoting",
            ) from error
        if cells is None:
            return
        yield [] if len(cells) == 1 and blank(cells[0]) else cells, place


def _labelled(line: str, place: str) -> Row:
    found = _MARKED.fullmatch(line) or _LABELLED.fullmatch(line)
    if not found or blank(found[2]):
        raise NlpcliError(f"{place}: the line must contain a label, a space and a text")
    labels = [mark.removeprefix(PREFIX) for mark in re.split(r"[ \t]+", found[1])]
    if len(labels) > 1:
        return Row(("label", "text"), (labels, found[2]), place)
    return Row(("label", "text", "coarse"), (labels[0], found[2], labels[0].partition(":")[0]), place)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
