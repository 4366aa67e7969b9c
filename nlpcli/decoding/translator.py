"""Translating with a model of PyTorch: beam search, greedy search or sampling of batches of lines.

Neither the batch nor the window enters a decision: padding is masked exactly, and every rule of the search depends on
one sentence alone. What remains is the rounding of float32 sums, which depends on the shape of a matrix:
log-probabilities agree to about 1e-5, and a translation could differ only where two candidates tie within that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch

from nlpcli.config.generation_settings import Generation
from nlpcli.decoding.alignment_symmetrization import links_of_targets
from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.cross_attention import (
    Alignment,
    AttentionRecorder,
    forced_weights,
    head_weights,
    word_weights,
    words_of_tokens,
)
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.line_translator import Candidate, Job, LineTranslator, TranslatorSettings
from nlpcli.decoding.sampling import SamplingSettings, sample
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.decoding.translation_model import TranslationModel
from nlpcli.models.alignment_head import PREDICT, choose_layer
from nlpcli.models.decodable import Decodable
from nlpcli.models.packed_decoder import packed
from nlpcli.objectives.source_target_batches import pad
from nlpcli.text import Tokenizer
from nlpcli.text.words_of_tokens import NO_WORD


class Translator(LineTranslator):
    """Translates with an encoder–decoder model, which is expected in evaluation mode on its device.

    See `LineTranslator` for the other arguments.
    """

    def __init__(
        self,
        model: TranslationModel,
        tokenizer: Tokenizer,
        settings: TranslatorSettings | None = None,
        *,
        device: torch.device | str = "cpu",
        warn: Callable[[str], None] | None = None,
        source_tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__(tokenizer, settings, positions=model.max_length, warn=warn, source_tokenizer=source_tokenizer)
        self.model, self.device = model, torch.device(device)
        self._start = list(self.settings.target_start or (tokenizer.special.bos,))
        self._covers = False
        search = self.settings.search
        counted = replace(search.constraints, counted_from=len(self._start))  # a prefix is part of a translation
        self._search_settings = search = replace(search, constraints=counted)
        if isinstance(search, BeamSettings) and search.ranking.coverage_penalty:
            self._covers = True
            choose_layer(model, self.settings.alignment_layer)  # raises where there is none
        self._decoder = model if self._covers else cast("TranslationModel", packed(model))

    @torch.inference_mode()
    def search(self, jobs: Sequence[Job]) -> list[tuple[Candidate, ...]]:
        """See `LineTranslator.search`."""
        source = pad([job.source for job in jobs], self.source_tokenizer.special.pad).to(self.device)
        lengths = torch.tensor([len(job.source) for job in jobs], device=self.device)
        mask = torch.arange(source.shape[1], device=self.device) < lengths[:, None]
        state = self._decoder.init_state(self._decoder.encode(source, mask))
        found = self._hypotheses(jobs, state)
        texts = [[[*job.prefix, *h.ids] for h in hypotheses] for job, hypotheses in zip(jobs, found, strict=True)]
        alignments = self._align(jobs, source, mask, texts) if self.settings.alignments else None
        return [
            self.candidates(hypotheses, ids, alignments[i] if alignments else None)
            for i, (hypotheses, ids) in enumerate(zip(found, texts, strict=True))
        ]

    def _hypotheses(self, jobs: Sequence[Job], state: object) -> list[list[Hypothesis]]:
        settings, special = self.settings, self.tokenizer.special
        prefixes = [[*self._start, *job.prefix] for job in jobs]
        limits = [self.limit(job) for job in jobs]
        search = self._search_settings
        if settings.generation is not None:
            return self._generated(settings.generation, jobs, state)
        if isinstance(search, SamplingSettings):
            n = settings.samples
            index = torch.arange(len(jobs), device=self.device).repeat_interleave(n)
            found = sample(
                self._decoder,
                self._decoder.reorder(state, index, n) if n > 1 else state,
                [prefix for prefix in prefixes for _ in range(n)],
                StopConditions(special.eos, [limit for limit in limits for _ in range(n)], room_for_end=True),
                settings=search,
                streams=[(job.line, k) for job in jobs for k in range(n)],
            )
            return [[h for group in found[i : i + n] for h in group] for i in range(0, len(found), n)]
        if search.beam_size == 1 and search.enough == 1 and not search.ranking.coverage_penalty:
            found = greedy_search(
                self._decoder,
                state,
                prefixes,
                StopConditions(special.eos, limits, room_for_end=True),
                constraints=search.constraints,
                scores=settings.scores,
            )
            return [[_ranked(h, search) for h in hypotheses] for hypotheses in found]
        searched: Decodable = self._decoder
        if self._covers:
            lengths = torch.tensor([len(job.source) for job in jobs])
            padding = (torch.arange(int(lengths.max())) >= lengths[:, None]).float().to(self.device)
            searched = AttentionRecorder(self.model, self.settings.alignment_layer, padding)
        return beam_search(
            searched, state, prefixes, eos=special.eos, max_length=limits, settings=search, room_for_end=True
        )

    def _generated(self, generation: Generation, jobs: Sequence[Job], state: object) -> list[list[Hypothesis]]:
        """The hypotheses as `transformers` finds them. A forced first token stands before a prefix."""
        first = generation.forced_bos_token_id
        forced = [] if first is None else [first]
        prefixes = [[*self._start, *(forced + job.prefix if job.prefix else [])] for job in jobs]
        limits = [
            generation.new_tokens(len(prefix), self.limit(job) + 1) for prefix, job in zip(prefixes, jobs, strict=True)
        ]
        n = self.settings.samples if generation.do_sample else 1
        index = torch.arange(len(jobs), device=self.device).repeat_interleave(n)
        rows = index.tolist()
        inputs = GenerationInputs(
            [prefixes[row] for row in rows],
            [limits[row] for row in rows],
            sources=[jobs[row].source for row in rows],
            streams=[(job.line, k) for job in jobs for k in range(n)],
        )
        decoder = HuggingFaceDecoder(generation, self.tokenizer.special, self.settings.samples, self.settings.seed)
        found = decoder.generate(self._decoder, self._decoder.reorder(state, index, n) if n > 1 else state, inputs)
        return [[h for group in found[i : i + n] for h in group] for i in range(0, len(found), n)]

    def _align(
        self, jobs: Sequence[Job], source: torch.Tensor, mask: torch.Tensor, texts: list[list[list[int]]]
    ) -> list[list[Alignment]]:
        rows = [i for i, ids in enumerate(texts) for _ in ids]
        flat = [ids for group in texts for ids in group]
        if not flat:
            return [[] for _ in texts]
        given = (self.model, source[rows], mask[rows], flat)
        layer, fill = self.settings.alignment_layer, self.tokenizer.special.pad
        head = self.settings.alignment_head if layer is None else None
        if head is None:
            [weights] = forced_weights(*given, start=self._start, layers=[layer], fill=fill)
        else:
            weights = head_weights(*given, head, start=self._start, fill=fill)
        before = [NO_WORD] * len(self.settings.source_start)
        sources = [job.source[len(before) : -1] for job in jobs]
        source_words = pad(
            [[*before, *words_of_tokens(self.source_tokenizer, ids), NO_WORD] for ids in sources], NO_WORD
        )
        target_words = pad([self._target_words(ids) for ids in flat], NO_WORD)
        step = PREDICT if head is None else head.step
        looked = word_weights(weights, source_words[rows].to(self.device), target_words.to(self.device), step=step)
        words = (tuple(sorted(links_of_targets(weights))) for weights in looked.cpu().numpy())
        return [[next(words) for _ in group] for group in texts]

    def _target_words(self, ids: Sequence[int]) -> list[int]:
        """The number of the word of each id; special ones belong to none."""
        special = self.tokenizer.special.all()
        words = iter(words_of_tokens(self.tokenizer, [id_ for id_ in ids if id_ not in special]))
        return [NO_WORD if id_ in special else next(words) for id_ in ids]


def _ranked(hypothesis: Hypothesis, search: BeamSettings) -> Hypothesis:
    """A greedy hypothesis with the score a beam of one gives it."""
    length = len(hypothesis.ids) + hypothesis.ended
    score = search.ranking.score(hypothesis.logprob, length)
    return Hypothesis(hypothesis.ids, score, hypothesis.logprob, hypothesis.ended)
