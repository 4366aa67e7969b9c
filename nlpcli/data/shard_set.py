"""A finished shard set: a corpus as token ids in memory-mapped files, read in constant memory.

A shard set is a folder: `tokens-00000.bin`, ... (the ids of all documents, one stream), `offsets.bin` (where each
document begins), `sizes.bin` (its bytes and words as text) and `index.json` (what it was made of, and the size and
SHA-256 of each file). It appears complete or not at all.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.files import plain_name, read_regular, sha256_file
from nlpcli.data.encoding import OFFSETS, SIZES, TABLE_DTYPE
from nlpcli.errors import NlpcliError

INDEX = "index.json"
VERSION = 1


def index_bytes(index: dict[str, Any]) -> bytes:
    """The content of `index.json`: the index and its own digest."""
    return json.dumps({**index, "digest": _digest(index)}, indent=1, ensure_ascii=False).encode() + b"\n"


def _digest(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


class ShardSet:
    """Documents as token ids, or a stretch of them; copies nothing and may be far larger than memory.

    documents: number of documents. tokens: number of tokens; no begin or end tokens stand between documents.
    text_bytes, text_words: what perplexity per byte and word divides by: UTF-8 bytes and white-space separated words of
        the documents themselves (not of what separates them).
    vocab_size, tokenizer: size and fingerprint of the tokenizer the ids belong to.
    fingerprint: SHA-256 of content, tokenizer and options; equal fingerprints mean equal ids.
    """

    def __init__(self, files: _Files, start: int, stop: int, first: int, last: int) -> None:
        self._files = files
        self._start, self._stop = start, stop  # tokens of the whole set
        self._first, self._last = first, last  # documents of the whole set, the border ones perhaps in part

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> ShardSet:
        """Opens a finished set. verify: compare each file with its digest, not with its size alone.

        Raises: NlpcliError when it is missing, incomplete or changed.
        """
        files = _Files(Path(path), verify=verify)
        return cls(files, 0, files.index["tokens"], 0, files.index["documents"])

    def __reduce__(self) -> tuple[Callable[..., ShardSet], tuple[object, ...]]:
        # A loader process maps the files again instead of receiving their content.
        return _reopen, (self.path, self._start, self._stop, self._first, self._last)

    def __len__(self) -> int:
        return self.documents

    @property
    def path(self) -> Path:
        return self._files.path

    @property
    def vocab_size(self) -> int:
        return self._files.index["vocab_size"]

    @property
    def tokenizer(self) -> str:
        return self._files.index["tokenizer"]

    @property
    def sentences(self) -> str | None:
        """How the sentences were found that are its documents; None where the documents are whole."""
        return self._files.index.get("sentences")

    @property
    def fingerprint(self) -> str:
        whole = self._files.index["fingerprint"]
        if (self._start, self._stop) == (0, self._files.index["tokens"]):
            return whole
        return hashlib.sha256(f"{whole}[{self._start}:{self._stop}]".encode()).hexdigest()

    @property
    def documents(self) -> int:
        return self._last - self._first

    @property
    def tokens(self) -> int:
        return self._stop - self._start

    @cached_property
    def offsets(self) -> np.ndarray:
        """(documents + 1,), int64: document i is the tokens from `offsets[i]` to `offsets[i + 1]`."""
        offsets = self._files.offsets[self._first : self._last + 1]
        if (self._start, self._stop) == (0, self._files.index["tokens"]):
            return offsets
        return np.clip(offsets - self._start, 0, self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """(documents,), int64: tokens of each document."""
        return np.diff(self.offsets)

    @property
    def text_bytes(self) -> int:
        return self._text_sizes[0]

    @property
    def text_words(self) -> int:
        return self._text_sizes[1]

    @property
    def cuts_a_document(self) -> bool:
        """Whether this stretch begins or ends inside a document.

        Then `text_bytes` and `text_words` count the part of that document in proportion to its tokens.
        """
        offsets = self._files.offsets
        return bool(offsets[self._first] != self._start or offsets[self._last] != self._stop)

    @cached_property
    def _text_sizes(self) -> tuple[int, int]:
        if not self.documents:
            return 0, 0
        begin = self._sizes_within(self._first, self._start, at_border=0.0)
        end = self._sizes_within(self._last - 1, self._stop, at_border=1.0)
        text_bytes, text_words = (round(float(size)) for size in end - begin)
        return text_bytes, text_words

    def _sizes_within(self, document: int, token: int, *, at_border: float) -> np.ndarray:
        """Bytes and words of the whole set before a token of `document` (`at_border`: share if it has no tokens)."""
        begin, end = (int(offset) for offset in self._files.offsets[document : document + 2])
        share = (token - begin) / (end - begin) if end > begin else at_border
        before, after = self._files.sizes[document : document + 2]
        return before + share * (after - before)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens `start` to `stop` of the stream, (stop - start,), in the type they are stored in."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        return self._files.read(self._start + start, self._start + stop)

    def document(self, index: int) -> np.ndarray:
        """The tokens of one document, (length,)."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        begin, end = self._files.offsets[self._first + index : self._first + index + 2]
        return self._files.read(max(int(begin), self._start), min(int(end), self._stop))

    def slice_documents(self, start: int, stop: int) -> ShardSet:
        """Documents `start` to `stop` as a set of their own that shares the files."""
        if not 0 <= start <= stop <= self.documents:
            raise IndexError(f"documents {start} to {stop} of {self.documents}")
        first, last = self._first + start, self._first + stop
        begin, end = int(self._files.offsets[first]), int(self._files.offsets[last])
        end = min(end, self._stop)
        return ShardSet(self._files, min(max(begin, self._start), end), end, first, last)

    def slice_tokens(self, start: int, stop: int) -> ShardSet:
        """Tokens `start` to `stop` as a set of their own; documents at its ends may be there in part."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        begin, end = self._start + start, self._start + stop
        offsets = self._files.offsets
        first = bisect.bisect_right(offsets, begin, self._first, self._last) - 1
        last = bisect.bisect_left(offsets, end, self._first, self._last + 1)
        return ShardSet(self._files, begin, end, max(first, self._first), max(last, first, self._first))

    def split(self, fraction: float) -> tuple[ShardSet, ShardSet]:
        """The set without, and with only, about the last `fraction` of its tokens: for training and for validation.

        The cut is at the border of documents nearest to the wanted place, so that none is on both sides; where the
        held-out part would then be less than half or more than twice as long as wanted (a set of one or of a few
        very long documents) it is inside a document, at exactly `int(tokens * (1 - fraction))`. In a set of sentences
        it is between two documents, or else between two sentences, or else inside one.

        Raises: NlpcliError for a fraction that leaves one of the sides empty.
        """
        if not 0.0 < fraction < 1.0:
            raise NlpcliError(
                f"the share of the text for the dev set must be greater than 0 and less than 1, not {fraction:g}"
            )
        cut = int(self.tokens * (1 - fraction))
        if not 0 < cut < self.tokens:
            raise NlpcliError(
                f"the text has {counted(self.tokens, 'token')}, too few to use {fraction:g} of them as the dev set",
                hint="use more text, or another dev set",
            )
        borders: list[range | np.ndarray] = [range(self.documents + 1)]
        if self.sentences is not None:
            borders.insert(0, np.flatnonzero(np.diff(self.offsets) == 0) + 1)
        for choices in borders:
            after = bisect.bisect_left(choices, cut, key=lambda index: int(self.offsets[index]))
            near = choices[max(after - 1, 0) : after + 1]
            border = min(map(int, near), key=lambda index: abs(int(self.offsets[index]) - cut), default=0)
            held_out = (self.tokens - int(self.offsets[border])) / (self.tokens - cut)
            if 0.5 <= held_out <= 2.0 and 0 < self.offsets[border] < self.tokens:  # empty documents may lie at the ends
                return self.slice_documents(0, border), self.slice_documents(border, self.documents)
        return self.slice_tokens(0, cut), self.slice_tokens(cut, self.tokens)


def _reopen(path: Path, *bounds: int) -> ShardSet:
    return ShardSet(_Files(path, verify=False), *bounds)


class _Files:
    """The mapped files of a set, checked against the index."""

    def __init__(self, path: Path, *, verify: bool) -> None:
        self.path = path
        self.index = _read_index(path)
        for name, expected in self.index["files"].items():
            _check(path / plain_name(name, str(path / INDEX)), expected, verify=verify)
        dtype = np.dtype(self.index["dtype"])
        names = sorted(name for name in self.index["files"] if name.startswith("tokens-"))
        self._shards = [np.memmap(path / name, dtype=dtype, mode="r") for name in names]
        self._empty = np.empty(0, dtype=dtype)
        self.offsets = np.asarray(np.memmap(path / OFFSETS, dtype=TABLE_DTYPE, mode="r"))
        self.sizes = np.asarray(np.memmap(path / SIZES, dtype=TABLE_DTYPE, mode="r")).reshape(-1, 2)

    def read(self, start: int, stop: int) -> np.ndarray:
        size = self.index["shard_tokens"]
        parts = [
            self._shards[number][max(start - number * size, 0) : stop - number * size]
            for number in range(start // size, -(-stop // size))
        ]
        if start >= stop:
            return self._empty
        return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(read_regular(path / INDEX))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NlpcliError(f"{path} is not a complete shard set ({INDEX} is missing)") from error
    except ValueError as error:
        raise _damaged(path / INDEX, "the file is not valid JSON") from error
    if not isinstance(index, dict) or index.pop("digest", None) != _digest(index):
        raise _damaged(path / INDEX, "the checksum in the file is wrong")
    if index["version"] != VERSION:
        raise NlpcliError(
            f"{path}: the shard set has version {index['version']}, but this version of nlpcli reads version {VERSION}"
        )
    return index


def _check(path: Path, expected: dict[str, Any], *, verify: bool) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise _damaged(path, "the file is missing") from error
    if size != expected["bytes"]:
        raise _damaged(path, f"the file has {counted(size, 'byte')} instead of {expected['bytes']:,}")
    if verify and sha256_file(path) != expected["sha256"]:
        raise _damaged(path, "the SHA-256 checksum of the file is wrong")


def _damaged(path: Path, how: str) -> NlpcliError:
    return NlpcliError(
        f"{path}: the shard set is damaged ({how})", hint=f"delete {path.parent}, so that it is built again"
    )
