"""Texts for objectives that disturb them: windows of a stream of tokens, or stretches of whole sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.packing import TokenStream
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError
from nlpcli.objectives.noise import Text


class Windows:
    """Windows of `length` tokens that tile a stream of documents, `rows` in a batch.

    eos: id after each document, or None to lay them end to end. An epoch's windows begin at a new random offset; what
    is left at the stream's ends, less than a window each, is out in that epoch. A shorter stream is one window.
    """

    def __init__(self, shards: ShardSet, length: int, *, rows: int, eos: int | None) -> None:
        self.stream = TokenStream(shards, eos=eos)
        self.length = min(length, len(self.stream))
        self.rows = rows
        if self.length == 0:
            raise NlpcliError("the text contains no tokens", hint="give more text")

    def plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Where the windows of an epoch begin, batch by batch."""
        random = np.random.default_rng([seed, epoch])
        spare = len(self.stream) - self.length
        offset = int(random.integers(min(self.length, spare + 1)))
        return self._batches(random.permutation(np.arange(offset, spare + 1, self.length)))

    def in_order(self) -> list[np.ndarray]:
        """Windows that hold every token once, the last one perhaps shorter."""
        return self._batches(np.arange(0, len(self.stream), self.length))

    def some(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(len(self.stream) - self.length + 1, size=count)

    def read(self, start: int) -> Text:
        return Text(self.stream.read(int(start), min(int(start) + self.length, len(self.stream))))

    def _batches(self, starts: np.ndarray) -> list[np.ndarray]:
        return [starts[i : i + self.rows] for i in range(0, len(starts), self.rows)]


class SentenceChunks:
    """Consecutive sentences of one document, as many as make at most `length` tokens, packed from its beginning.

    A sentence that is longer is cut. Chunks of fewer than `least` sentences are left out. Batches have chunks of
    similar length, at most `batch_tokens` tokens with an end token each, padding included.
    """

    def __init__(self, documents: SentenceDocuments, length: int, *, batch_tokens: int, least: int = 1) -> None:
        self.shards = documents.shards
        self.batch_tokens = batch_tokens
        tables, sentences, before = [], [], 0
        for document in range(documents.count):
            borders = documents.borders(document)
            lengths = _cut(np.diff(borders), length)
            table = _packed(lengths.tolist(), length) + np.array([borders[0], borders[0], before, before])
            tables.append(table[table[:, 3] - table[:, 2] >= least])
            sentences.append(lengths)
            before += len(lengths)
        # from which token of the set to which, from which of the sentences to which
        self.table = np.concatenate([np.empty((0, 4), dtype=np.int64), *tables])
        self._sentences = np.concatenate([np.empty(0, dtype=np.int32), *sentences])
        if len(self.table) == 0:
            raise NlpcliError(
                f"no document has {least} or more sentences within {length} tokens",
                hint="check that data.documents and data.sentences fit the text, or set a larger data.context",
            )

    @property
    def lengths(self) -> np.ndarray:
        return self.table[:, 1] - self.table[:, 0]

    def plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The stretches of an epoch, each once, batch by batch."""
        return token_budget_batches(self.lengths + 1, max_tokens=self.batch_tokens, seed=seed, epoch=epoch)

    def in_order(self) -> list[np.ndarray]:
        """Every stretch once, from short to long."""
        return token_budget_batches(self.lengths + 1, max_tokens=self.batch_tokens, shuffle=False)

    def some(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(len(self.table), size=count)

    def read(self, index: int) -> Text:
        begin, end, first, last = self.table[index].tolist()
        return Text(self.shards.read(begin, end).astype(np.int64), self._sentences[first:last].astype(np.int64))


def _cut(lengths: np.ndarray, most: int) -> np.ndarray:
    """The lengths, those beyond `most` in parts of `most` and a rest; int32."""
    if lengths.max(initial=0) > most:
        parts = [[most] * (n // most) + [n % most] * (n % most > 0) for n in lengths.tolist()]
        lengths = np.concatenate(parts)
    return lengths.astype(np.int32)


def _packed(lengths: Sequence[int], most: int) -> np.ndarray:
    """From which token to which, from which sentence to which, (stretches, 4); no length is more than `most`."""
    stretches = []
    begin = end = first = 0
    for sentence, length in enumerate(lengths):
        if end + length - begin > most:
            stretches.append((begin, end, first, sentence))
            begin, first = end, sentence
        end += length
    return np.array([*stretches, (begin, end, first, len(lengths))], dtype=np.int64)
