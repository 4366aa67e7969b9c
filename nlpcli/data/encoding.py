"""Text into token ids, in this process or in several, and ids into the files of a shard set."""

from __future__ import annotations

import gc
import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nlpcli.config.temporary_files import scratch_folder
from nlpcli.data.readers import TextBlock
from nlpcli.errors import RunFailed

if TYPE_CHECKING:
    from nlpcli.text.tokenizer import Tokenizer

OFFSETS = "offsets.bin"
SIZES = "sizes.bin"
TABLE_DTYPE = np.dtype("<i8")

Empty = Literal["none", "all", "marks"]
"""Which documents without tokens are kept; `marks` are those that have no text either."""

_CHUNK_CHARACTERS = 1 << 18
_CHUNK_PARTS = 1 << 13


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest little-endian unsigned type that holds every id of a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass(frozen=True)
class Encoded:
    """A run of consecutive parts as ids.

    ids: (tokens,), all parts one after another. lengths: (parts,), tokens of each. sizes: (parts, 2), UTF-8 bytes
    and white-space separated words of each. ends: (parts,), whether a document ends with the part.
    """

    ids: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    ends: np.ndarray


def encode_parts(parts: TextBlock, tokenizer: Tokenizer) -> Encoded:
    """Encodes consecutive parts; each is encoded on its own."""
    texts, ends = parts
    with _no_collection():
        ids = tokenizer.encode(texts)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(texts))
        flat = np.fromiter(
            itertools.chain.from_iterable(ids), dtype=token_dtype(tokenizer.vocab_size), count=int(lengths.sum())
        )
        del ids
    return Encoded(ids=flat, lengths=lengths, sizes=_sizes(texts), ends=np.array(ends, dtype=bool))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles, which takes a sixth of the time among lists of ids and finds none there."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_SPACE_FLAGS = bytes(chr(code).isspace() for code in range(128)) + bytes(128)
_WIDE_SPACES = [chr(code) for code in range(128, 0x3001) if chr(code).isspace()]


def _sizes(texts: list[str]) -> np.ndarray:
    """(texts, 2), int64: UTF-8 bytes and white-space separated words of each."""
    joined = "\n".join([*texts, ""])
    data = joined.encode()
    if joined.isascii():
        size = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    else:
        size = np.fromiter(map(len, map(str.encode, texts)), dtype=np.int64, count=len(texts))
        for space in filter(joined.__contains__, _WIDE_SPACES):
            wide = space.encode()
            data = data.replace(wide, b" " * len(wide))
    is_space = np.frombuffer(data.translate(_SPACE_FLAGS), dtype=bool)
    starts_word = ~is_space
    starts_word[1:] &= is_space[:-1]
    begins = np.cumsum(size + 1) - (size + 1)  # a line end stands after each text
    return np.column_stack([size, np.add.reduceat(starts_word, begins, dtype=np.int64)])


def encode_all(blocks: Iterable[TextBlock], tokenizer: Tokenizer, *, workers: int) -> Generator[Encoded, None, None]:
    """Encodes a stream of parts, in order, in this process (`workers` 1) or in a pool of fresh ones.

    The workers are spawned, not forked: a fork of a process that runs threads (PyTorch's, say) can hang. They ignore
    Ctrl-C; the parent answers it. Only a few chunks per worker are under way at a time, whatever the corpus' size.

    Raises: RunFailed when a worker process dies.
    """
    chunks = _chunks(blocks)
    if workers <= 1:
        yield from (encode_parts(chunk, tokenizer) for chunk in chunks)
        return
    with scratch_folder("nlpcli-tokenizer") as folder, _pool(workers) as pool:
        directory = Path(folder, "tokenizer")
        tokenizer.save(directory)
        encode = partial(_encode_in_worker, directory=str(directory))
        try:
            yield from _in_order((partial(pool.submit, encode, chunk) for chunk in chunks), ahead=2 * workers)
        except BrokenProcessPool as error:
            raise RunFailed(
                "a process that encodes text ended unexpectedly",
                hint="if memory ran out, use fewer workers (data.workers); a Python script must make this call under: "
                "if __name__ == '__main__':",
            ) from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the pool is the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed can't tell its workers, which would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)


@lru_cache(maxsize=1)
def _worker_tokenizer(directory: str) -> Tokenizer:
    from nlpcli.text import load_tokenizer

    return load_tokenizer(Path(directory))


