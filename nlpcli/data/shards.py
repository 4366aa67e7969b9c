"""Building shard sets: what to build, where it is kept, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import AlreadyThere, new_directory, sha256_file
from nlpcli.config.temporary_files import is_free, sweep
from nlpcli.data.document_sentences import SENTENCES, sentence_units, space_between
from nlpcli.data.encoding import Empty, ShardWriter, encode_all, token_dtype
from nlpcli.data.readers import TextBlock, TextSource, no_text, read_blocks, read_parts
from nlpcli.data.repeatable_input import repeatable
from nlpcli.data.shard_set import INDEX, VERSION, ShardSet, index_bytes
from nlpcli.errors import NlpcliError, unknown

if TYPE_CHECKING:
    from nlpcli.text.tokenizer import Tokenizer

__all__ = ["ShardSet", "build_shards", "cache_folder"]

_WORTH_A_PROCESS = 4_000_000
"""Bytes of text that keep a worker busy longer than it takes to start it."""
_TRIES, _PAUSE = 20, 0.05  # seconds
_COMPRESSED = (".gz", ".xz", ".zst")


def build_shards(
    paths: Iterable[Path | str] | Path | str,
    tokenizer: Tokenizer | Path | str,
    *,
    out: Path | str | None = None,
    documents: str | TextSource = "auto",
    keep_empty: bool = False,
    sentences: str | None = None,
    workers: int | None = None,
    shard_tokens: int = 1 << 28,
) -> ShardSet:
    """The shard set of some texts, built unless it is there already.

    It is there if content, tokenizer and options are the same; the names of files, and their times, don't matter.
    Documents longer than some hundred thousand characters are encoded in parts cut at ends of lines. The result
    doesn't depend on `workers`. Whatever interrupts the building leaves nothing behind that is taken for finished.

    paths: files, folders, globs, or "-" for standard input. tokenizer: a tokenizer or the folder of a saved one.
    out: where it shall stand; without it in the cache: `shards/` below `$NLPCLI_CACHE`, `$XDG_CACHE_HOME/nlpcli` or
        `~/.cache/nlpcli`.
    documents: how they stand in the files, a `TextSource` or the name of its format. keep_empty: blank lines of
        `lines` are empty documents, so that document n is line n; otherwise documents without text are left out.
    sentences: `lines` or `split`: each sentence is a document of the set, and an empty one ends each document; see
        `sentence_units`, and `SentenceDocuments` to read them.
    workers: encoding processes; None: as many as the machine and the amount of text warrant.
    shard_tokens: tokens per file.
    Raises: NlpcliError for bad input, for texts without any text, and when `out` holds something else; RunFailed when
        the disk is full or an encoding process dies.
    """
    if sentences is not None and sentences not in SENTENCES:
        raise unknown("sentences setting", sentences, SENTENCES)
    if sentences is not None and keep_empty:
        raise NlpcliError(
            "keep_empty and sentences can't be used together, because an empty sentence marks the end of a document"
        )
    source = TextSource(documents) if isinstance(documents, str) else documents
    job = _Job(source, _loaded(tokenizer), keep_empty=keep_empty, sentences=sentences, shard_tokens=shard_tokens)
    with repeatable(paths) as files:
        stamps = [_stamp(path) for path in files]
        fingerprint = job.fingerprint(files)
        place = cache_folder() / "shards" / fingerprint if out is None else Path(out)
        finished = _finished(place, fingerprint, cached=out is None)
        if finished is not None:
            return finished
        if out is None:
            sweep(place.parent)

        def unfinished() -> bool:
            return _finished(place, fingerprint, cached=out is None) is None

        with (
            suppress(AlreadyThere),  # another process has put the same set there meanwhile
            new_directory(place, replace=unfinished) as folder,
        ):
            job.write(files, folder, fingerprint, workers=_workers(files, workers))
            if [_stamp(path) for path in files] != stamps:
                raise NlpcliError("the text was changed while it was read", hint="run the command again")
        return _opened(place)


def cache_folder() -> Path:
    """Where what can be made again is kept: `$NLPCLI_CACHE`, `$XDG_CACHE_HOME/nlpcli` or `~/.cache/nlpcli`."""
    if own := os.environ.get("NLPCLI_CACHE"):
        return Path(own)
    common = os.environ.get("XDG_CACHE_HOME")
    return (Path(common) if common else Path.home() / ".cache") / "nlpcli"


@dataclass(frozen=True)
class _Job:
    source: TextSource
    tokenizer: Tokenizer
    keep_empty: bool
    sentences: str | None
    shard_tokens: int

    def fingerprint(self, files: list[Path]) -> str:
        """SHA-256 of everything that determines the ids: content, formats, tokenizer, options."""
        return hashlib.sha256(json.dumps([self._made_of(), *self._content(files)]).encode()).hexdigest()

    def _made_of(self) -> dict[str, Any]:
        used = {"jsonl": ("field",), "tsv": ("column",), "auto": ("field", "column")}.get(self.source.format, ())
        return {
            "version": VERSION,
            "tokenizer": self.tokenizer.fingerprint,
            "vocab_size": self.tokenizer.vocab_size,
            "documents": self.source.format,
            "keep_empty": self.keep_empty,
            "shard_tokens": self.shard_tokens,
            **{name: getattr(self.source, name) for name in used},
            **({"sentences": self.sentences} if self.sentences else {}),  # sets built without keep their fingerprint
        }

    def _content(self, files: list[Path]) -> Iterator[tuple[str, str]]:
        for path in files:
            yield self.source.format_of(path), sha256_file(path)

    def write(self, files: list[Path], folder: Path, fingerprint: str, *, workers: int) -> None:
        """Fills a folder with the set. Raises: NlpcliError when there is no text."""
        dtype = token_dtype(self.tokenizer.vocab_size)
        kept: Empty = "all" if self.keep_empty else "marks" if self.sentences else "none"
        writer = ShardWriter(folder, dtype, shard_tokens=self.shard_tokens, keep_empty=kept)
        encoded = encode_all(self._blocks(files), self.tokenizer, workers=workers)
        with writer, closing(encoded):
            for run in encoded:
                writer.add(run)
        if not writer.totals[0]:
            raise no_text(files)
        tokens, text_bytes, text_words = (int(total) for total in writer.totals)
        index = {
            **self._made_of(),
            "fingerprint": fingerprint,
            "dtype": dtype.str,
            "documents": writer.documents,
            "tokens": tokens,
            "text_bytes": text_bytes,
            "text_words": text_words,
            "format": self.source.format,
            "files": dict(sorted(writer.files.items())),
        }
        (folder / INDEX).write_bytes(index_bytes(index))

    def _blocks(self, files: list[Path]) -> Iterator[TextBlock]:
        if self.sentences is not None:
            space = space_between(self.tokenizer)
            for path in files:
                for text, ends in sentence_units(read_parts(path, self.source), self.sentences, space=space):
                    yield [text], [ends]
            return
        for path in files:
            blocks = read_blocks(path, self.source, keep_empty=self.keep_empty)
            yield from blocks if self.keep_empty else _without_blank_documents(blocks)


def _without_blank_documents(blocks: Iterable[TextBlock]) -> Iterator[TextBlock]:
    """blocks: one part each, or whole documents."""
    begun = False
    for texts, ends in blocks:
        if begun or not all(ends):
            begun = not ends[-1]
            yield texts, ends
        else:
            texts = [text for text in texts if text and not text.isspace()]
            yield texts, [True] * len(texts)


def _loaded(tokenizer: Tokenizer | Path | str) -> Tokenizer:
    if isinstance(tokenizer, (str, os.PathLike)):
        from nlpcli.text import load_tokenizer

        return load_tokenizer(Path(tokenizer))
    return tokenizer


def _finished(place: Path, fingerprint: str, *, cached: bool) -> ShardSet | None:
    """The set at `place` if it is the wanted one; a damaged one of the cache counts as none."""
    if not place.exists():
        return None
    if not (place / INDEX).exists() and not cached:
        if is_free(place):
            return None
        raise NlpcliError(f"{place} contains something other than a shard set", hint="choose another folder")
    try:
        found = ShardSet.open(place)
    except NlpcliError:
        if cached:
            return None
        raise
    if found.fingerprint != fingerprint:
        raise NlpcliError(
            f"{place} contains the shards of another text, another tokenizer or other options",
            hint="choose another folder, or delete this one",
        )
    return found


def _opened(place: Path) -> ShardSet:
    """The set that was just put at `place`, for an instant perhaps replaced by another process's, which is the same."""
    for _ in range(_TRIES):
        with suppress(NlpcliError):
            return ShardSet.open(place, verify=False)
        time.sleep(_PAUSE)
    return ShardSet.open(place, verify=False)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _workers(files: list[Path], wanted: int | None) -> int:
    if wanted is not None:
        if wanted < 1:
            raise NlpcliError(f"the number of encoding processes must be at least 1, not {wanted}")
        return wanted
    size = sum(path.stat().st_size * (3 if path.suffix.lower() in _COMPRESSED else 1) for path in files)
    return max(min(_processors(), math.floor(size / _WORTH_A_PROCESS)), 1)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
