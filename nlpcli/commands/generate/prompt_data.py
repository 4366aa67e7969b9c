"""Examples for prompts: every column of the data by its name, and what is right."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from nlpcli.commands.generate.prompt_template import Record
from nlpcli.config.counting import counted
from nlpcli.data.columns import LABELS, TARGETS, Columns, ambiguous, by_names, by_numbers, column_number, find, squashed
from nlpcli.data.json_objects import begins_list
from nlpcli.data.label_text import stripped
from nlpcli.data.open_text import inner_suffix
from nlpcli.data.table_rows import Row, as_text, begin, read_rows
from nlpcli.errors import NlpcliError

_TEXTS = ("text", "text2")
_ALSO_LABELS = ("gold", "correct", "correctanswer", "answers")
_UNFIT = ("conll", "conllu")


def read_records(path: Path | str, columns: Columns, used: Collection[str]) -> Iterator[Record]:
    """The records of a file: TSV, CSV, JSON lines, labelled lines, plain lines, or SQuAD's JSON.

    Columns of a table without a header are named 1, 2, …; `text` and `text2` mean the columns that hold the texts,
    unless there are such columns and no others were requested. SQuAD's questions have the columns question and context.
    used: the columns the prompt shows, which are not taken for the label unless that is requested.

    Raises: NlpcliError, with file and line, for what can't be read, and where it is ambiguous which is the label.
    """
    if columns.format in _UNFIT:
        raise NlpcliError(f"the format {columns.format} contains tagged words, but a prompt needs texts")
    blank_lines = columns.blank_lines
    if columns.format == "squad" or (columns.format == "auto" and _is_squad(path)):
        yield from _questions(path, blank_lines=blank_lines)
        return
    finder = _Finder(columns, used)
    named = [*columns.named, *sorted(used)]
    for row in read_rows(path, columns.format, finder.is_header, named, blank_lines=blank_lines):
        yield Record({}, None, row.place) if row.is_blank else finder.record(row)


def _is_squad(path: Path | str) -> bool:
    """Whether a file is named as SQuAD's are, and doesn't begin a list of records."""
    if inner_suffix(path) != ".json":
        return False
    return not Path(path).is_file() or not begins_list(begin(path)[0])


def _questions(path: Path | str, *, blank_lines: bool) -> Iterator[Record]:
    from nlpcli.data.squad import read_questions

    for example in read_questions(path, labelled=False, blank_lines=blank_lines):
        if len(example.texts) < 2:  # a blank line
            yield Record({}, None, example.place)
            continue
        question, context = example.texts
        fields = {"question": question, "context": context, "id": example.id}
        answers = None if example.label is None else tuple(dict.fromkeys(answer.text for answer in example.label))
        yield Record(fields, answers, example.place)


class _Finder:
    """Makes records of rows; looks for the columns anew when the names of a row are not those of the last one."""

    def __init__(self, columns: Columns, used: Collection[str]) -> None:
        self.columns, self.used = columns, used
        self.names: tuple[str, ...] | None = None
        self.texts: dict[str, int] = {}  # the columns that `text` and `text2` mean
        self.label: int | None = None

    def is_header(self, cells: Sequence[str]) -> bool:
        """Whether the first row of a table holds names: also if it has one that the template shows."""
        named = self.columns.header == "auto" and any(
            cell in self.used and column_number(cell) is None for cell in cells
        )
        return named or self.columns.is_header(cells)

    def record(self, row: Row) -> Record:
        names = row.names or tuple(str(number) for number in range(1, len(row.cells) + 1))
        if len(row.cells) != len(names):
            raise NlpcliError(
                f"{row.place}: the line has {counted(len(row.cells), 'column')}, but the header has {len(names)}",
                hint="check the separators; add --format csv if cells are in quotation marks",
            )
        if names != self.names:
            for name in self.used:
                found = [place for place, other in enumerate(names) if other == name]
                if len(found) > 1:
                    message = ambiguous(found, names, row.place, None).message
                    raise NlpcliError(message, hint="give the columns different names")
            self.texts = self._find_texts(row, names)
            self.label = self._find_label(row, names)
            self.names = names
        fields = {name: _value(cell, name, row.place) for name, cell in zip(names, row.cells, strict=True)}
        fields |= {name: fields[names[place]] for name, place in self.texts.items()}
        label = None
        if self.label is not None:
            label = _answers(_value(row.cells[self.label], names[self.label], row.place), row.place)
        return Record(fields, label, row.place)

    def _find_texts(self, row: Row, names: tuple[str, ...]) -> dict[str, int]:
        requested = {"text": self.columns.text, "text2": self.columns.text2}
        wanted = [name for name in _TEXTS if name in self.used and (requested[name] or name not in names)]
        if not wanted:
            return {}
        count = 2 if "text2" in self.used else 1
        if row.names is None:
            found = by_numbers(self.columns, [row.cells], texts=count, labelled=False, place=row.place)
        else:
            found = by_names(self.columns, names, texts=count, labelled=False, place=row.place)
        return {name: found.texts[_TEXTS.index(name)] for name in wanted}

    def _find_label(self, row: Row, names: tuple[str, ...]) -> int | None:
        if self.columns.label is not None:
            return find(self.columns.label, row.names, len(names), row.place)
        shown = {*self.texts.values(), *(place for place, name in enumerate(names) if name in self.used)}
        left = [place for place in range(len(names)) if place not in shown]
        if row.names is None:
            return left[0] if len(left) == 1 else None
        for usual in ((LABELS[0],), LABELS, (*TARGETS, *_ALSO_LABELS)):
            found = [place for place in left if squashed(names[place]) in usual]
            if len(found) > 1:
                several = ", ".join(names[place] for place in found)
                raise NlpcliError(
                    f"{row.place}: several columns may be the label: {several}", hint="choose one with --label"
                )
            if found:
                return found[0]
        return None


def _value(cell: object, name: str, place: str) -> Any:
    """A cell as it can stand in a prompt: a string, or a list of strings; None and objects stay what they are."""
    if isinstance(cell, list):
        return [as_text(part, f"a part of '{name}'", place) if _plain(part) else part for part in cell]
    return as_text(cell, f"'{name}'", place) if _plain(cell) else cell


def _plain(value: object) -> TypeGuard[str | int | float]:
    return isinstance(value, str | int | float)


def _answers(value: object, place: str) -> tuple[str, ...] | None:
    found = value if isinstance(value, list) else [value]
    if value is None or value == "":
        return None
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(found):
        raise NlpcliError(f"{place}: the label is neither a string nor a list of strings")
    return tuple(map(stripped, texts))
