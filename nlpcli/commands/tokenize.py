"""Training a tokenizer from files, encoding and decoding lines, and measuring a tokenizer on a text."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.config.files import new_directory
from nlpcli.config.number_parsing import parse_int
from nlpcli.config.temporary_files import entries
from nlpcli.data.open_text import display_name
from nlpcli.data.readers import (
    LONGEST_LINE,
    TextSource,
    blank,
    find_files,
    no_text,
    read_lines,
    read_parts,
    split_lines,
)
from nlpcli.errors import NlpcliError, unknown
from nlpcli.text import TOKENIZERS, Tokenizer, train_tokenizer
from nlpcli.text.detokenization import BYTE_PIECES
from nlpcli.text.normalization import normalizer
from nlpcli.text.tokenizer_training import COUNTED, MAX_LINES, CharacterSettings

FORMS = ("ids", "tokens")
DEFAULT_SIZE = 8000
_BATCH = 1000  # lines
_LONGEST_IDS = 8 * LONGEST_LINE  # bytes: of a line that could be encoded
_LINES_PER_UPDATE = 10_000  # lines


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of `tokenize train`; see `nlpcli.text.train_tokenizer`.

    vocab_size None: all there are for chars and words, `DEFAULT_SIZE` for the other kinds.
    byte_fallback None: what the kind has.
    """

    out: Path
    files: Sequence[str]
    kind: str = "unigram"
    vocab_size: int | None = None
    sentinels: int = 0
    byte_fallback: bool | None = None
    normalization: str = "identity"
    lowercase: bool = False
    character_coverage: float = 1.0
    max_lines: int = MAX_LINES
    seed: int = 0
    source: TextSource = field(default_factory=TextSource)
    overwrite: bool = False


@dataclass(frozen=True)
class Trained:
    """lines: how many the tokenizer was trained on; lines_read: how many there were; seconds: the time it took."""

    tokenizer: Tokenizer
    out: Path
    lines: int
    lines_read: int
    seconds: float

    @property
    def note(self) -> str | None:
        """The warnings about the text and a tokenizer of this kind."""
        return getattr(self.tokenizer.model, "note", None)


def train(settings: TrainingSettings, *, on_line: Callable[[int], None] | None = None) -> Trained:
    """Trains a tokenizer on the lines of files and writes its folder, whole or not at all.

    on_line: receives the number of lines read so far.

    Raises: NlpcliError for a folder that is in use, bad input, and as `train_tokenizer`.
    """
    start = time.monotonic()
    TOKENIZERS.check(settings.kind)
    normalizer(settings.normalization)
    _check_byte_fallback(settings.kind, settings.byte_fallback)
    replace = _check_out(settings.out, settings.overwrite)
    size = settings.vocab_size
    if size is None and settings.kind not in COUNTED:
        size = DEFAULT_SIZE
    tokenizer = train_tokenizer(
        settings.kind,
        _training_lines(settings.files, settings.source, on_line),
        vocab_size=size,
        sentinels=settings.sentinels,
        byte_fallback=settings.byte_fallback is not False,
        characters=CharacterSettings(settings.normalization, settings.lowercase, settings.character_coverage),
        max_lines=settings.max_lines,
        seed=settings.seed,
    )
    with new_directory(settings.out, replace=replace) as folder:
        tokenizer.save(folder)
    trained = tokenizer.trained
    return Trained(tokenizer, settings.out, trained["lines"], trained["of"], time.monotonic() - start)


def _check_byte_fallback(kind: str, wanted: bool | None) -> None:
    if kind == "wordpiece" and wanted:
        raise NlpcliError(
            "a tokenizer of type wordpiece has no byte fallback: a word that it can't split becomes <unk>",
            hint="leave out --byte-fallback, or choose another --type",
        )
    if kind == "words" and wanted:
        raise NlpcliError(
            "a tokenizer of type words has no byte fallback: a rare word becomes <unk>",
            hint="leave out --byte-fallback, or choose another --type",
        )
    if kind == "byte-bpe" and wanted is False:
        raise NlpcliError(
            "a tokenizer of type byte-bpe always uses bytes, so --no-byte-fallback is not possible",
            hint="leave out --no-byte-fallback, or use --type bpe",
        )


