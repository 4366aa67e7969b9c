"""Words with their tags: CoNLL columns, CoNLL-U, and JSON lines or tables with a list of words beside one of tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpcli.config.counting import counted
from nlpcli.data.columns import Columns, UsualColumns, column_number, find, squashed
from nlpcli.data.examples import Example, blank_example, check_width
from nlpcli.data.json_objects import begins_list
from nlpcli.data.label_text import clean_tag
from nlpcli.data.open_text import display_name, inner_suffix
from nlpcli.data.readers import blank
from nlpcli.data.table_rows import Lines, Row, as_text, begin, record_row, rows_in
from nlpcli.errors import NlpcliError

FIELDS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""The columns of CoNLL-U, in their order (universaldependencies.org/format.html)."""

_WORDS = ("words", "tokens", "text", "sentence")
_TAGS = ("tags", "nertags", "postags", "labels", "label", "upos", "ner")
_BY_SUFFIX = {".conllu": "conllu", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}
_COMMENT = re.compile(r"# ?(sent_id|text|newdoc|newpar|global\.columns)\b")


def read_tagged(path: Path | str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
    """Sentences of words with one tag each: texts are the words, label the tags. In constant memory.

    `conll`: a word a line, its columns separated by tabs, else by spaces; blank lines and lines that begin with
    `-DOCSTART-` stand between sentences; the word is in the first column, the tag in the last, unless `columns` give
    their numbers. Example.place is the line of the first word, the next word stands a line below.
    `conllu`: the word is FORM and the tag UPOS, unless `columns` name others (form, lemma, upos, xpos, feats, head,
    deprel, deps, misc); comments, the lines of multiword tokens (`3-4`) and of empty nodes (`8.1`) are left out;
    `sent_id` is the id.
    `jsonl`: objects with lists under the keys `words` or `tokens` and `tags`, `ner_tags` or `labels`; `tsv`, `csv`:
    columns of these names, with words and tags separated by spaces.
    `auto`: from the suffixes .conllu, .jsonl and .csv; else `jsonl` if the first line begins with a brace, `conllu` if
    it is one of its comments, and else `conll`.

    Raises: NlpcliError, with file and line, for a row with other than the usual number of columns, a column that is not
        there, numbers of words and tags that differ, and a file without sentences.
    """
    format = columns.format
    first, lines = begin(path, blank_lines=columns.blank_lines)
    format = _format_of(path, first) if format == "auto" else format
    if format in ("conll", "conllu"):
        yield from _sentences(lines, path, columns, format, labelled=labelled)
    elif format in ("jsonl", "tsv", "csv"):
        is_header = lambda cells: _is_header(columns, cells)  # noqa: E731
        rows = rows_in(lines, path, format, is_header, first, columns.named, blank_lines=columns.blank_lines)
        for row in rows:
            yield blank_example(row.place) if row.is_blank else _listed(row, columns, labelled=labelled)
    else:
        raise NlpcliError(
            f"{display_name(path)}: the format '{format}' does not support words with tags",
            hint="choose one of: conll, conllu, jsonl, tsv, csv",
        )


def parse_tagged(record: dict[str, Any], columns: Columns, *, place: str, labelled: bool = False) -> Example:
    """One JSON object with lists of words and tags. Raises: NlpcliError as `read_tagged`."""
    return _listed(record_row(record, place, columns.named), columns, labelled=labelled)


def _format_of(path: Path | str, first: str) -> str:
    if inner_suffix(path) in _BY_SUFFIX:
        return _BY_SUFFIX[inner_suffix(path)]
    if first.startswith("{") or begins_list(first):
        return "jsonl"
    return "conllu" if _COMMENT.match(first) else "conll"


# Columns


@dataclass
class _Sentence:
    """The part of a sentence that was read so far."""

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    line: int = 0
    id: str = ""

    def example(self, path: Path | str) -> Example:
        return Example(tuple(self.words), tuple(self.tags) or None, f"{display_name(path)}:{self.line}", self.id)


def _sentences(lines: Lines, path: Path | str, columns: Columns, format: str, *, labelled: bool) -> Iterator[Example]:
    sentence, places, width, empty = _Sentence(), None, 0, True
    for number, line in lines:
        if blank(line) or line.startswith("-DOCSTART-"):
            if sentence.words:
                empty = False
                yield sentence.example(path)
            sentence = _Sentence()
            continue
        if format == "conllu" and line.startswith("#"):
            key, _, value = line[1:].partition("=")
            sentence.id = value.strip() if key.strip() == "sent_id" else sentence.id
            continue
        place = f"{display_name(path)}:{number}"
        bare = line.strip(" \r\n")
        cells = [cell.strip(" ") for cell in bare.split("\t")] if "\t" in bare else re.split(" +", bare)
        if places is None:
            places, width = _word_and_tag(cells, columns, format, place, labelled=labelled)
        if len(cells) != width:
            what = "CoNLL-U needs" if format == "conllu" else "the first row has"
            raise NlpcliError(
                f"{place}: the row has {counted(len(cells), 'column')}, but {what} {width}",
                hint="write one word on each line, and a blank line between sentences",
            )
        if format == "conllu" and not cells[0].isdecimal():
            continue
        word, tag = places
        if not cells[word] or (tag is not None and not cells[tag]):
            raise NlpcliError(f"{place}: the {'tag' if cells[word] else 'word'} is empty")
        sentence.line = sentence.line or number
        sentence.words.append(cells[word])
        if tag is not None:
            sentence.tags.append(clean_tag(cells[tag], len(sentence.words), place))
    if sentence.words:
        yield sentence.example(path)
    elif empty:
        raise NlpcliError(f"{display_name(path)} contains no words")


def _word_and_tag(
    cells: Sequence[str], columns: Columns, format: str, place: str, *, labelled: bool
) -> tuple[tuple[int, int | None], int]:
    """Where word and tag stand, from 0, and how many columns each row has to have."""
    names: Sequence[str] | None
    tag: int | None
    if format == "conllu":
        names, width, word, tag = FIELDS, len(FIELDS), 1, 3
    else:
        names, width, word, tag = None, len(cells), 0, len(cells) - 1
    if columns.text is not None:
        word = find(columns.text, names, width, place)
    if columns.label is not None and (labelled or (column_number(columns.label) or 0) <= width):
        tag = find(columns.label, names, width, place)
    elif tag == word:
        tag = None
    if tag is None and labelled:
        raise NlpcliError(
            f"{place}: the tag is missing; the row has only {counted(width, 'column')}",
            hint="separate columns by tabs or spaces; the tag is the last column, or the one named with --label",
        )
    return (word, tag), width


# Lists


def _is_header(columns: Columns, cells: Sequence[str]) -> bool:
    return columns.is_header(cells) or (columns.header == "auto" and squashed(cells[0]) in (*_WORDS, *_TAGS))


def _listed(row: Row, columns: Columns, *, labelled: bool) -> Example:
    if row.names is not None:
        check_width(row, len(row.names), len(row.names), more=bool(columns.text and columns.label))
    words = _column(row, columns.text, _WORDS, 0)
    if words is None:
        raise NlpcliError(
            f"{row.place}: it is not clear which column contains the words", hint="name the column with --text"
        )
    tags = _column(row, columns.label, _TAGS, None if len(row.cells) == 1 else 1, needed=labelled)
    texts = _list(row.cells[words], "words", row.place)
    label = None if tags is None or row.cells[tags] is None else _list(row.cells[tags], "tags", row.place)
    if label is not None:
        label = tuple(clean_tag(tag, number, row.place) for number, tag in enumerate(label, start=1))
    if label is None and labelled:
        raise NlpcliError(
            f"{row.place}: it is not clear which column contains the tags", hint="name the column with --label"
        )
    if label is not None and len(label) != len(texts):
        raise NlpcliError(
            f"{row.place}: the example has {counted(len(texts), 'word')} but {counted(len(label), 'tag')}"
        )
    if not texts or "" in texts:
        raise NlpcliError(f"{row.place}: {'a word is empty' if texts else 'the example has no words'}")
    id = find(columns.id, row.names, len(row.cells), row.place) if columns.id else None
    return Example(texts, label, row.place, "" if id is None else as_text(row.cells[id], "the id", row.place))


def _column(
    row: Row, wanted: str | None, usual: Iterable[str], position: int | None, *, needed: bool = True
) -> int | None:
    if wanted is not None and (needed or row.names is None or wanted in row.names):
        return find(wanted, row.names, len(row.cells), row.place)
    if row.names is None:
        return position
    option = ("--text" if usual is _WORDS else "--label") if needed else None
    return UsualColumns(row.names, row.place).first(usual, (), option)


def _list(value: object, what: str, place: str) -> tuple[str, ...]:
    """The parts of a JSON list, or of a cell with spaces between them."""
    if isinstance(value, list):
        return tuple(as_text(part, f"each of the {what}", place) for part in value)
    return tuple(part for part in re.split("[ \t]+", as_text(value, f"the column of {what}", place)) if part)
