"""Reading text: lines, parallel lines, and documents out of files, folders, globs and standard input.

Text is UTF-8 and nothing else; only LF (or CR LF) ends a line, so that a file has the same lines here as in `wc -l`,
`sed` and sacreBLEU, despite other line separators of Unicode.
"""

from __future__ import annotations

import codecs
import glob
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from nlpcli.config.counting import counted
from nlpcli.data.json_objects import read_objects, text_member
from nlpcli.data.open_text import (
    STDIN,
    check_opens,
    check_text,
    display_name,
    inner_suffix,
    looks_like_text,
    open_bytes,
    text_lines,
)
from nlpcli.errors import NlpcliError, unknown

FORMATS = ("auto", "lines", "paragraphs", "file", "jsonl", "tsv")
PART_CHARACTERS = 1 << 18
"""A document longer than this is handed on in parts, cut at ends of lines, so that its length needs no memory."""

_LOOK_AHEAD_LINES = 2000
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv"}

TextPart = tuple[str, bool]
"""A stretch of a document, and whether the document ends with it."""
TextBlock = tuple[list[str], list[bool]]
"""Consecutive parts: their texts, and of each whether its document ends with it."""


@dataclass(frozen=True)
class TextSource:
    """How documents stand in files.

    format: `lines`: one document a line. `paragraphs`: blank lines stand between documents, line ends inside one are
        kept. `file`: a whole file is one document and every character of it counts, line ends included, as in
        character language models. `jsonl`: one JSON object a line, or a list of objects (see
        `nlpcli.data.json_objects`), each text under the key, or at the path, `field`. `tsv`: one document a line, in
        the tab-separated column `column`, counted from 1.
        `auto`, for each file: `jsonl` for .jsonl, .ndjson and .json, `tsv` for .tsv; else `paragraphs` if there is a
        blank line near the beginning (running text: books, articles, plays), `lines` if there is none (lists of
        sentences).

    Source: blank lines between documents are the input format of BERT's pretraining (Devlin et al. 2019, released
    code); one sentence a line is that of the translation corpora.
    """

    format: str = "auto"
    field: str = "text"
    column: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("document format", self.format, FORMATS)
        if self.column < 1:
            raise NlpcliError(f"there is no column {self.column}: columns are numbered from 1")

    def format_of(self, path: Path | str) -> str:
        """The format of one file as far as its name shows it; `auto` where its content has to."""
        return _BY_SUFFIX.get(inner_suffix(path), "auto") if self.format == "auto" else self.format


LONGEST_LINE = 4 * 2**20
"""Bytes of a line that is encoded at once; a tokenizer needs up to a hundred times as much memory."""


def read_lines(path: Path | str, *, ends: bool = False, longest: int | None = LONGEST_LINE) -> Iterator[str]:
    """The lines of a text file, or of standard input for "-", without their ends.

    Plain or compressed (.gz, .xz, .zst); a byte order mark at the beginning is dropped; one CR before the LF is too.
    Each line is given as soon as it is complete. ends: leave LF, and CR before it, in place. longest: a line's bytes;
    None: any.

    Raises: NlpcliError for a file that is missing, damaged or not UTF-8 (with line and column), and a longer line.
    """
    with open_bytes(path) as stream:
        lines = stream if longest is None else bounded(stream, path, longest)
        yield from _decoded(text_lines(lines, path), path, ends=ends)


_LONGEST_DOCUMENT = 128 * 2**20  # bytes of a line of training text
_BLOCK = 1 << 17  # bytes of lines that are decoded at once
_AS_A_FILE = "split it into shorter lines, or read the file as one document: --documents file"
_SPLIT = "split it into shorter lines, for example into sentences"


def bounded(
    stream: io.BufferedIOBase, path: Path | str, longest: int, *, hint: str = _SPLIT, first: int = 1
) -> Iterator[bytes]:
    """The lines of a stream, none of which is held in memory beyond the bound; `first` is the number of the first one.

    Raises: NlpcliError for a longer line.
    """
    number = first
    while raw := stream.readline(longest + 1):
        if len(raw) > longest:
            raise NlpcliError(
                f"{display_name(path)}:{number}: the line is too long: it has more than {longest:,} bytes",
                hint=hint,
            )
        yield raw
        number += 1


