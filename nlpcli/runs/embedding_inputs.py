"""The inputs of an embedding: the settings of a call, and the lines of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar

from nlpcli.config.counting import counted
from nlpcli.data.open_text import STDIN, check_opens
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.text_inputs import Input, check_field, read_inputs
from nlpcli.runs.text_pooling import FITTED

_Item = TypeVar("_Item")


FORMATS = ("auto", "lines", "jsonl")


WORD_VECTORS = ("mean", "first")


WINDOW = 1024  # lines read ahead


@dataclass(frozen=True)
class EmbedRequest:
    """The texts to embed, and the settings.

    files: names, "-" for standard input. format: `auto` is JSON for .jsonl, .ndjson and .json, and wherever `field`,
    the JSON field of the text ("text") or a path to it, is given. output_field: of the vector. word: of a word's tokens
    the `mean`, or the `first` one. only: words (or several words on end) that are looked for, in any case; none: all.
    processes: how many share the lines.
    """

    files: Sequence[str] = (STDIN,)
    vectors: EmbedderSettings = field(default_factory=EmbedderSettings)
    format: str = "auto"
    field: str | None = None
    output_field: str = "vector"
    word: str = "mean"
    only: tuple[str, ...] = ()
    processes: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        check_field(self.format, self.field)
        if self.word not in WORD_VECTORS:
            raise unknown("word pooling", self.word, WORD_VECTORS)
        if not all(wanted.strip() for wanted in self.only):
            raise NlpcliError("--word needs a word, but the given one is empty")
        if self.output_field == (self.field or "text"):
            raise NlpcliError(
                f"the vector can't be written to the field '{self.output_field}', which contains the text",
                hint="name another field with --output-field",
            )


def read_texts(job: EmbedRequest, added: Sequence[str] = ()) -> Iterator[Input]:
    """The lines of all files. added: see `read_inputs`. Raises: NlpcliError, with file and line, for bad input."""
    for path in job.files:
        yield from read_inputs(path, job.format, job.field, added)


def check_files(files: Sequence[str]) -> None:
    """Raises: NlpcliError for a file that can't be opened, before any model is loaded, and for stdin named twice."""
    if list(files).count(STDIN) > 1:
        raise NlpcliError("standard input can be read only once, but it is named twice")
    for path in files:
        check_opens(path)


def windows(items: Iterator[_Item], size: int = WINDOW) -> Iterator[list[_Item]]:
    """Raises: NlpcliError as `items`, after all items before."""
    window: list[_Item] = []
    try:
        for item in items:
            window.append(item)
            if len(window) == size:
                yield window
                window = []
    except NlpcliError:
        if window:
            yield window
        raise
    if window:
        yield window


def fitted(embedder: Embedder, items: Iterator[_Item], text: Callable[[_Item], str]) -> Iterator[_Item]:
    """The same items; where vectors depend on the texts as a whole, the embedder has seen the first of them.

    Raises: NlpcliError for too few.
    """
    if not embedder.depends_on_texts:
        return items
    first = list(islice(items, FITTED))
    embedder.fit([text(item) for item in first])
    return chain(first, items)


def warn_cut_lines(embedder: Embedder, warn: Callable[[str], None]) -> None:
    """Warns of lines that are longer than the embedder's limit."""
    if embedder.cut:
        have = "has" if embedder.cut == 1 else "have"
        longest = f"more than {counted(embedder.max_length, 'token')} (--max-length)"
        warn(f"{counted(embedder.cut, 'line')} {have} {longest} and {'is' if embedder.cut == 1 else 'are'} truncated")