def _encode_in_worker(parts: TextBlock, *, directory: str) -> Encoded:
    return encode_parts(parts, _worker_tokenizer(directory))


def _in_order(calls: Iterator[Callable[[], Future[Encoded]]], *, ahead: int) -> Iterator[Encoded]:
    waiting: deque[Future[Encoded]] = deque()
    for call in calls:
        waiting.append(call())
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _chunks(blocks: Iterable[TextBlock]) -> Iterator[TextBlock]:
    texts: list[str] = []
    ends: list[bool] = []
    characters = 0
    for more_texts, more_ends in blocks:
        texts += more_texts
        ends += more_ends
        characters += sum(map(len, more_texts))
        if characters >= _CHUNK_CHARACTERS or len(texts) >= _CHUNK_PARTS:
            yield texts, ends
            texts, ends, characters = [], [], 0
    if texts:
        yield texts, ends


class ShardWriter:
    """Writes ids into `tokens-NNNNN.bin` of `shard_tokens` each, and beside them what is known of the documents.

    `offsets.bin` (documents + 1,): where each document begins in the stream of tokens, and the stream's end.
    `sizes.bin` (documents + 1, 2): UTF-8 bytes and words before each document. All little-endian 64-bit.
    """

    def __init__(self, folder: Path, dtype: np.dtype, *, shard_tokens: int, keep_empty: Empty) -> None:
        self.folder, self.dtype = folder, dtype
        self.shard_tokens, self.keep_empty = shard_tokens, keep_empty
        self.documents = 0
        self.totals = np.zeros(3, dtype=np.int64)  # tokens, bytes, words of the complete documents
        self.files: dict[str, dict[str, int | str]] = {}
        self._begun = np.zeros(3, dtype=np.int64)  # the same of the document that has not ended yet
        self._written = 0
        self._tokens: _HashedFile | None = None
        self._offsets, self._sizes = _HashedFile(folder / OFFSETS), _HashedFile(folder / SIZES)
        self._offsets.write(self.totals[:1].astype(TABLE_DTYPE))
        self._sizes.write(self.totals[1:].astype(TABLE_DTYPE))

    def add(self, encoded: Encoded) -> None:
        """Appends parts; documents without any token are left out unless `keep_empty` says otherwise."""
        self._write_tokens(encoded.ids)
        counts = np.column_stack([encoded.lengths, encoded.sizes])  # (parts, 3)
        up_to = self._begun + np.cumsum(counts, axis=0)
        at_ends = up_to[encoded.ends]
        self._begun = up_to[-1] - (at_ends[-1] if len(at_ends) else 0)
        documents = np.diff(at_ends, axis=0, prepend=0)  # (documents, 3)
        if self.keep_empty != "all":
            with_tokens, is_mark = documents[:, 0] > 0, documents[:, 1] == 0
            documents = documents[with_tokens | is_mark if self.keep_empty == "marks" else with_tokens]
        if len(documents):
            table = (self.totals + np.cumsum(documents, axis=0)).astype(TABLE_DTYPE)
            self._offsets.write(np.ascontiguousarray(table[:, 0]))
            self._sizes.write(np.ascontiguousarray(table[:, 1:]))
            self.documents += len(documents)
            self.totals = table[-1].astype(np.int64)

    def close(self) -> None:
        """Ends the files; `files` then says the size and digest of each."""
        for file in (self._tokens, self._offsets, self._sizes):
            if file is not None:
                self.files[file.path.name] = file.close()
        self._tokens = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_tokens(self, ids: np.ndarray) -> None:
        while len(ids):
            if self._tokens is not None and self._written == self.shard_tokens:
                self.files[self._tokens.path.name] = self._tokens.close()
                self._tokens = None
            if self._tokens is None:
                number = sum(name.startswith("tokens-") for name in self.files)
                self._tokens = _HashedFile(self.folder / f"tokens-{number:05d}.bin")
                self._written = 0
            room = self.shard_tokens - self._written
            self._tokens.write(np.ascontiguousarray(ids[:room], dtype=self.dtype))
            self._written += min(room, len(ids))
            ids = ids[room:]


class _HashedFile:
    """A file whose size and digest are known as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close`)
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, array: np.ndarray) -> None:
        data = array.tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def close(self) -> dict[str, int | str]:
        self._file.close()
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}