def split_lines(text: str) -> Iterator[str]:
    """As `str.splitlines(keepends=True)`, but only at LF."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start : end + 1]
        start = end + 1
    if start < len(text):
        yield text[start:]


def count_lines(path: Path | str) -> int:
    """The number of lines `read_lines` gives. Raises: NlpcliError as there, except for bytes that are not UTF-8."""
    count, last = 0, b"\n"
    with open_bytes(path) as stream:
        while block := stream.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def read_parallel(source: Path | str, target: Path | str) -> Iterator[tuple[str, str]]:
    """The pairs of lines of two files of which line n of one is the translation of line n of the other.

    Raises: NlpcliError for files of unequal length (naming both numbers of lines), empty files, and as `read_lines`.
    """
    lines = enumerate(zip_longest(read_lines(source), read_lines(target)))
    number = -1
    for number, (source_line, target_line) in lines:
        if source_line is None or target_line is None:
            total = number + 1 + sum(1 for _ in lines)
            counts = (number, total) if source_line is None else (total, number)
            raise unequal(source, target, *counts)
        yield source_line, target_line
    if number < 0:
        raise NlpcliError(f"{display_name(source)} and {display_name(target)} are empty")


def unequal(source: Path | str, target: Path | str, source_lines: int, target_lines: int) -> NlpcliError:
    """The error for two sides of a parallel corpus that don't have the same number of lines."""
    return NlpcliError(
        f"the numbers of lines differ: {display_name(source)} has {counted(source_lines, 'line')}, "
        f"but {display_name(target)} has {target_lines:,}",
        hint="line n of one file must be the translation of line n of the other; leave a blank line for a missing one",
    )


def find_files(paths: Iterable[Path | str] | Path | str) -> list[Path | str]:
    """The files meant by names of files, folders (all text files below, sorted), globs and "-" (standard input).

    Below a folder hidden entries are left out, and so are files that are not text (with zero bytes at the beginning).

    Raises: NlpcliError for a name that stands for nothing, and for a folder without text files.
    """
    found: list[Path | str] = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        if str(path) == STDIN:
            found.append(STDIN)
        elif Path(path).is_dir():
            found.extend(_text_files_below(Path(path)))
        elif not Path(path).exists() and glob.has_magic(str(path)):
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
            matches = [match for match in matches if match.is_file()]
            if not matches:
                raise NlpcliError(f"{path}: no file matches this pattern")
            found.extend(matches)
        else:
            check_opens(path)
            found.append(Path(path))
    if not found:
        raise NlpcliError("no text files were given")
    return found


def read_documents(
    paths: Iterable[Path | str], *, format: str = "auto", field: str = "text", column: int = 1
) -> Iterator[str]:
    """The documents in files, folders, globs or standard input; see `TextSource` for the formats.

    Blank documents are left out.

    Raises: NlpcliError for bad input (with file and line), and when there is no text at all.
    """
    source = TextSource(format, field, column)
    files = find_files(paths)
    empty = True
    for path in files:
        parts: list[str] = []
        for text, ends in read_parts(path, source):
            parts.append(text)
            if not ends:
                continue
            document = "".join(parts)
            parts = []
            if not blank(document):
                empty = False
                yield document
    if empty:
        raise no_text(files)


def no_text(files: Sequence[Path | str]) -> NlpcliError:
    """The error for files in which there is nothing to read."""
    names = ", ".join(display_name(path) for path in files[:3]) + (" and others" if len(files) > 3 else "")
    return NlpcliError(f"{names} {'contains' if len(files) == 1 else 'contain'} no text")


def blank(text: str) -> bool:
    return not text or text.isspace()


def read_parts(path: Path | str, source: TextSource, *, keep_empty: bool = False) -> Iterator[TextPart]:
    """The documents of one file in parts of bounded length.

    keep_empty: give an empty document for each blank line of `lines`, so that documents and lines are aligned.
    """
    for texts, ends in read_blocks(path, source, keep_empty=keep_empty):
        yield from zip(texts, ends, strict=True)


def read_blocks(path: Path | str, source: TextSource, *, keep_empty: bool = False) -> Iterator[TextBlock]:
    """The same parts, many at a time where a document is a line: a step of a generator for each costs more than all
    that is done to it here."""
    with open_bytes(path) as stream:
        if source.format == "file":
            yield from _one_by_one(_whole(stream, path))
            return
        blocks = _line_blocks(stream, path)
        format = source.format_of(path)
        if format == "auto":
            beginning: list[str] = []
            for block in blocks:
                beginning += block
                if len(beginning) >= _LOOK_AHEAD_LINES:
                    break
            format = "paragraphs" if _has_inner_blank(beginning[:_LOOK_AHEAD_LINES]) else "lines"
            blocks = itertools.chain([beginning], blocks)
        lines = itertools.chain.from_iterable(blocks)
        if format == "paragraphs":
            yield from _one_by_one(_paragraphs(lines))
        elif format == "jsonl":
            yield from _one_by_one(_in_parts(_json_lines(lines, path, source.field)))
        elif format == "tsv":
            yield from _one_by_one(_in_parts(_column(lines, path, source.column)))
        else:
            yield from _documents_of_lines(blocks, keep_empty=keep_empty)


def _one_by_one(parts: Iterable[TextPart]) -> Iterator[TextBlock]:
    return (([text], [ends]) for text, ends in parts)


def _documents_of_lines(blocks: Iterable[list[str]], *, keep_empty: bool) -> Iterator[TextBlock]:
    for block in blocks:
        texts = block if keep_empty else [line for line in block if line and not line.isspace()]
        if max(map(len, texts), default=0) > PART_CHARACTERS:
            yield from _one_by_one(_in_parts(texts))
        else:
            yield texts, [True] * len(texts)


