"""Language-model windows over one long stream of tokens: in random order or reading on, and all of them to evaluate."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError

_LEAST, _USUAL, _DEVIATION = 5, 0.95, 5.0  # of `VariableWindows`


class TokenStream:
    """The documents of a shard set one after another, `eos` after each of them unless it is None.

    With `eos`, token t of document d stands at place t + d of the stream; nothing is copied to make it so. Where the
    set begins or ends inside a document, the part that is there counts as one.

    before: ids at the beginning of the stream.
    """

    def __init__(self, shards: ShardSet, *, eos: int | None, before: Sequence[int] = ()) -> None:
        self.shards, self.eos = shards, eos
        self.before = np.array(before, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.before) + self.shards.tokens + (self.shards.documents if self.eos is not None else 0)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Places `start` to `stop`, (stop - start,), int64."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"places {start} to {stop} of {len(self)}")
        shift = len(self.before)
        if not shift:
            return self._read(start, stop)
        return np.concatenate((self.before[start:stop], self._read(max(0, start - shift), max(0, stop - shift))))

    def _read(self, start: int, stop: int) -> np.ndarray:
        """As `read`, without what stands before the documents."""
        if self.eos is None:
            return self.shards.read(start, stop).astype(np.int64)
        first, last = self._ended_before(start), self._ended_before(stop)
        out = np.full(stop - start, self.eos, dtype=np.int64)
        is_token = np.ones(stop - start, dtype=bool)
        ends = self.shards.offsets[first + 1 : last + 1] + np.arange(first, last)  # places of the eos in between
        is_token[ends - start] = False
        out[is_token] = self.shards.read(start - first, stop - last)
        return out

    def windows(self, starts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The `length` tokens from each of `starts` (rows,) on: (rows, length), int64."""
        return np.stack([self.read(int(start), int(start) + length) for start in starts])

    def document_at(self, place: int) -> int:
        """The document a place belongs to; its eos belongs to it too, and to the first what stands before it."""
        place = max(0, place - len(self.before))
        if self.eos is None:
            return bisect.bisect_right(self.shards.offsets, place) - 1
        return self._ended_before(place)

    def _ended_before(self, place: int) -> int:
        """How many documents, each with its eos, lie wholly before a place."""
        offsets = self.shards.offsets
        return bisect.bisect_right(range(self.shards.documents), place, key=lambda d: int(offsets[d + 1]) + d + 1)


