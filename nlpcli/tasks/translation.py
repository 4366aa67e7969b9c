"""Translation: pairs of sentences, teacher forcing, label-smoothed cross-entropy on the target.

p(y | x) = Π_t p(y_t | y_<t, x), in the layout of `nlpcli.objectives.source_target_batches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.parallel_shards import ParallelShards
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.guided_alignment import GuidedAlignment, guided_loss, token_links, with_links
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.source_target_batches import Ids, PairBatch, pair_batch
from nlpcli.objectives.source_target_loss import pair_loss
from nlpcli.tasks.alignment_file import WordLinks
from nlpcli.tasks.task import SampleData, TrainingDefaults
from nlpcli.text import Tokenizer
from nlpcli.text.words_of_tokens import words_of_spans

if TYPE_CHECKING:
    from nlpcli.models.transformer import EncoderDecoder


@dataclass(frozen=True)
class TranslationSides:
    """How sources and targets become ids: their tokenizers, and the ids that come before each of them.

    target_start: None for bos.
    """

    source: Tokenizer
    target: Tokenizer
    source_start: tuple[int, ...] = ()
    target_start: tuple[int, ...] | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, separate: Tokenizer | None, info: Mapping[str, Any]) -> TranslationSides:
        """separate: the tokenizer of sources that have one of their own; info: what is known of the model."""
        start = tuple(info.get("source_start") or ()), tuple(info.get("target_start") or ()) or None
        return cls(separate or tokenizer, tokenizer.for_targets(), *start)


@dataclass(frozen=True)
class TranslationData:
    """Pairs of sentences as ids.

    texts: the training pairs as text, needed only when subwords are sampled or with `links`, those of their words;
    guided: how these are learned.
    """

    train: ParallelShards
    dev: ParallelShards | None
    texts: Sequence[tuple[str, str]] | None = None
    links: WordLinks | None = None
    guided: GuidedAlignment | None = None


class Translation(TrainingDefaults):
    """Pairs of sentences as an `Objective`.

    With a sampling rate the subwords of each epoch are sampled anew (Kudo 2018; Provilkov et al. 2020); a pair that
    would become longer than `max_length` keeps the subwords it has without. Lengths count the end of the sentence and
    the ids before it, but the last of a target's start stands where the end of a target is not read.

    Raises: NlpcliError when the tokenizer has nothing to sample from.
    """

    default_preset: ClassVar[str] = "transformer-tiny"
    sample_preset: ClassVar[str | None] = "transformer-mini"
    parallel_text: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    use: ClassVar[str] = "nlpcli translate --model {run} FILE"
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("tatoeba-en-de/train.en.gz", "tatoeba-en-de/train.de.gz"),
        dev=("tatoeba-en-de/dev.en", "tatoeba-en-de/dev.de"),
    )

    def __init__(
        self,
        data: TranslationData,
        sides: TranslationSides,
        *,
        batch_tokens: int = 4096,
        max_length: int = 256,
        loss_settings: LossSettings = CROSS_ENTROPY,
        seed: int = 1,
        sampling: float = 0.0,
        like_length: bool = True,
    ) -> None:
        self.train, self.dev, self.texts, self.links = data.train, data.dev, data.texts, data.links
        self.guided = data.guided
        self.tokenizers = (sides.source, sides.target)
        self.batch_tokens = batch_tokens
        self.loss_settings = loss_settings
        self.seed = seed
        self.sampling = sampling
        self.like_length = like_length
        self.max_length = max_length
        self.source_start = list(sides.source_start)
        self.target_start = list(sides.target_start or [sides.target.special.bos])
        # the end of sentence, and what comes before; the last id of a target's start is read in the end's place
        self.around = np.array([len(self.source_start) + 1, len(self.target_start)])
        lengths = self.train.lengths + self.around
        fits = (lengths.max(axis=1) <= max_length) & (self.train.lengths.min(axis=1) > 0)
        self.selected = np.flatnonzero(fits)  # the pairs to train on: neither side empty, none too long
        self.left_out = len(lengths) - len(self.selected)
        self.lengths = lengths[self.selected]
        if sampling:
            for one in self.tokenizers:  # raises now, not in the first step
                one.encode(["a"], sampling=sampling, rng=np.random.default_rng(0))

    @property
    def fingerprint(self) -> str:
        """Identifies the training data, word alignments included."""
        own = self.train.fingerprint
        return own if self.links is None else f"{own}+{self.links.fingerprint}"

    def __len__(self) -> int:
        return len(self.selected)

    def plan(self, epoch: int) -> list[np.ndarray]:
        batches = token_budget_batches(
            self.lengths, max_tokens=self.batch_tokens, seed=self.seed, epoch=epoch, like_length=self.like_length
        )
        return [self.selected[batch] for batch in batches]

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> PairBatch:
        if self.sampling:
            assert self.texts is not None  # they are needed for it
            sides = zip(*(self.texts[i] for i in item), strict=True)
            encoded = [
                one.encode(side, sampling=self.sampling, rng=rng)
                for one, side in zip(self.tokenizers, sides, strict=True)
            ]
            sampled = zip(item, *encoded, strict=True)
            pairs = [self.train.pair(i) if self._too_long(x, y) else (x, y) for i, x, y in sampled]
            return self._batch(pairs)
        batch = self._batch([self.train.pair(i) for i in item])
        return batch if self.links is None else self._linked(batch, item, self.links)

    def _linked(self, batch: PairBatch, item: np.ndarray, links: WordLinks) -> PairBatch:
        """The batch with the links of its pairs."""
        assert self.texts is not None and self.guided is not None  # they come with links
        words = []
        for one, side in zip(self.tokenizers, zip(*(self.texts[i] for i in item), strict=True), strict=True):
            _, spans = one.encode_with_offsets(side)
            words.append([words_of_spans(text, found) for text, found in zip(side, spans, strict=True)])
        rows = [token_links(links.of(i), *of_pair) for i, *of_pair in zip(item, *words, strict=True)]
        return with_links(
            batch, rows, source_start=len(self.source_start), target_start=len(self.target_start),
            step=self.guided.head.step,
        )  # fmt: skip

    def _batch(self, pairs: Sequence[tuple[Ids, Ids]]) -> PairBatch:
        source, target = self.tokenizers
        if self.source_start:
            pairs = [([*self.source_start, *x], y) for x, y in pairs]
        return pair_batch(pairs, target.special, self.target_start, source_special=source.special)

    def _too_long(self, source: Sequence[int], target: Sequence[int]) -> bool:
        return max(np.array([len(source), len(target)]) + self.around) > self.max_length

    def loss(self, model: EncoderDecoder, batch: PairBatch, carry: None = None) -> tuple[Loss, None]:
        if batch.links is None:
            return pair_loss(model, batch, self.loss_settings), None
        assert self.guided is not None  # it comes with links
        return guided_loss(model, batch, self.loss_settings, self.guided), None

    def evaluate(self, model: EncoderDecoder, device: torch.device) -> Iterator[Loss]:
        """Losses without smoothing, every pair of the dev set once, however long."""
        assert self.dev is not None
        for item in token_budget_batches(self.dev.lengths + self.around, max_tokens=self.batch_tokens, shuffle=False):
            batch = self._batch([self.dev.pair(i) for i in item])
            yield self.loss(model, batch.to(device))[0]
