"""Permutation language modelling (Yang et al. 2019): predict tokens from those before them in a random order.

loss = -Σ_t log p(x_{z_t} | x_{z_<t}) over the last 1/K tokens of an order z of the window (section 2.3, partial
prediction, K = 6). The others come first and see each other, as in the authors' data; they are read, not predicted.
Windows are read on from batch to batch, and what the model remembers of one is handed to the next.

Two things of the paper are left out: the input of two segments, where half of the pairs don't belong together (section
2.5), and the bidirectional data pipeline, where half of a batch reads the text backwards (section 3.1). No segments are
fed here, so the vectors that distinguish them stay as they were initialized; only fine-tuning on pairs teaches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.packing import StreamedWindows, TokenStream
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.noise import Symbols
from nlpcli.objectives.objective import Loss, Sample, SamplePrediction
from nlpcli.objectives.token_loss import best_tokens, token_loss
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.models.xlnet import XLNet

_EVALUATION_SEED = 2019
_COUNTED = 1_000_000  # tokens in which the most frequent one is looked for
_SPAN_SHARES = np.cumsum(1 / np.arange(1, 6)) / sum(1 / np.arange(1, 6))  # P(L <= 1 … 5 words)
_LONGEST_WORD = 12  # tokens


@dataclass
class PermutationBatch:
    """ids (batch, n) are read; those at `targets` (batch, k) are predicted.

    rank (batch, n): 0 where a token is not predicted, then 1, 2, … in the order of prediction. valid (batch, k): False
    where a window had fewer tokens to predict.
    """

    ids: Tensor
    rank: Tensor
    targets: Tensor
    valid: Tensor
    count: int

    @property
    def tokens(self) -> int:
        return self.ids.numel()

    @property
    def visible(self) -> Tensor:
        """(batch, n, n), True where i may see j: j is not predicted at all, or earlier."""
        earlier = self.rank[:, None, :] < self.rank[:, :, None]
        return earlier | (self.rank == 0)[:, None, :]

    @property
    def labels(self) -> Tensor:
        """The tokens predicted: (count,)."""
        return self.ids.gather(1, self.targets)[self.valid]

    @property
    def size(self) -> int:
        return self.ids.size(0)

    def part(self, start: int, stop: int) -> PermutationBatch:
        """The rows from `start` up to `stop`."""
        ids, rank, targets, valid = (x[start:stop] for x in (self.ids, self.rank, self.targets, self.valid))
        return PermutationBatch(ids, rank, targets, valid, count=int(valid.sum()))

    def to(self, device: torch.device) -> PermutationBatch:
        names = ("ids", "rank", "targets", "valid")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


class PermutationLanguageModelling:
    """Windows of a stream with an order of factorisation each, as an `Objective` for XLNet.

    context: tokens in a window. one_of: K: in each window a Kth of the tokens is predicted, in spans of whole words.
    `evaluate` samples the same orders every time. Its tallies: `accuracy`, of the most probable tokens, and
    `baseline`, of always predicting the token that is most frequent in training.

    Raises: NlpcliError when the text is shorter than one window, a window too short to predict a token of, or the
    tokenizer has no end of text.
    """

    stateful = True

    def __init__(
        self,
        train: ShardSet,
        dev: ShardSet | None,
        tokenizer: Tokenizer,
        *,
        one_of: int = 6,
        batching: Batching = Batching(),  # frozen
        loss_settings: LossSettings = CROSS_ENTROPY,
    ) -> None:
        context = batching.context
        if one_of < 1 or context < one_of:
            raise NlpcliError(
                f"one of {one_of} tokens is predicted, so the context must be at least {one_of} tokens, not {context}"
            )
        tokenizer.special.check("eos")
        self.symbols = Symbols.of(tokenizer)
        eos = tokenizer.special.eos
        self.context = context
        self.one_of = one_of
        self.rows = max(1, batching.batch_tokens // context)
        self.loss_settings = loss_settings
        self.train = StreamedWindows(train, context, eos=eos, batch_size=self.rows, seed=batching.seed)
        self.dev = None if dev is None else TokenStream(dev, eos=eos)

    def plan(self, epoch: int) -> np.ndarray:
        return self.train.plan(epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> PermutationBatch:
        return self._batch(self.train.stream.windows(item, self.context), rng)

    def _batch(self, ids: np.ndarray, rng: np.random.Generator) -> PermutationBatch:
        orders = [self._order(row, rng) for row in ids]
        most = max(1, *(len(order) for order in orders))
        rank = np.zeros(ids.shape, dtype=np.int64)
        targets = np.zeros((len(ids), most), dtype=np.int64)
        valid = np.zeros(targets.shape, dtype=bool)
        for row, order in enumerate(orders):
            rank[row, order] = np.arange(1, len(order) + 1)
            targets[row, : len(order)] = order
            valid[row, : len(order)] = True
        return PermutationBatch(
            ids=torch.from_numpy(ids),
            rank=torch.from_numpy(rank),
            targets=torch.from_numpy(targets),
            valid=torch.from_numpy(valid),
            count=int(valid.sum()),
        )

    def _order(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The places that are predicted, in the order in which they are."""
        starts = self.symbols.word_starts(ids)
        ordinary = ~self.symbols.is_special[ids]
        return rng.permutation(target_spans(starts, ordinary, self.one_of, rng))

    def loss(
        self, model: XLNet, batch: PermutationBatch, carry: list[Tensor] | None = None
    ) -> tuple[Loss, list[Tensor]]:
        if carry and carry[0].size(0) != batch.ids.size(0):
            carry = None  # resumed with another size of batches
        states, carry = self._states(model, batch, carry)
        return token_loss(model, states, batch.labels, self.loss_settings), carry

    def _states(
        self, model: XLNet, batch: PermutationBatch, memory: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        hidden, memory = model.permutation_hidden(batch.ids, batch.visible, batch.targets, memory)
        return hidden[batch.valid], memory

    def evaluate(self, model: XLNet, device: torch.device) -> Iterator[Loss]:
        """The dev text in windows, read in parallel rows, with the same orders every time."""
        assert self.dev is not None
        memory = None
        length = min(self.context, len(self.dev))
        for number, starts in enumerate(self._held_out(length)):
            rng = np.random.default_rng([_EVALUATION_SEED, number])
            batch = self._batch(self.dev.windows(starts, length), rng)
            trivial = int((batch.labels == self._most_frequent).sum())
            batch = batch.to(device)
            if memory is not None:
                memory = [states[: len(starts)] for states in memory]
            states, memory = self._states(model, batch, memory)
            right = best_tokens(states, model.output_weight, model.output_bias) == batch.labels
            tallies: dict[str, tuple[Tensor | float, int]] = {
                "accuracy": (right.sum(), batch.count),
                "baseline": (trivial, batch.count),
            }
            yield replace(token_loss(model, states, batch.labels), tallies=tallies)

    def _held_out(self, length: int) -> Iterator[np.ndarray]:
        """Where the windows of each batch begin; row by row they read on, the first rows by one window more."""
        assert self.dev is not None
        windows = len(self.dev) // length
        rows = min(self.rows, windows)
        first = np.arange(rows) * (windows // rows) + np.minimum(np.arange(rows), windows % rows)
        last = np.append(first[1:], windows)
        for batch in range(-(-windows // rows)):
            yield length * (first + batch)[first + batch < last]

    @cached_property
    def _most_frequent(self) -> int:
        """The ordinary token that is most frequent at the beginning of the training text."""
        ids = self.train.stream.read(0, min(len(self.train.stream), _COUNTED))
        counts = np.bincount(ids, minlength=len(self.symbols.is_special))
        counts[self.symbols.is_special] = 0
        return int(counts.argmax())

    def guesses(self, model: XLNet, device: torch.device, count: int) -> Iterator[SamplePrediction]:
        """Dev windows at even intervals, read without memory, with the model's predictions."""
        assert self.dev is not None
        length = min(self.context, len(self.dev))
        special = self.symbols.special
        gap = special.unk if "mask" in special.absent else special.mask
        for number in evenly_spaced(len(self.dev) // length, count):
            ids = self.dev.windows(np.array([number * length]), length)
            batch = self._batch(ids, np.random.default_rng([_EVALUATION_SEED, number]))
            order = batch.targets[batch.valid].numpy()
            states, _ = self._states(model, batch.to(device), None)
            predictions = best_tokens(states, model.output_weight, model.output_bias).tolist()
            corrupted = ids[0].copy()
            corrupted[order] = gap
            yield SamplePrediction(
                Sample(ids[0].tolist(), corrupted.tolist(), ids[0][order].tolist()), order.tolist(), predictions
            )

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Windows, with the mask where a token is predicted, and those tokens in the order of prediction."""
        self.symbols.special.check("mask")
        for start in rng.choice(self.train.plan(0).ravel(), count):
            ids = self.train.stream.windows([start], self.context)[0]
            order = self._order(ids, rng)
            corrupted = ids.copy()
            corrupted[order] = self.symbols.special.mask
            yield Sample(ids.tolist(), corrupted.tolist(), ids[order].tolist())


def target_spans(
    starts: Sequence[bool] | np.ndarray, ordinary: np.ndarray, one_of: int, rng: np.random.Generator
) -> np.ndarray:
    """Places of a `one_of`-th of n tokens, in ascending order, in spans of whole words.

    starts (n,): where words begin; ordinary (n,): False for tokens that must not be chosen. From the left on, a length
    L from 1 to 5 words is sampled, P(L) ∝ 1/L as in the authors' code, and L words at a random place among the next
    `one_of` · L are taken (section 3.1). What is lacking then is made up by words at random, and the last one is cut,
    so that the number is always the same. A word of more than 12 tokens counts as so many.
    """
    n = len(ordinary)
    wanted = min(max(n // one_of, 1), int(ordinary.sum()))
    borders = _word_borders(starts)
    words = len(borders) - 1
    chosen = np.zeros(n, dtype=bool)
    lacking, word = wanted, 0
    while lacking and word < words:
        length = 1 + int(np.searchsorted(_SPAN_SHARES, rng.random()))
        first = word + int(rng.integers((one_of - 1) * length + 1))
        if first < words:
            lacking -= _take(chosen, ordinary, borders[first], borders[min(first + length, words)], lacking)
        word += one_of * length
    for word in rng.permutation(words) if lacking else ():
        lacking -= _take(chosen, ordinary, borders[word], borders[word + 1], lacking)
    return np.flatnonzero(chosen)


def _word_borders(starts: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Where words begin, and the end of the last."""
    borders = np.append(np.union1d(np.flatnonzero(starts), [0]), len(starts))
    long = np.repeat(np.diff(borders) > _LONGEST_WORD, np.diff(borders))
    return np.union1d(borders, np.flatnonzero(long))


def _take(chosen: np.ndarray, ordinary: np.ndarray, begin: int, end: int, most: int) -> int:
    """Chooses up to `most` tokens from `begin` to `end`, and returns how many."""
    places = begin + np.flatnonzero((ordinary & ~chosen)[begin:end])[:most]
    chosen[places] = True
    return len(places)
