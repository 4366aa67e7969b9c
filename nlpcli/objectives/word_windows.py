"""Words with the words around them, and noise words beside them (Mikolov et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError

_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class WindowSettings:
    """window: the most words on each side; how many is sampled for each word, from 1 to this. negatives: noise words
    for each word. noise_power: noise words are sampled in proportion to their counts to this power. subsample: t, see
    `WordCounts.kept`; 0: every word is kept."""

    window: int = 5
    negatives: int = 5
    noise_power: float = 0.75
    subsample: float = 1e-3


@dataclass(frozen=True)
class WordCounts:
    """counts (vocab,): how often each id occurs; 0 for special tokens."""

    counts: np.ndarray

    @classmethod
    def of(cls, shards: ShardSet, special: frozenset[int]) -> WordCounts:
        """Raises: NlpcliError for a text without words."""
        counts = np.zeros(shards.vocab_size, dtype=np.int64)
        for start in range(0, shards.tokens, _AT_A_TIME):
            ids = shards.read(start, min(start + _AT_A_TIME, shards.tokens))
            counts += np.bincount(ids, minlength=len(counts))
        counts[list(special)] = 0
        if not counts.any():
            raise NlpcliError("the text contains no words of the vocabulary", hint="give more text")
        return cls(counts)

    def kept(self, t: float) -> np.ndarray:
        """(vocab,): the probability that an occurrence is kept, min(1, √(t/f) + t/f) of a word that makes the share f
        of the text. The paper has √(t/f) alone (section 2.3); the sum is that of the authors' program."""
        if not t:
            return np.ones(len(self.counts))
        with np.errstate(divide="ignore"):
            ratio = t * self.counts.sum() / self.counts
        return np.minimum(1.0, np.sqrt(ratio) + ratio)

    def noise(self, power: float) -> np.ndarray:
        """(vocab,): the cumulative distribution of noise words, count^power / Σ count^power (section 2.2)."""
        weights = np.where(self.counts > 0, self.counts.astype(np.float64) ** power, 0.0)
        return np.cumsum(weights / weights.sum())


@dataclass
class WindowBatch:
    """n words, each to be distinguished from noise words by the words near it, or by its document.

    contexts, mask (n, w): ids of the words near each, and True where there is one. targets, counted (n, 1 + negatives):
    the word and noise words, and True for those that count: a noise word that is the word itself does not.
    documents (n,): the number of each one's document. count: of the predictions. tokens: words that were read.
    """

    contexts: Tensor
    mask: Tensor
    targets: Tensor
    counted: Tensor
    documents: Tensor
    count: int
    tokens: int

    @property
    def size(self) -> int:
        return len(self.targets)

    def part(self, start: int, stop: int) -> WindowBatch:
        """The words from `start` up to `stop`; counts are their shares of those of all words."""
        rows, share = slice(start, stop), (stop - start) / max(self.size, 1)
        return WindowBatch(
            self.contexts[rows], self.mask[rows], self.targets[rows], self.counted[rows], self.documents[rows],
            count=round(self.count * share), tokens=round(self.tokens * share),
        )  # fmt: skip

    def to(self, device: torch.device) -> WindowBatch:
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("contexts", "mask", "targets", "counted", "documents")
        }
        return replace(self, **moved)


class WindowSampler:
    """Samples the words that are kept, the size of windows, and noise words.

    counts: of the training text. architecture: what predicts a word, see `nlpcli.models.word_vectors`.
    """

    def __init__(self, counts: WordCounts, settings: WindowSettings, architecture: str) -> None:
        self.settings = settings
        self.architecture = architecture
        self._kept = np.where(counts.counts > 0, counts.kept(settings.subsample), 0.0)
        self._noise = counts.noise(settings.noise_power)

    def keep(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The places of the ids (n,) that are kept: known words, frequent ones not always."""
        return np.flatnonzero(rng.random(len(ids)) < self._kept[ids])

    def contexts(
        self, ids: np.ndarray, documents: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The words near each of n words, (n, 2 · window), and True where there is one in reach.

        documents (n,): windows end where the number changes.
        """
        window = self.settings.window
        reach = rng.integers(1, window + 1, size=(len(ids), 1))
        offsets = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
        places = np.arange(len(ids))[:, None] + offsets
        mask = (places >= 0) & (places < len(ids)) & (np.abs(offsets) <= reach)
        places = places.clip(0, max(len(ids) - 1, 0))
        mask &= documents[places] == documents[:, None]
        return ids[places], mask

    def noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Words sampled from the noise distribution."""
        return np.searchsorted(self._noise, rng.random(shape) * self._noise[-1], side="right")

    def batch(self, ids: np.ndarray, documents: np.ndarray, rng: np.random.Generator, *, tokens: int) -> WindowBatch:
        """The windows of words (n,) that were kept of `tokens`."""
        contexts, mask = self.contexts(ids, documents, rng)
        targets = np.concatenate([ids[:, None], self.noise((len(ids), self.settings.negatives), rng)], axis=1)
        counted = targets != ids[:, None]
        counted[:, 0] = True
        parts = [contexts, mask, targets, counted, documents]
        if self.architecture == "cbow":  # a word that stands alone is predicted by nothing
            parts = [part[mask.any(axis=1)] for part in parts]
        count = int(mask.sum()) if self.architecture == "skip-gram" else len(parts[0])
        near, shown, words, counted, owners = map(torch.from_numpy, parts)
        return WindowBatch(near, shown, words, counted, owners, count=count, tokens=tokens)


class WordWindows:
    """A text in blocks of `block` words with their windows.

    Windows end at the borders of documents and of blocks. Words that are not kept leave no gap: windows reach across
    them, as in the authors' program.
    """

    def __init__(self, shards: ShardSet, sampler: WindowSampler, *, block: int) -> None:
        self.shards = shards
        self.sampler = sampler
        self.block = block
        self.starts = np.arange(0, shards.tokens, block)

    def plan(self, seed: int, epoch: int) -> np.ndarray:
        """Where the blocks of an epoch begin, in a random order."""
        return np.random.default_rng([seed, epoch]).permutation(self.starts)

    def batch(self, start: int, rng: np.random.Generator) -> WindowBatch:
        """The block that begins at `start`."""
        ids = self.shards.read(start, min(start + self.block, self.shards.tokens)).astype(np.int64)
        places = self.sampler.keep(ids, rng)
        documents = np.searchsorted(self.shards.offsets, start + places, side="right") - 1
        return self.sampler.batch(ids[places], documents, rng, tokens=len(ids))