def _has_inner_blank(lines: list[str]) -> bool:
    """Whether a blank line stands before some text; at the very end of a list of sentences it separates nothing."""
    filled = [number for number, line in enumerate(lines) if not blank(line)]
    return bool(filled) and filled[-1] + 1 != len(filled)


def _line_blocks(stream: io.BufferedIOBase, path: Path | str) -> Iterator[list[str]]:
    """The lines of training text without their ends, many at a time; those before an error are given first."""
    number = 1
    while data := stream.read(_BLOCK):
        if not data.endswith(b"\n"):
            data += stream.readline(_LONGEST_DOCUMENT + 1)
        lines = _split(data) if number > 1 and len(data) <= _LONGEST_DOCUMENT else None
        if lines is not None:
            yield lines
            number += len(lines)
            continue
        # the beginning, which has to be that of a text, or lines with an error, which has to be found
        each = bounded(io.BytesIO(data), path, _LONGEST_DOCUMENT, hint=_AS_A_FILE, first=number)
        for line in _decoded(text_lines(each, path) if number == 1 else each, path, first=number):
            yield [line]
            number += 1


def _split(data: bytes) -> list[str] | None:
    """The lines without their ends; None where one of them is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    lines = text.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _decoded(lines: Iterable[bytes], path: Path | str, *, ends: bool = False, first: int = 1) -> Iterator[str]:
    for number, raw in enumerate(lines, start=first):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(path, number, raw, error.start) from error
        if not ends:
            line = line.removesuffix("\n").removesuffix("\r")
        yield line


def _not_utf8(path: Path | str, number: int, raw: bytes, start: int) -> NlpcliError:
    column = len(raw[:start].decode("utf-8", errors="replace")) + 1
    return NlpcliError(
        f"{display_name(path)}:{number}: the line is not valid UTF-8 (byte 0x{raw[start]:02x} at column {column})",
        hint="if the file has another encoding, convert it first: iconv -f LATIN1 -t UTF-8",
    )


def _paragraphs(lines: Iterable[str]) -> Iterator[TextPart]:
    held: list[str] = []
    length = 0
    started = False
    for line in lines:
        if blank(line):
            if started:
                yield "\n".join(held), True
            held, length, started = [], 0, False
            continue
        if length > PART_CHARACTERS:
            yield "\n".join(held) + "\n", False
            held, length = [], 0
        held.append(line)
        length += len(line) + 1
        started = True
    if started:
        yield "\n".join(held), True


def _whole(stream: io.BufferedIOBase, path: Path | str) -> Iterator[TextPart]:
    """Every character of a file: cut after the last line end of a block, or the last space, or else anywhere."""
    decode = codecs.getincrementaldecoder("utf-8")("strict").decode
    rest, line, first = "", 1, True
    while True:
        block = stream.read(PART_CHARACTERS)
        if first:
            check_text(path, block)
        try:
            text = decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _not_utf8_in_block(path, error, rest, line) from error
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        rest += text
        if not block:
            break
        if len(rest) >= PART_CHARACTERS:
            cut = rest.rfind("\n") + 1 or rest.rfind(" ") + 1 or len(rest)
            line += rest.count("\n", 0, cut)
            yield rest[:cut], False
            rest = rest[cut:]
    yield rest, True


def _not_utf8_in_block(path: Path | str, error: UnicodeDecodeError, rest: str, line: int) -> NlpcliError:
    before = rest.encode("utf-8") + error.object[: error.start]
    number = line + before.count(b"\n")
    raw = before[before.rfind(b"\n") + 1 :]
    return _not_utf8(path, number, raw + error.object[error.start : error.start + 1], len(raw))


def _in_parts(documents: Iterable[str]) -> Iterator[TextPart]:
    """Documents that are whole in memory, cut after the last space within reach, or else anywhere."""
    for text in documents:
        start = 0
        while len(text) - start > PART_CHARACTERS:
            end = text.rfind(" ", start, start + PART_CHARACTERS) + 1 or start + PART_CHARACTERS
            yield text[start:end], False
            start = end
        yield text[start:], True


def _json_lines(lines: Iterable[str], path: Path | str, field: str) -> Iterator[str]:
    for record, place in read_objects(enumerate(lines, start=1), path, numbers=True):
        yield text_member(record, field, place)


def _column(lines: Iterable[str], path: Path | str, column: int) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if blank(line):
            continue
        columns = line.split("\t")
        if column > len(columns):
            raise NlpcliError(
                f"{display_name(path)}:{number}: there is no column {column}; "
                f"the line has {counted(len(columns), 'column')}",
                hint="columns are separated by tabs",
            )
        yield columns[column - 1]


def _text_files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(here, name) for name in names if not name.startswith("."))
    files = [path for path in sorted(found) if path.is_file() and looks_like_text(path)]
    if not files:
        raise NlpcliError(f"{folder} contains no text files")
    return files