def _check_out(out: Path, overwrite: bool) -> bool:
    """Whether the path exists and may be replaced: an empty folder, or a tokenizer with --overwrite."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise NlpcliError(f"{out} is a file, not a folder")
    held = {entry.name for entry in entries(out)}
    if not held:
        return True
    files = {TOKENIZERS.load(kind).file_name for kind in TOKENIZERS} | {"tokenizer.yaml"}
    if not held <= files:
        raise NlpcliError(
            f"{out} contains files that do not belong to a tokenizer ({min(held - files)})", hint="choose another --out"
        )
    if not overwrite:
        raise NlpcliError(
            f"{out} already contains a tokenizer", hint="choose another --out, or replace it with --overwrite"
        )
    return True


def _training_lines(files: Sequence[str], source: TextSource, on_line: Callable[[int], None] | None) -> Iterator[str]:
    """The lines of all documents; a line end inside a document is kept, because the model will see it."""
    found = find_files(files)
    count = 0
    for path in found:
        for text, _ in read_parts(path, source):
            for line in split_lines(text):
                if not blank(line):
                    count += 1
                    if on_line is not None and count % _LINES_PER_UPDATE == 0:
                        on_line(count)
                yield line
    if not count:
        raise no_text(found)


def encode_lines(
    tokenizer: Tokenizer,
    files: Sequence[str],
    *,
    form: str = "ids",
    sampling: float = 0.0,
    seed: int = 0,
    line_buffered: bool = False,
) -> Iterator[tuple[str, list[int] | list[str]]]:
    """Each line of the files with its ids, or its tokens. "-" is standard input.

    line_buffered: each line is answered before the next is read.
    Raises: NlpcliError for bad input, an unknown form, or sampling where the kind has none.
    """
    _check_form(form)
    if not 0.0 <= sampling <= 1.0:
        raise NlpcliError(f"--sampling must be between 0 and 1, not {sampling:g}")
    rng = np.random.default_rng(seed)
    lines_of_files = (line for path in files for line in read_lines(path))
    for lines in _batches(lines_of_files, 1 if line_buffered else _BATCH):
        yield from _encoded(tokenizer, lines, tokenizer.encode(lines, sampling=sampling, rng=rng), form)


def encode_in_processes(
    directory: Path, files: Sequence[str], *, form: str, processes: int
) -> Iterator[tuple[str, list[int] | list[str]]]:
    """As `encode_lines` without sampling, with the tokenizer in `directory`, by several processes."""
    from nlpcli.runs.worker_processes import in_processes

    _check_form(form)
    for lines in in_processes(_batches(_lines_of(files), _BATCH), _EncodingWork(directory, form), processes):
        yield from lines


@dataclass(frozen=True)
class _EncodingWork:
    """Encodes batches of lines."""

    directory: Path
    form: str

    def open(self, number: int, threads: int) -> Callable[[list[str]], list[tuple[str, list[int] | list[str]]]]:
        from nlpcli.runs.open_tokenizer import open_tokenizer

        tokenizer = open_tokenizer(self.directory)
        return lambda lines: list(_encoded(tokenizer, lines, tokenizer.encode(lines), self.form))


def _encoded(
    tokenizer: Tokenizer, lines: Sequence[str], found: Sequence[Sequence[int]], form: str
) -> Iterator[tuple[str, list[int] | list[str]]]:
    """Lines with their ids, which were found, or tokens."""
    for line, ids in zip(lines, found, strict=True):
        yield line, list(ids) if form == "ids" else [tokenizer.id_to_piece(id_) for id_ in ids]


def _lines_of(files: Sequence[str]) -> Iterator[str]:
    return (line for path in files for line in read_lines(path))


def decode_lines(
    tokenizer: Tokenizer, files: Sequence[str], *, form: str = "ids", line_buffered: bool = False
) -> Iterator[tuple[list[int] | list[str], str]]:
    """The ids, or tokens, of each line with their text. The text may contain line ends, if the ids encode them.

    Raises: NlpcliError with file and line for anything that is not an id or token of this tokenizer.
    """
    _check_form(form)
    parse = _parse_ids if form == "ids" else _parse_tokens
    rows = (
        parse(tokenizer, line, f"{display_name(path)}:{number}")
        for path in files
        for number, line in enumerate(read_lines(path, longest=_LONGEST_IDS), 1)
    )
    for batch in _batches(rows, 1 if line_buffered else _BATCH):
        for ids, text in zip(batch, tokenizer.decode(batch), strict=True):
            yield ids if form == "ids" else [tokenizer.id_to_piece(id_) for id_ in ids], text


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise unknown("unit", form, FORMS)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _parse_ids(tokenizer: Tokenizer, line: str, place: str) -> list[int]:
    words = line.split()
    ids: list[int] = []
    for word in words:
        id_ = parse_int(word)
        if id_ is None:
            hint = "add --unit tokens to decode tokens" if word in tokenizer else None
            raise NlpcliError(f"{place}: '{word[:40]}' is not an id", hint=hint)
        if not 0 <= id_ < tokenizer.vocab_size:
            raise NlpcliError(f"{place}: the id {word[:40]} is not in the vocabulary (0 to {tokenizer.vocab_size - 1})")
        ids.append(id_)
    return ids


def _parse_tokens(tokenizer: Tokenizer, line: str, place: str) -> list[int]:
    tokens = [token for token in line.split(" ") if token]
    for token in tokens:
        if token not in tokenizer:
            raise NlpcliError(f"{place}: '{token}' is not a token of this tokenizer")
    return [tokenizer.piece_to_id(token) for token in tokens]


def measure(tokenizer: Tokenizer, files: Sequence[str]) -> dict[str, Any]:
    """How a tokenizer splits a text.

    fertility: tokens per white-space separated word. unknown_share, byte_share: the share, from 0 to 1, of the tokens
    that are unk, or single bytes of characters without a token. characters_per_token: line ends are not counted.
    changed_lines: lines that differ after encoding and decoding.

    Raises: NlpcliError for bad input and when there is no text.
    """
    byte_ids: frozenset[int] = frozenset()
    if tokenizer.kind != "byte-bpe":
        byte_ids = frozenset(id_ for id_ in map(tokenizer.piece_to_id, BYTE_PIECES) if id_ != tokenizer.special.unk)
    total = dict.fromkeys(("lines", "words", "characters", "tokens", "unknown", "bytes", "changed_lines"), 0)
    for lines in _batches(_lines_of(files), _BATCH):
        encoded = tokenizer.encode(lines)
        total["lines"] += len(lines)
        for line, ids, back in zip(lines, encoded, tokenizer.decode(encoded), strict=True):
            total["words"] += len(line.split())
            total["characters"] += len(line)
            total["tokens"] += len(ids)
            total["unknown"] += ids.count(tokenizer.special.unk)
            total["bytes"] += sum(id_ in byte_ids for id_ in ids)
            total["changed_lines"] += back != line
    if not total["tokens"]:
        raise no_text(list(files))
    tokens = total["tokens"]
    return {
        "lines": total["lines"],
        "words": total["words"],
        "tokens": tokens,
        "fertility": tokens / max(1, total["words"]),
        "characters_per_token": total["characters"] / tokens,
        "unknown_share": total["unknown"] / tokens,
        "byte_share": total["bytes"] / tokens,
        "changed_lines": total["changed_lines"],
    }
