"""Examples of supervised tasks, out of tables and JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from nlpcli.config.counting import counted
from nlpcli.data.columns import (
    IDS,
    CellRoles,
    Columns,
    UsualColumns,
    ambiguous,
    by_names,
    by_numbers,
    column_number,
    find,
    listed,
    squashed,
)
from nlpcli.data.label_text import clean_label, stripped
from nlpcli.data.table_rows import Row, as_text, read_rows, record_row
from nlpcli.errors import NlpcliError

_LOOK_AHEAD_ROWS = 1000
_NUMBERED = ("choice", "ending", "option", "candidate", "alternative", "solution", "answer")
_LISTS = ("choices", "endings", "options", "candidates", "alternatives")
_STEMS = ("premise", "startphrase", "ctx", "context", "article", "passage", "text", "question", "query", "sentence")
_CHOICE_LABELS = ("label", "goldlabel", "gold", "answer", "answerkey", "correct", "correctanswer", "target")
_WITH_QUESTION = ("context", "article", "passage")


@dataclass(frozen=True)
class Example:
    """One example of a task.

    texts: one text; two texts; a question and its context; a text and its candidates; or the words of a sentence.
    label: None where it is not known, else, by task,
        classify: str; several labels: tuple[str, ...]; regress: the str as it stands in the data, the task makes a
        float of it; multiple choice: the str (number, letter or text of the right candidate) of the data;
        tag: tuple[str, ...], one for each word; span: tuple[Answer, ...], () where the question has no answer;
        text-to-text: str, or tuple[str, ...] of several references.
    place: "dev.tsv:12", which errors name. id: the data's own name for the example, "" if it has none.
    """

    texts: tuple[str, ...]
    label: Any = None
    place: str = ""
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer to a question and where it starts: a character offset into the context, None if it isn't in there."""

    text: str
    start: int | None


def read_texts(
    path: Path | str, columns: Columns, *, texts: int | None = None, labelled: bool = True, names: bool = True
) -> Iterator[Example]:
    """Texts, or pairs of texts, with their labels: TSV, CSV, JSON lines, or lines that begin with their label.

    Plain or compressed, "-" is standard input, in constant memory. See `Columns` for how columns are found,
    `nlpcli.data.table_rows.read_rows` for the formats and `nlpcli.data.columns.by_numbers` for tables without a header.
    texts: how many texts an example has; None: as in the columns. labelled: False if the label may be missing; a label
    in the data is still read. A JSON list is a label of several parts, an empty cell a label "".
    names: whether labels are names (or numbers), which `clean_label` makes ready; otherwise they are texts and stay as
    they are.

    Raises: NlpcliError, with file and line, for a column that is not there, for rows with fewer cells than the header
        or the first row have, or with more where the columns were not named, and as `read_rows` and `clean_label`.
    """
    rows = read_rows(path, columns.format, columns.is_header, columns.named, blank_lines=columns.blank_lines)
    return examples_in(rows, columns, texts=texts, labelled=labelled, names=names)


def examples_in(
    rows: Iterator[Row], columns: Columns, *, texts: int | None = None, labelled: bool = True, names: bool = True
) -> Iterator[Example]:
    """The examples in rows that were read already. Raises: NlpcliError as `read_texts`."""
    finder = _Finder(columns, texts=texts, labelled=labelled, label_names=names)
    for row in _looked_ahead(rows, finder):
        yield blank_example(row.place) if row.is_blank else finder.example(row)


def blank_example(place: str) -> Example:
    """The example of a blank line, without text."""
    return Example(("",), place=place)


def parse_record(
    record: dict[str, Any], columns: Columns, *, place: str, texts: int | None = None, labelled: bool = False
) -> Example:
    """One JSON object as an example of one text or two. Raises: NlpcliError as `read_texts`."""
    return _Finder(columns, texts=texts, labelled=labelled).example(record_row(record, place, columns.named))


