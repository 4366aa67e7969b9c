"""Lines in, translations out, in order and in constant memory: what stands between text and a search.

A window of lines is read ahead, tokenized, sorted longest first and searched in batches of similar length. One
translation comes out for every line that went in.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.generation_settings import Generation
from nlpcli.data.progress import followed
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.search_settings import BeamSettings, SamplingSettings
from nlpcli.errors import NlpcliError
from nlpcli.text import Tokenizer
from nlpcli.text.special_tokens import source_ids

if TYPE_CHECKING:  # which imports torch
    from nlpcli.decoding.cross_attention import Alignment
    from nlpcli.models.alignment_head import AlignmentHead


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
    """A translation. `logprob` in nats, which like `score` is nan after a greedy search without `scores`; `alignment`:
    pairs (source word, target word) from 0, None unless requested; `ended` is False when the length limit cut it."""

    text: str
    score: float = 0.0
    logprob: float = 0.0
    alignment: Alignment | None = None
    ended: bool = True


@dataclass(frozen=True)
class Translation:
    """The result of a request: at least one candidate, best first (samples in the order of sampling)."""

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
    `scores`: whether scores and log-probabilities are needed; otherwise a greedy search does not compute them,
    and those of CTranslate2 are among the tokens that may be written.
    `alignments`: word alignments by the attention of decoder layer `alignment_layer` (from 1), or by `alignment_head`
    where that is None; without both by the last layer but one.
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
    alignment_head: AlignmentHead | None = None
    scores: bool = False
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
class Job:
    """A line that has something to translate."""

    place: int  # in the window
    line: int  # in the whole input, from 0
    source: list[int]  # with its start and the end
    prefix: list[int]  # of the target, without its start


class LineTranslator(ABC):
    """Everything about translating lines but the search, which a subclass adds.

    `warn` gets a sentence about every line that is cut. source_tokenizer: of the sources, where it is not that of the
    targets. positions: how many tokens the model can read, None where nothing limits them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: TranslatorSettings | None,
        *,
        positions: int | None,
        warn: Callable[[str], None] | None = None,
        source_tokenizer: Tokenizer | None = None,
    ) -> None:
        self.tokenizer, self.positions = tokenizer, positions
        self.source_tokenizer = source_tokenizer or tokenizer
        self.settings = settings or TranslatorSettings()
        self.warn = warn or (lambda text: None)

    @abstractmethod
    def search(self, jobs: Sequence[Job]) -> list[tuple[Candidate, ...]]:
        """The candidates of each job, best first."""

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
        results = [Translation(request, (self.blank(),)) for request in window]
        jobs = self._jobs(window, start)
        batches = cut_batches([len(job.source) for job in jobs], self.settings.batch_tokens)
        for batch in followed(batches, "translating", len(batches)):
            chosen = [jobs[i] for i in batch]
            for job, candidates in zip(chosen, self.search(chosen), strict=True):
                results[job.place] = Translation(window[job.place], candidates)
        return results

    def blank(self) -> Candidate:
        """The translation of a blank line."""
        return Candidate("", alignment=() if self.settings.alignments else None)

    def _jobs(self, window: Sequence[Request], start: int) -> list[Job]:
        filled = [i for i, request in enumerate(window) if request.text.strip()]
        encoded = self.source_tokenizer.encode([window[i].text for i in filled])
        prefixes = self.tokenizer.encode([window[i].prefix for i in filled])
        start_ids = self.settings.source_start
        longest = self.settings.max_source_length
        if self.positions is not None:
            longest = min(longest, self.positions)
        longest -= len(start_ids) + 1  # and the end
        jobs = []
        for i, ids, prefix in zip(filled, encoded, prefixes, strict=True):
            if not ids:  # nothing but characters the tokenizer leaves out
                continue
            place = window[i].place or f"line {start + i + 1}"
            if len(ids) > longest:
                tokens = f"{counted(len(ids), 'token')} and is truncated to {longest:,}"
                self.warn(f"{place}: the source has {tokens}, the maximum length")
            if self.positions is not None and len(prefix) >= self.positions:
                raise NlpcliError(
                    f"{place}: the target prefix has {counted(len(prefix), 'token')}, but the model has only "
                    f"{counted(self.positions, 'position')}",
                    hint="shorten the target prefix",
                )
            if self.settings.max_length is not None and len(prefix) >= self.settings.max_length:
                raise NlpcliError(
                    f"{place}: the target prefix has {counted(len(prefix), 'token')}, but --max-length is "
                    f"{self.settings.max_length:,}",
                    hint="use a larger --max-length, or a shorter prefix",
                )
            source = [*start_ids, *source_ids(ids[:longest], self.source_tokenizer.special)]
            jobs.append(Job(i, start + i, source, prefix))
        return jobs

    def limit(self, job: Job) -> int:
        """How many tokens the translation may have after its prefix, the end not counted."""
        if self.settings.max_length is not None:
            return self.settings.max_length - len(job.prefix)
        tokens = len(job.source) - len(self.settings.source_start) - 1
        return math.ceil(self.settings.length_factor * tokens) + self.settings.length_constant

    def candidates(
        self, hypotheses: Sequence[Hypothesis], texts: Sequence[list[int]], alignments: Sequence[Alignment] | None
    ) -> tuple[Candidate, ...]:
        """Those of one job's hypotheses; texts: their ids with the prefix."""
        if not hypotheses:  # constraints that leave nothing to write
            return (self.blank(),)
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

    Other white space for Python, such as control characters or no-break spaces, is part of the model's output.
    """
    return re.sub(r"[\r\n]+", " ", text).strip(" ")


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
