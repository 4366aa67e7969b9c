"""Word alignment of a sentence and its translation, from the attention of a translation model.

Both texts are given. The model scores the translation, and the alignment is computed from its attention, or from
gradient times attention. Sources: Garg et al. 2019; Chen et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nlpcli.config.counting import counted
from nlpcli.decoding.alignment_symmetrization import shares
from nlpcli.decoding.cross_attention import forced_weights, gradient_weights, head_weights, word_weights
from nlpcli.decoding.line_translator import cut_batches
from nlpcli.decoding.translation_model import TranslationModel
from nlpcli.errors import NlpcliError
from nlpcli.models.alignment_head import PREDICT, AlignmentHead
from nlpcli.objectives.source_target_batches import pad
from nlpcli.text import Tokenizer
from nlpcli.text.special_tokens import source_ids
from nlpcli.text.words_of_tokens import NO_WORD, words_of_spans


@dataclass(frozen=True)
class WeightSelector:
    """The attention weights that an alignment is computed from.

    The attention of a decoder layer, from 1 (None: the last but one), averaged over its heads, at a step, see `STEPS`;
    with `gradient`, gradient times attention of that layer (None: the sum of all), which has only the predicting step.
    head: a head that was trained by guided alignment; only this head is used, as in training.
    """

    layer: int | None = None
    step: str = PREDICT
    gradient: bool = False
    head: AlignmentHead | None = None

    @classmethod
    def at(cls, head: AlignmentHead) -> WeightSelector:
        """The settings for a head trained by guided alignment."""
        return cls(head.layer, head.step, head=head)


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation; `place` names it in messages (`test.de:17`)."""

    source: str
    target: str
    place: str = ""


@dataclass(frozen=True)
class AlignerSettings:
    """How pairs are batched and what stands around texts; the size of a batch changes the speed, not the alignments.

    `batch_tokens`: tokens of both sides in a batch, padding included; `max_source_length`: tokens of a source, longer
    ones are cut, as are targets longer than the model writes; `source_start` and `target_start`: as in
    `TranslatorSettings`.
    """

    batch_tokens: int = 4096
    max_source_length: int = 1024
    source_start: tuple[int, ...] = ()
    target_start: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise NlpcliError(f"--batch-tokens must be at least 1, not {self.batch_tokens}")


@dataclass(frozen=True)
class _Side:
    """The tokens of a text as a model reads them, and the number of the word of each."""

    ids: list[int]
    words: list[int]


class Aligner:
    """Aligns the words of sentence pairs by an encoder–decoder model, which is expected in evaluation mode.

    Words are what white space separates, on either side. `warn` gets a sentence about every line that is cut; words
    that are cut off have no links. source_tokenizer: of the sources, where it is not that of the targets.
    """

    def __init__(
        self,
        model: TranslationModel,
        tokenizer: Tokenizer,
        settings: AlignerSettings | None = None,
        *,
        device: torch.device | str = "cpu",
        warn: Callable[[str], None] | None = None,
        source_tokenizer: Tokenizer | None = None,
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, torch.device(device)
        self.source_tokenizer = source_tokenizer or tokenizer
        self.settings = settings or AlignerSettings()
        self.warn = warn or (lambda text: None)
        self._start = list(self.settings.target_start or (tokenizer.special.bos,))

    @torch.no_grad()
    def shares(self, pairs: Sequence[Pair], selectors: Sequence[WeightSelector]) -> list[list[np.ndarray]]:
        """For each selector and each pair the share of each source word in the weights of a target word.

        Arrays (target words, source words); rows sum to 1, or to 0 for words that were cut off or have no tokens.

        Raises: NlpcliError for a layer that is not there.
        """
        counts = [(len(pair.target.split()), len(pair.source.split())) for pair in pairs]
        found = [[np.zeros(count, dtype=np.float32) for count in counts] for _ in selectors]
        sources, targets = self._sources(pairs), self._targets(pairs)
        filled = [i for i in range(len(pairs)) if sources[i].ids and targets[i].ids]
        lengths = [len(sources[i].ids) + len(targets[i].ids) for i in filled]
        for batch in cut_batches(lengths, self.settings.batch_tokens):
            places = [filled[k] for k in batch]
            selected = self._selected_weights(places, sources, targets, selectors)
            for of_selector, batch_weights in zip(found, selected, strict=True):
                for i, weights in zip(places, batch_weights.cpu().numpy(), strict=True):
                    rows, columns = (min(some) for some in zip(counts[i], weights.shape, strict=True))
                    of_selector[i][:rows, :columns] = shares(weights[:rows, :columns])
        return found

    def _selected_weights(
        self, places: Sequence[int], sources: list[_Side], targets: list[_Side], selectors: Sequence[WeightSelector]
    ) -> Iterator[torch.Tensor]:
        """For each selector the weights between words, (batch, target words, source words)."""
        special, start = self.source_tokenizer.special, self.settings.source_start
        read = [[*start, *source_ids(sources[i].ids, special)] for i in places]
        words = [[*[NO_WORD] * len(start), *sources[i].words, NO_WORD] for i in places]
        lengths = torch.tensor([len(ids) for ids in read], device=self.device)
        source = pad(read, special.pad).to(self.device)
        mask = torch.arange(source.shape[1], device=self.device) < lengths[:, None]
        source_words = pad(words, NO_WORD).to(self.device)
        target_words = pad([targets[i].words for i in places], NO_WORD).to(self.device)
        given = (self.model, source, mask, [targets[i].ids for i in places])
        begin, fill = self._start, self.tokenizer.special.pad
        layers = list(
            dict.fromkeys(selector.layer for selector in selectors if not selector.gradient and selector.head is None)
        )
        forced = forced_weights(*given, layers=layers, start=begin, fill=fill) if layers else []
        attention = dict(zip(layers, forced, strict=True))
        for selector in selectors:
            assert not selector.gradient or selector.step == PREDICT
            if selector.head is not None:
                weights = head_weights(*given, selector.head, start=begin, fill=fill)
            elif selector.gradient:
                chosen = () if selector.layer is None else [selector.layer]
                weights = gradient_weights(*given, layers=chosen, start=begin, fill=fill)
            else:
                weights = attention[selector.layer]
            yield word_weights(weights, source_words, target_words, step=selector.step)

    def _sources(self, pairs: Sequence[Pair]) -> list[_Side]:
        longest = self.settings.max_source_length
        if self.model.max_length is not None:
            longest = min(longest, self.model.max_length)
        longest -= len(self.settings.source_start) + 1  # and the end
        return self._sides(self.source_tokenizer, [pair.source for pair in pairs], pairs, "source", longest)

    def _targets(self, pairs: Sequence[Pair]) -> list[_Side]:
        longest = None if self.model.max_length is None else self.model.max_length - len(self._start)
        return self._sides(self.tokenizer, [pair.target for pair in pairs], pairs, "target", longest)

    def _sides(
        self, tokenizer: Tokenizer, texts: list[str], pairs: Sequence[Pair], name: str, longest: int | None
    ) -> list[_Side]:
        all_ids, all_spans = tokenizer.encode_with_offsets(texts)
        sides = []
        for text, ids, spans, pair in zip(texts, all_ids, all_spans, pairs, strict=True):
            if longest is not None and len(ids) > longest:
                tokens = f"{counted(len(ids), 'token')} and is truncated to {longest:,}"
                self.warn(f"{pair.place}: the {name} has {tokens}, the model's maximum length")
            sides.append(_Side(ids[:longest], words_of_spans(text, spans[:longest])))
        return sides