class _Windows:
    """Windows of `context` + 1 tokens of a stream: inputs are the first `context`, targets the last."""

    stream: TokenStream
    context: int

    def plan(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch begin, (batches, batch_size), int64; depends on nothing but seed and epoch."""
        raise NotImplementedError

    def batch(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """The windows that begin at `starts` (rows,): (rows, context + 1), int64."""
        return self.stream.windows(starts, self.context + 1)

    def some(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """So many windows of the first epoch: (count, context + 1), int64."""
        return self.stream.windows(rng.choice(self.plan(0).ravel(), count), self.context + 1)


class PackedWindows(_Windows):
    """Training windows of `context` + 1 tokens: inputs are the first `context`, targets the last.

    An epoch's windows tile the stream from a new random offset, so that (but for fewer than `context` tokens at its
    ends, and the windows that don't fill a batch) every token is predicted once. A stream with too few windows for
    one batch gives one batch in which windows recur.

    eos: id put after each document, or None to join documents as they are.
    Raises: NlpcliError when the text is shorter than one window.
    Source: Brown et al. 2020, appendix B (documents packed, no padding, the end of text between them).
    """

    stateful = False  # whether a row of a batch continues that row of the batch before

    def __init__(self, shards: ShardSet, context: int, *, eos: int | None, batch_size: int, seed: int = 0) -> None:
        self.stream = _stream_of_windows(shards, context, eos, batch_size)
        self.context, self.batch_size, self.seed = context, batch_size, seed

    def plan(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, epoch])
        spare = len(self.stream) - self.context - 1  # the last place at which a window may begin
        offset = int(random.integers(min(self.context, spare + 1)))
        starts = random.permutation(np.arange(offset, spare + 1, self.context))
        if len(starts) < self.batch_size:
            starts = np.resize(starts, self.batch_size)
        return starts[: len(starts) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)

    @cached_property
    def batches_per_epoch(self) -> int:
        """The least number of batches an epoch has; the random offset may add one."""
        return max((len(self.stream) - self.context) // self.context // self.batch_size, 1)


class StreamedWindows(_Windows):
    """Training windows for a model with memory: row r of a batch continues row r of the batch before.

    The stream is cut into `batch_size` parts of equal length, read side by side, `context` tokens at a time; inputs and
    targets of a window are those of `PackedWindows`. An epoch begins at a new random offset. But for fewer tokens than
    one batch has, and those before the offset, every token is predicted once. There are fewer rows than `batch_size`
    where the text has not a window for each.

    Raises: NlpcliError when the text is shorter than one window.
    Source: Dai et al. 2019, section 3.2.
    """

    stateful = True

    def __init__(self, shards: ShardSet, context: int, *, eos: int | None, batch_size: int, seed: int = 0) -> None:
        self.stream = _stream_of_windows(shards, context, eos, batch_size)
        self.context, self.seed = context, seed
        self.batch_size = max(min(batch_size, (len(self.stream) - context) // context), 1)

    def plan(self, epoch: int) -> np.ndarray:
        offset, _ = self._offset(epoch)
        batches = (len(self.stream) - 1 - offset) // (self.context * self.batch_size)
        starts = offset + self.context * np.arange(batches * self.batch_size)
        return starts.reshape(self.batch_size, batches).T.copy()

    def _offset(self, epoch: int) -> tuple[int, np.random.Generator]:
        """Where an epoch begins, and the generator that it is sampled with."""
        random = np.random.default_rng([self.seed, epoch])
        spare = len(self.stream) - self.context - 1  # the last place at which a window may begin
        return int(random.integers(min(self.context, spare + 1))), random


class VariableWindows(StreamedWindows):
    """As `StreamedWindows`, but the windows of each batch have a length of their own, sampled in each epoch.

    length = max(5, N(c, 5)) with c = `context` in 95 % of the batches and half of it in the others, so that a token
    does not stand at the border of a window in every epoch. The last batch takes what is left.
    Source: Merity et al. 2018, section 4.1, and the authors' code.
    """

    def plan(self, epoch: int) -> np.ndarray:
        """Where the windows of each batch begin, and in the last column their length: (batches, batch_size + 1)."""
        offset, random = self._offset(epoch)
        tokens = (len(self.stream) - 1 - offset) // self.batch_size  # of each row
        most = tokens // _LEAST + 1
        centers = np.where(random.random(most) < _USUAL, self.context, self.context / 2)
        ends = np.maximum(_LEAST, random.normal(centers, _DEVIATION).astype(np.int64)).cumsum()
        ends = np.append(ends[ends < tokens], tokens)
        begins = np.insert(ends[:-1], 0, 0)
        starts = offset + begins[:, None] + tokens * np.arange(self.batch_size)
        return np.concatenate((starts, (ends - begins)[:, None]), axis=1)

    def batch(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """The windows of an entry of the plan: (rows, length + 1), int64."""
        return self.stream.windows(starts[:-1], int(starts[-1]) + 1)

    def some(self, count: int, rng: np.random.Generator) -> np.ndarray:
        places = rng.integers(len(self.stream) - self.context, size=count)
        return self.stream.windows(places, self.context + 1)


def _stream_of_windows(shards: ShardSet, context: int, eos: int | None, batch_size: int) -> TokenStream:
    for name, value in (("context", context), ("batch_size", batch_size)):
        if value < 1:
            raise NlpcliError(f"{name} must be at least 1, not {value}")
    stream = TokenStream(shards, eos=eos)
    if len(stream) <= context:
        raise NlpcliError(
            f"the text has only {counted(len(stream), 'token')}, but a context of {counted(context, 'token')} needs at "
            f"least {context + 1:,}",
            hint="use more text or a shorter context",
        )
    return stream


class EvaluationWindow(NamedTuple):
    """Tokens `start` to `stop` of a stream; of these, `first_scored` to `stop` are scored here (places in the stream).

    The model reads `stream[start : stop - 1]`, at most `context` tokens, and predicts `stream[start + 1 : stop]`;
    the first `first_scored - start - 1` of its predictions were scored in an earlier window.
    """

    start: int
    stop: int
    first_scored: int


def evaluation_windows(tokens: int, context: int, stride: int | None = None) -> Iterator[EvaluationWindow]:
    """Windows over a stream of `tokens` tokens such that each but the very first is scored exactly once.

    stride: tokens by which the window moves on: `context` (and None) means no overlap; the smaller, the more context
        each token is predicted from, and the more work. From the second window on, a token is predicted from at least
        `context - stride + 1` others (from fewer only in a stream that is no longer than a window).
    Raises: NlpcliError unless 1 <= stride <= context and there are at least 2 tokens.
    Source: Baevski and Auli 2019, 4.3 (context window and stride of an evaluation).
    """
    stride = context if stride is None else stride
    if context < 1 or not 1 <= stride <= context:
        raise NlpcliError(f"the stride must be between 1 and the context of {counted(context, 'token')}, not {stride}")
    if tokens < 2:
        raise NlpcliError(f"the text has {counted(tokens, 'token')}, but a prediction needs at least 2")
    start, scored = 0, 1
    while scored < tokens:
        stop = min(start + context + 1, tokens)
        yield EvaluationWindow(start, stop, scored)
        start, scored = start + stride, stop
