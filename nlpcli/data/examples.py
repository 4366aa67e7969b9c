"""Examples of supervised tasks, and the columns of tables and JSON lines they are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nlpcli.errors import NlpcliError, unknown

FORMATS = ("auto", "tsv", "csv", "jsonl", "labelled-lines", "conll", "conllu", "squad", "lines")
HEADERS = ("auto", "yes", "no")


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
    """An answer to a question and where it starts: a character offset into the context."""

    text: str
    start: int


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, by name (header, JSON key) or by number counted from 1; None: found by usual names.

    format: one of FORMATS; `auto` goes by the file's name. header: whether the first row of a table names the columns;
    `auto` looks at it.

    Raises: NlpcliError for a format or a header that is none of these, and for a column 0.
    """

    format: str = "auto"
    header: str = "auto"
    text: str | None = None
    text2: str | None = None
    label: str | None = None
    choices: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format of examples", self.format, FORMATS)
        if self.header not in HEADERS:
            raise unknown("header", self.header, HEADERS)
        for name in (self.text, self.text2, self.label, self.id, *self.choices):
            if name == "0":
                raise NlpcliError("column 0: columns are counted from 1")
