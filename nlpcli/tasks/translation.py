"""Translation: pairs of sentences, teacher forcing, label-smoothed cross-entropy on the target.

p(y | x) = Π_t p(y_t | y_<t, x). The encoder reads `x … eos`; the decoder reads `bos y …` and predicts `y … eos`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.parallel import ParallelShards
from nlpcli.layers.vocabulary_loss import vocabulary_loss
from nlpcli.objectives.learning import Loss
from nlpcli.text import SpecialTokens, Tokenizer


def source_ids(pieces: Sequence[int], special: SpecialTokens) -> list[int]:
    """What the encoder reads for a sentence's pieces."""
    return [*pieces, special.eos]


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(rows, longest) ids, filled up with `value` at the end."""
    longest = max(map(len, rows))
    table = np.full((len(rows), longest), value, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return torch.from_numpy(table)


@dataclass
class PairBatch:
    """source (batch, m), source_mask (batch, m) or None, target (batch, n) read, goal (k) predicted at `places` (k)."""

    source: Tensor
    source_mask: Tensor | None
    target: Tensor
    goal: Tensor
    places: Tensor  # of the goals in the flattened target
    tokens: int  # in source and target, padding not counted

    @property
    def count(self) -> int:
        return self.goal.numel()

    def to(self, device: torch.device) -> PairBatch:
        move = lambda tensor: None if tensor is None else tensor.to(device, non_blocking=True)  # noqa: E731
        return PairBatch(
            move(self.source),
            move(self.source_mask),
            move(self.target),
            move(self.goal),
            move(self.places),
            self.tokens,
        )


class Translation:
    """Pairs of sentences as a `Learnable`; `texts` are the raw pairs, needed only when subwords are sampled.

    With a sampling rate the pieces of each epoch are drawn anew (Kudo 2018; Provilkov et al. 2020); a pair that would
    become longer than `max_length` keeps the pieces it has without. Lengths count the end of the sentence.

    Raises: NlpcliError when the tokenizer has nothing to sample from.
    """

    def __init__(
        self,
        train: ParallelShards,
        dev: ParallelShards | None,
        tokenizer: Tokenizer,
        *,
        batch_tokens: int = 4096,
        max_length: int = 256,
        label_smoothing: float = 0.0,
        seed: int = 1,
        sampling: float = 0.0,
        texts: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self.train = train
        self.dev = dev
        self.tokenizer = tokenizer
        self.special = tokenizer.special
        self.batch_tokens = batch_tokens
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.sampling = sampling
        self.max_length = max_length
        self.texts = texts
        lengths = train.lengths + 1  # with the end of sentence
        fits = (lengths.max(axis=1) <= max_length) & (lengths.min(axis=1) > 1)
        self.kept = np.flatnonzero(fits)  # neither side empty, none too long
        self.left_out = len(lengths) - len(self.kept)
        self.lengths = lengths[self.kept]
        if sampling:
            tokenizer.encode(
                ["a"], sampling=sampling, rng=np.random.default_rng(0)
            )  # raises now, not in the first step

    def __len__(self) -> int:
        return len(self.kept)

    def plan(self, epoch: int) -> list[np.ndarray]:
        batches = token_budget_batches(self.lengths, max_tokens=self.batch_tokens, seed=self.seed, epoch=epoch)
        return [self.kept[batch] for batch in batches]

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> PairBatch:
        if self.sampling:
            sides = zip(*(self.texts[i] for i in item), strict=True)
            encoded = [self.tokenizer.encode(side, sampling=self.sampling, rng=rng) for side in sides]
            drawn = zip(item, *encoded, strict=True)
            return self._batch([self.train.pair(i) if self._too_long(*pair) else pair for i, *pair in drawn])
        return self._batch([self.train.pair(i) for i in item])

    def _too_long(self, source: Sequence[int], target: Sequence[int]) -> bool:
        return max(len(source), len(target)) >= self.max_length

    def _batch(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> PairBatch:
        special = self.special
        source = pad([source_ids(source, special) for source, _ in pairs], special.pad)
        target = pad([[special.bos, *target] for _, target in pairs], special.pad)
        goal = pad([[*target, special.eos] for _, target in pairs], special.pad).flatten()
        lengths = torch.tensor([(len(source) + 1, len(target) + 1) for source, target in pairs])
        mask = torch.arange(source.size(1)) < lengths[:, :1]
        places = (torch.arange(target.size(1)) < lengths[:, 1:]).flatten().nonzero().squeeze(1)
        return PairBatch(source, None if bool(mask.all()) else mask, target, goal[places], places, int(lengths.sum()))

    def loss(self, model: nn.Module, batch: PairBatch, carry: None = None) -> tuple[Loss, None]:
        hidden = model.hidden(batch.source, batch.source_mask, batch.target)
        hidden = hidden.flatten(0, 1).index_select(0, batch.places)
        total, nll = vocabulary_loss(
            hidden,
            model.output_weight,
            batch.goal,
            bias=model.output_bias,
            label_smoothing=self.label_smoothing if model.training else 0.0,
        )
        return Loss(total, nll, batch.goal.numel()), None

    def evaluate(self, model: nn.Module, device: torch.device) -> Iterator[Loss]:
        """Losses without smoothing, every pair of the dev set once, however long."""
        for item in token_budget_batches(self.dev.lengths + 1, max_tokens=self.batch_tokens, shuffle=False):
            yield self.loss(model, self._batch([self.dev.pair(i) for i in item]).to(device))[0]
