"""Word vectors by negative sampling (Mikolov et al. 2013): a word is distinguished from noise words by those near it.

loss = -Σ_t Σ_h [log σ(h · o_t) + Σ_j log σ(-h · o_j)]                                              (section 2.2, eq. 4)

t: the words of a text; h: what predicts t, see `WordVectors.predictors`; o: output vectors; j: noise words,
sampled for each t and shared by all h of t (Ji et al. 2016, section 3.1; the mean of the gradient is the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, softplus

from nlpcli.data.shard_set import ShardSet
from nlpcli.objectives.objective import Loss, Sample
from nlpcli.objectives.word_windows import WindowBatch, WindowSampler, WindowSettings, WordCounts, WordWindows
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.models.word_vectors import WordVectors

_EVALUATION_SEED = 2013


def sampling_losses(scores: Tensor, counted: Tensor) -> Tensor:
    """-log σ(s_0) - Σ_j log σ(-s_j): scores (n, m, 1 + k), of the word first; counted (n, 1 + k): which count ->
    (n, m)."""
    signs = torch.ones_like(scores[0, 0] if len(scores) else scores.new_empty(scores.size(2)))
    signs[0] = -1.0
    losses = softplus(scores.float() * signs)
    return (losses * counted[:, None]).sum(dim=2)


class WordPrediction:
    """Windows of words as an `Objective`, for all architectures of `WordVectors`.

    train, dev: shards. architecture: of the model. batch_tokens: words in a block, which is a batch.
    """

    def __init__(
        self,
        train: ShardSet,
        dev: ShardSet,
        tokenizer: Tokenizer,
        *,
        architecture: str,
        settings: WindowSettings,
        batch_tokens: int = 4096,
        seed: int = 1,
    ) -> None:
        self.counts = WordCounts.of(train, tokenizer.special.all())
        self.sampler = WindowSampler(self.counts, settings, architecture)
        self.train = WordWindows(train, self.sampler, block=batch_tokens)
        self.dev = WordWindows(dev, self.sampler, block=batch_tokens)
        self.seed = seed

    def prime(self, model: WordVectors) -> None:
        """Gives a new model the frequency of each word."""
        model.set_frequencies(torch.from_numpy(self.counts.counts))

    def plan(self, epoch: int) -> np.ndarray:
        return self.train.plan(self.seed, epoch)

    def collate(self, item: int, rng: np.random.Generator) -> WindowBatch:
        return self.train.batch(int(item), rng)

    def loss(self, model: WordVectors, batch: WindowBatch, carry: None = None) -> tuple[Loss, None]:
        paragraphs = None if model.documents is None else embedding(batch.documents, model.documents)
        return window_loss(model, batch, paragraphs), None

    def evaluate(self, model: WordVectors, device: torch.device) -> Iterator[Loss]:
        """The loss of the dev set's words, block by block, with the same windows and noise words every time."""
        rng = np.random.default_rng(_EVALUATION_SEED)
        for start in self.dev.starts:
            batch = self.dev.batch(int(start), rng)
            if batch.count:
                yield window_loss(model, batch.to(device))

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Words with those near them, what predicts, and the word that is predicted before its noise words."""
        for start in rng.choice(self.train.starts, count):
            batch = self.train.batch(int(start), rng)
            if batch.count:
                row = int(rng.integers(len(batch.targets)))
                shown, words = batch.mask[row], batch.targets[row].tolist()
                before = int(shown[: shown.numel() // 2].sum())
                near = batch.contexts[row][shown].tolist()
                yield Sample([*near[:before], words[0], *near[before:]], near, words)


def window_loss(model: WordVectors, batch: WindowBatch, paragraphs: Tensor | None = None) -> Loss:
    """paragraphs (n, d_model): the vectors of the documents of the n words, None where there are none."""
    scores = model.scores(model.predictors(batch.contexts, batch.mask, paragraphs), batch.targets)
    losses = sampling_losses(scores, batch.counted)
    if model.architecture == "skip-gram":
        losses = losses * batch.mask
    total = losses.sum()
    return Loss(total, total.detach(), max(batch.count, 1))
