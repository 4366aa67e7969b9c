"""Lines in, translations out, in order and in constant memory: what stands between text and a search.

A window of lines is read ahead, tokenized, sorted longest first and searched in batches of like length. One
translation comes out for every line that went in.

Neither the batch nor the window enters a decision: padding is masked exactly, and every rule of the search looks at one
sentence alone. What remains is the rounding of float32 sums, which depends on the shape of a matrix: log-probabilities
agree to about 1e-5, and a translation could differ only where two candidates tie within that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch

from nlpcli.config.counting import counted
from nlpcli.config.generation_settings import Generation
from nlpcli.data.progress import followed
from nlpcli.decoding.alignment_symmetrization import links_of_targets
from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.cross_attention import (
    NO_WORD,
    Alignment,
    Attending,
    choose_layer,
    forced_weights,
    word_weights,
    words_of_pieces,
)
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.sampling import SamplingSettings, sample
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.decoding.translation_model import TranslationModel
from nlpcli.errors import NlpcliError
from nlpcli.models.decodable import Decodable
from nlpcli.models.packed_decoder import packed
from nlpcli.objectives.source_target_batches import pad, source_ids
from nlpcli.text import Tokenizer


@dataclass(frozen=True)
class Request:
    """A line to translate. `place` names it in warnings (`test.en:17`); `prefix` is how its translation must begin;
    `origin` is whatever the caller wants to find again in the result."""

    text: str
    place: str = ""
    prefix: str = ""
    origin: object = None


@dataclass(frozen=True)
class Candidate:
    """A translation. `logprob` in nats; `alignment`: pairs (source word, target word) from 0, None unless asked for;
    `ended` is False when the length limit cut it."""

    text: str
    score: float = 0.0
    logprob: float = 0.0
    alignment: Alignment | None = None
    ended: bool = True


@dataclass(frozen=True)
class Translation:
    """What became of a request: at least one candidate, best first (samples in the order they were drawn)."""

    request: Request
    candidates: tuple[Candidate, ...]

    @property
    def text(self) -> str:
        return self.candidates[0].text


@dataclass(frozen=True)
class TranslatorSettings:
    """How to search and how to batch; the batch's size and the window change the speed, not the translations.

    `search`: beam search, or sampling of `samples` translations each; `batch_tokens`: source tokens in a batch, padding
    included; `window`: lines read ahead; a translation may have `length_factor` · |source| + `length_constant` tokens,
    the end not counted, or `max_length` with its prefix where that is set; sources longer than `max_source_length`
    tokens are cut. `source_start` and `target_start` are ids that come before every source and every translation; bos
    for the latter when None.
    `generation`: decode as `transformers` does, with these settings and not with `search`; `seed`: of samples then.
    """

    search: BeamSettings | SamplingSettings = field(default_factory=BeamSettings)
    samples: int = 1
    batch_tokens: int = 1024
    window: int = 1024
    max_length: int | None = None
    length_factor: float = 2.0
    length_constant: int = 50
    max_source_length: int = 1024
    source_start: tuple[int, ...] = ()
    target_start: tuple[int, ...] | None = None
    alignments: bool = False
    alignment_layer: int | None = None
    generation: Generation | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        numbers = {
            "the number of translations of a line": self.samples,
            "--batch-tokens": self.batch_tokens,
            "the number of lines read ahead": self.window,
            "the maximum length of a source": self.max_source_length,
        }
        for name, number in numbers.items():
            if number < 1:
                raise NlpcliError(f"{name} must be at least 1, not {number}")
        if self.max_length is not None and self.max_length < 1:
            raise NlpcliError(f"the maximum length must be at least 1, not {self.max_length}")
        least = getattr(self.search.constraints, "min_length", 0)
        if self.max_length is not None and self.generation is None and least > self.max_length:
            raise NlpcliError(f"the minimum length {least} is larger than the maximum length {self.max_length}")


@dataclass
class _Job:
    """A line that has something to translate."""

    place: int  # in the window
    line: int  # in the whole input, from 0
    source: list[int]  # with its start and the end
    prefix: list[int]  # of the target, without its start


class Translator:
    """Translates with an encoder–decoder model, which is expected in evaluation mode on its device.

    `warn` gets a sentence about every line that is cut. source_tokenizer: of the sources, where it is not that
    of the targets.
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
        self.model, self.tokenizer, self.device = model, tokenizer, torch.device(device)
        self.source_tokenizer = source_tokenizer or tokenizer
        self.settings = settings or TranslatorSettings()
        self.warn = warn or (lambda text: None)
        self._start = list(self.settings.target_start or (tokenizer.special.bos,))
        self._covers = False
        search = self.settings.search
        counted = replace(search.constraints, counted_from=len(self._start))  # a prefix is part of a translation
        self._search_settings = search = replace(search, constraints=counted)
        if isinstance(search, BeamSettings) and search.ranking.coverage_penalty:
            self._covers = True
            choose_layer(model, self.settings.alignment_layer)  # raises where there is none
        self._decoder = model if self._covers else cast("TranslationModel", packed(model))

    def translate(self, lines: Iterable[Request | str]) -> Iterator[Translation]:
        """A translation for each line, in order. An error of `lines` is passed on after all that came before it."""
        for window in self.windows(lines):
            yield from window

    def windows(self, lines: Iterable[Request | str]) -> Iterator[list[Translation]]:
        """As `translate`, in the portions in which translations are ready."""
        requests = (line if isinstance(line, Request) else Request(line) for line in lines)
        for start, window in windows_of(requests, self.settings.window):
            yield self.translate_window(window, start)

    def translate_window(self, window: Sequence[Request], start: int) -> list[Translation]:
        """The translations of requests that are translated together. start: the number of the first line, from 0."""
        results = [Translation(request, (self._blank(),)) for request in window]
        jobs = self._jobs(window, start)
        batches = cut_batches([len(job.source) for job in jobs], self.settings.batch_tokens)
        for batch in followed(batches, "translating", len(batches)):
            chosen = [jobs[i] for i in batch]
            for job, candidates in zip(chosen, self._search(chosen), strict=True):
                results[job.place] = Translation(window[job.place], candidates)
        return results

    def _blank(self) -> Candidate:
        return Candidate("", alignment=() if self.settings.alignments else None)

    def _jobs(self, window: Sequence[Request], start: int) -> list[_Job]:
        filled = [i for i, request in enumerate(window) if request.text.strip()]
        encoded = self.source_tokenizer.encode([window[i].text for i in filled])
        prefixes = self.tokenizer.encode([window[i].prefix for i in filled])
        start_ids = self.settings.source_start
        longest = self.settings.max_source_length
        if self.model.max_length is not None:
            longest = min(longest, self.model.max_length)
        longest -= len(start_ids) + 1  # and the end
        jobs = []
        for i, ids, prefix in zip(filled, encoded, prefixes, strict=True):
            if not ids:  # nothing but characters the tokenizer leaves out
                continue
            place = window[i].place or f"line {start + i + 1}"
            if len(ids) > longest:
                tokens = f"{counted(len(ids), 'token')} and is truncated to {longest:,}"
                self.warn(f"{place}: the source has {tokens}, the maximum length")
            if self.model.max_length is not None and len(prefix) >= self.model.max_length:
                raise NlpcliError(
                    f"{place}: the target prefix has {counted(len(prefix), 'token')}, but the model has only "
                    f"{counted(self.model.max_length, 'position')}",
                    hint="shorten the target prefix",
                )
            if self.settings.max_length is not None and len(prefix) >= self.settings.max_length:
                raise NlpcliError(
                    f"{place}: the target prefix has {counted(len(prefix), 'token')}, but --max-length is "
                    f"{self.settings.max_length:,}",
                    hint="use a larger --max-length, or a shorter prefix",
                )
            source = [*start_ids, *source_ids(ids[:longest], self.source_tokenizer.special)]
            jobs.append(_Job(i, start + i, source, prefix))
        return jobs

    @torch.inference_mode()
    def _search(self, jobs: Sequence[_Job]) -> list[tuple[Candidate, ...]]:
        source = pad([job.source for job in jobs], self.source_tokenizer.special.pad).to(self.device)
        lengths = torch.tensor([len(job.source) for job in jobs], device=self.device)
        mask = torch.arange(source.shape[1], device=self.device) < lengths[:, None]
        state = self._decoder.init_state(self.model.encode(source, mask))
        found = self._hypotheses(jobs, state)
        texts = [[[*job.prefix, *h.ids] for h in hypotheses] for job, hypotheses in zip(jobs, found, strict=True)]
        alignments = self._align(jobs, source, mask, texts) if self.settings.alignments else None
        return [
            self._candidates(hypotheses, ids, alignments[i] if alignments else None)
            for i, (hypotheses, ids) in enumerate(zip(found, texts, strict=True))
        ]

    def _hypotheses(self, jobs: Sequence[_Job], state: object) -> list[list[Hypothesis]]:
        settings, special = self.settings, self.tokenizer.special
        prefixes = [[*self._start, *job.prefix] for job in jobs]
        limits = [self._limit(job) for job in jobs]
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
            )
            return [[_ranked(h, search) for h in hypotheses] for hypotheses in found]
        searched: Decodable = self._decoder
        if self._covers:
            lengths = torch.tensor([len(job.source) for job in jobs])
            padding = (torch.arange(int(lengths.max())) >= lengths[:, None]).float().to(self.device)
            searched = Attending(self.model, self.settings.alignment_layer, padding)
        return beam_search(
            searched, state, prefixes, eos=special.eos, max_length=limits, settings=search, room_for_end=True
        )

    def _generated(self, generation: Generation, jobs: Sequence[_Job], state: object) -> list[list[Hypothesis]]:
        """The hypotheses as `transformers` finds them. A forced first token stands before a prefix."""
        first = generation.forced_bos_token_id
        forced = [] if first is None else [first]
        prefixes = [[*self._start, *(forced + job.prefix if job.prefix else [])] for job in jobs]
        limits = [
            generation.new_tokens(len(prefix), self._limit(job) + 1) for prefix, job in zip(prefixes, jobs, strict=True)
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

    def _limit(self, job: _Job) -> int:
        if self.settings.max_length is not None:
            return self.settings.max_length - len(job.prefix)
        tokens = len(job.source) - len(self.settings.source_start) - 1
        return math.ceil(self.settings.length_factor * tokens) + self.settings.length_constant

    def _align(
        self, jobs: Sequence[_Job], source: torch.Tensor, mask: torch.Tensor, texts: list[list[list[int]]]
    ) -> list[list[Alignment]]:
        rows = [i for i, ids in enumerate(texts) for _ in ids]
        flat = [ids for group in texts for ids in group]
        if not flat:
            return [[] for _ in texts]
        [weights] = forced_weights(
            self.model,
            source[rows],
            mask[rows],
            flat,
            start=self._start,
            layers=[self.settings.alignment_layer],
            fill=self.tokenizer.special.pad,
        )
        before = [NO_WORD] * len(self.settings.source_start)
        sources = [job.source[len(before) : -1] for job in jobs]
        source_words = pad(
            [[*before, *words_of_pieces(self.source_tokenizer, ids), NO_WORD] for ids in sources], NO_WORD
        )
        target_words = pad([self._target_words(ids) for ids in flat], NO_WORD)
        looked = word_weights(weights, source_words[rows].to(self.device), target_words.to(self.device))
        words = (tuple(sorted(links_of_targets(weights))) for weights in looked.cpu().numpy())
        return [[next(words) for _ in group] for group in texts]

    def _target_words(self, ids: Sequence[int]) -> list[int]:
        """The number of the word of each id; special ones belong to none."""
        special = self.tokenizer.special.all()
        words = iter(words_of_pieces(self.tokenizer, [id_ for id_ in ids if id_ not in special]))
        return [NO_WORD if id_ in special else next(words) for id_ in ids]

    def _candidates(
        self, hypotheses: Sequence[Hypothesis], texts: Sequence[list[int]], alignments: Sequence[Alignment] | None
    ) -> tuple[Candidate, ...]:
        if not hypotheses:  # constraints that leave nothing to write
            return (self._blank(),)
        return tuple(
            Candidate(one_line(text), h.score, h.logprob, alignments[i] if alignments else None, h.ended)
            for i, (h, text) in enumerate(zip(hypotheses, self.tokenizer.decode(texts), strict=True))
        )


def cut_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Places sorted longest first, in groups whose rows times the longest are at most `max_tokens`; ties keep order."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def one_line(text: str) -> str:
    """Ends of lines become spaces, so that a translation is one line for every reader; no spaces surround it.

    What else Python takes for white space, such as control characters or no-break spaces, the model wrote.
    """
    return re.sub(r"[\r\n]+", " ", text).strip(" ")


def _ranked(hypothesis: Hypothesis, search: BeamSettings) -> Hypothesis:
    """A greedy hypothesis with the score a beam of one gives it."""
    length = len(hypothesis.ids) + hypothesis.ended
    score = search.ranking.score(hypothesis.logprob, length)
    return Hypothesis(hypothesis.ids, score, hypothesis.logprob, hypothesis.ended)


def windows_of(requests: Iterator[Request], size: int) -> Iterator[tuple[int, list[Request]]]:
    """Requests in windows of `size`, each with the number of its first line, from 0.

    An error of `requests` is passed on after all that came before it.
    """
    start = 0
    while True:
        window, error = _take(requests, size)
        if window:
            yield start, window
        if error is not None:
            raise error
        if len(window) < size:
            return
        start += len(window)


def _take(requests: Iterator[Request], count: int) -> tuple[list[Request], NlpcliError | None]:
    """Up to `count` requests, and the error that ended them early."""
    window: list[Request] = []
    try:
        for request in requests:
            window.append(request)
            if len(window) == count:
                break
    except NlpcliError as error:
        return window, error
    return window, None