def read_choices(path: Path | str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
    """Multiple choice: texts = (text, candidate, candidate, …); the label is left as it is in the data.

    TSV, CSV or JSON lines. The candidates stand in the columns `columns.choices`, or in one column that holds a JSON
    list; by themselves `choice1`, `choice2`, … are found (also ending, option, candidate, …, counted from anything) and
    lists named `choices`, `endings`, `options`. Empty columns after the last candidate are none. The text is the column
    `text`, followed, after a space, by `text2` if that is named, or by `question` below `article`, `passage`, `context`
    (RACE); SWAG's `startphrase` and HellaSwag's `ctx` are known too.

    Raises: NlpcliError as `read_texts`, and for less than two candidates.
    """
    is_header = lambda cells: _is_header_of_choices(columns, cells)  # noqa: E731
    for row in read_rows(path, columns.format, is_header, columns.named, blank_lines=columns.blank_lines):
        yield blank_example(row.place) if row.is_blank else parse_choices_row(row, columns, labelled=labelled)


def parse_choices(record: dict[str, Any], columns: Columns, *, place: str, labelled: bool = False) -> Example:
    """One JSON object as an example of a multiple choice. Raises: NlpcliError as `read_choices`."""
    return parse_choices_row(record_row(record, place, columns.named), columns, labelled=labelled)


class _Finder:
    """Makes examples of rows; finds the columns anew when the names of a row are not those of the last one."""

    def __init__(self, columns: Columns, *, texts: int | None, labelled: bool, label_names: bool = True) -> None:
        self.columns = columns
        self.texts = texts
        self.labelled = labelled
        self.label_names = label_names
        self.lenient = columns.text is not None and (columns.label is not None or not labelled)
        self.places: CellRoles | None = None
        self.names: tuple[str, ...] | None = None
        self.width = 0

    def find(self, row: Row, first: Sequence[Row]) -> CellRoles:
        if row.names is None:
            cells = [other.cells for other in first]
            places = by_numbers(self.columns, cells, texts=self.texts, labelled=self.labelled, place=row.place)
        else:
            places = by_names(self.columns, row.names, texts=self.texts, labelled=self.labelled, place=row.place)
        self.names, self.width = row.names, len(row.cells if row.names is None else row.names)
        self.places = places
        return places

    def example(self, row: Row) -> Example:
        places = self.places
        if places is None or row.names != self.names:
            places = self.find(row, [row])
        least = places.last + 1 if self.lenient and self.names is None else self.width
        check_width(row, self.width, least, more=self.lenient)
        cells, place = row.cells, row.place
        texts = tuple(as_text(cells[i], self._named(i), place) for i in places.texts)
        label = None if places.label is None else self._label([cells[i] for i in places.label], places.label, place)
        if label is None and self.labelled:
            raise NlpcliError(f"{place}: the label is null")
        return Example(texts, label, place, _id(cells, places.id, place))

    def _label(self, values: Sequence[Any], numbers: Sequence[int], place: str) -> str | tuple[str, ...] | None:
        if len(values) == 1:
            return as_label(values[0], self._named(numbers[0]), place, names=self.label_names)
        parts = [(value, i) for value, i in zip(values, numbers, strict=True) if value is not None]
        return tuple(_label_part(value, self._named(i), place, names=self.label_names) for value, i in parts)

    def _named(self, i: int) -> str:
        return f"column {i + 1}" if self.names is None else f"'{listed(self.names[i : i + 1])}'"


def as_label(value: object, what: str, place: str, *, names: bool = True) -> str | tuple[str, ...] | None:
    """A cell as a label: a list is one of several parts, null is none. names: see `read_texts`.

    Raises: NlpcliError as `as_text` and `clean_label`.
    """
    if isinstance(value, list):
        return tuple(_label_part(part, f"a part of {what}", place, names=names) for part in value)
    return None if value is None else _label_part(value, what, place, names=names)


def _label_part(value: object, what: str, place: str, *, names: bool) -> str:
    text = as_text(value, what, place)
    return clean_label(text, place) if names else text


def check_width(row: Row, width: int, least: int, *, more: bool) -> None:
    """Raises: NlpcliError for a row with fewer than `least` cells, or, unless `more` is allowed, more than `width`."""
    if len(row.cells) < least or (len(row.cells) > width and not more):
        reference = "first row" if row.names is None else "header"
        raise NlpcliError(
            f"{row.place}: the row has {counted(len(row.cells), 'column')}, but the {reference} has {width}",
            hint="look for a missing or an extra separator; if cells are quoted, use --format csv",
        )


def _looked_ahead(rows: Iterator[Row], finder: _Finder) -> Iterator[Row]:
    """The same rows; without a header the columns are found by the first of them."""
    first: list[Row] = []
    for row in rows:
        if not row.is_blank:
            first.append(row)
            break
        yield row
    if first and first[0].names is None:
        if len(first[0].cells) > 1 and (finder.columns.text is None or finder.columns.label is None):
            first += islice(rows, _LOOK_AHEAD_ROWS - 1)
        finder.find(first[0], [row for row in first if not row.is_blank])
    yield from chain(first, rows)


def _id(cells: Sequence[Any], i: int | None, place: str) -> str:
    value = None if i is None else cells[i]
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else as_text(value, "the id", place)


# Multiple choice


def _is_header_of_choices(columns: Columns, cells: Sequence[str]) -> bool:
    return columns.is_header(cells) or (columns.header == "auto" and len(_numbered(cells)) > 1)


def parse_choices_row(row: Row, columns: Columns, *, labelled: bool) -> Example:
    """One row as an example of a multiple choice. Raises: NlpcliError as `read_choices`."""
    names, cells, place = row.names, row.cells, row.place
    if names is not None:
        check_width(row, len(names), len(names), more=bool(columns.text and columns.choices))
    numbers = [find(name, names, len(cells), place) for name in columns.choices] or _usual_choices(row)
    if len(numbers) == 1 and isinstance(cells[numbers[0]], list):
        candidates = [as_text(part, "a candidate", place) for part in cells[numbers[0]]]
    else:
        values = [cells[i] for i in numbers]
        while values and values[-1] in (None, ""):
            values.pop()
        candidates = [as_text(value, f"candidate {k}", place) for k, value in enumerate(values, start=1)]
    if len(candidates) < 2:
        raise NlpcliError(
            f"{place}: the example has {counted(len(candidates), 'candidate')}, but multiple choice needs at least 2"
        )
    stem = " ".join(as_text(cells[i], "the text", place) for i in _stem(row, columns))
    label = _choice_label(row, columns, {*numbers}, labelled=labelled)
    id = find(columns.id, names, len(cells), place) if columns.id else _usual(row, IDS[:4], None)
    return Example((stem, *candidates), label, place, _id(cells, id, place))


def _usual_choices(row: Row) -> list[int]:
    names = row.names or ()
    found = _numbered(names)
    several = [i for i in found if [squashed(names[j]) for j in found].count(squashed(names[i])) > 1]
    if several:
        same = [i for i in several if squashed(names[i]) == squashed(names[several[0]])]
        raise ambiguous(same, names, row.place, "--choices")
    lists = [i for name in _LISTS if (i := _usual(row, [name], "--choices")) is not None]
    if len(found) < 2 and not lists:
        there = f"the columns are: {listed(row.names)}" if row.names else "the table has no header"
        raise NlpcliError(
            f"{row.place}: it is not clear which columns contain the candidates; {there}",
            hint="name the columns with --choices a,b,c",
        )
    return found if len(found) > 1 else lists[:1]


def _numbered(names: Sequence[str]) -> list[int]:
    """The columns `choice1`, `choice2`, … in the order of their numbers."""
    for stem in _NUMBERED:
        found = [(re.fullmatch(rf"{stem}([0-9]{{1,9}})", squashed(name)), i) for i, name in enumerate(names)]
        numbers = sorted((int(match[1]), i) for match, i in found if match)
        if len(numbers) > 1:
            return [i for _, i in numbers]
    return []


def _usual(row: Row, wanted: Sequence[str], option: str | None) -> int | None:
    return UsualColumns(row.names or (), row.place).first(wanted, (), option)


def _stem(row: Row, columns: Columns) -> list[int]:
    explicit = [find(name, row.names, len(row.cells), row.place) for name in (columns.text, columns.text2) if name]
    if columns.text:
        return explicit
    first = _usual(row, _STEMS, "--text")
    if first is None:
        raise NlpcliError(
            f"{row.place}: it is not clear which column contains the text", hint="name the column with --text"
        )
    question = _usual(row, ("question",), "--text2")
    names = row.names or ()  # there are some where a usual one was found
    if not explicit and question is not None and squashed(names[first]) in _WITH_QUESTION:
        explicit = [question]
    return [first, *explicit]


def _choice_label(row: Row, columns: Columns, taken: set[int], *, labelled: bool) -> str | None:
    names = row.names or ()
    i: int | None
    if columns.label is not None and (labelled or columns.label in names or column_number(columns.label) is not None):
        i = find(columns.label, row.names, len(row.cells), row.place)
    else:
        i = _usual(row, _CHOICE_LABELS, "--label" if labelled else None)
    value = None if i is None or i in taken else row.cells[i]
    if value is None:
        if labelled:
            if i is not None and i not in taken:
                raise NlpcliError(f"{row.place}: the label is null")
            raise NlpcliError(
                f"{row.place}: it is not clear which column contains the label, which is the correct candidate",
                hint="name the column with --label",
            )
        return None
    return stripped(as_text(value, "the label", row.place))
