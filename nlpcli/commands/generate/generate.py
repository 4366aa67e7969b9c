"""Continuing texts with a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.commands.generate.text_stream import CONTEXT, TextStream, added_text, before_stop
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.runs.decoding_settings import beginning, check_lengths, end_of, generation_of, text_start, window_of
from nlpcli.runs.find_model import LANGUAGE_MODEL, locate
from nlpcli.runs.open_model import open_model

if TYPE_CHECKING:
    from nlpcli.decoding.hypothesis import Hypothesis
    from nlpcli.decoding.stop_conditions import Stop
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.text import Tokenizer


MOST_TOKENS = 200


@dataclass(frozen=True)
class GenerateRequest:
    """With what to continue texts, and how.

    `model` None: the newest run; `greedy` takes the most probable token each time, otherwise tokens are
    sampled; `stop` are texts that end a continuation, which then ends before them; `rows` continuations are written at
    once, which changes the speed only. None means the value of the model's Hugging Face folder; without one, a
    continuation has up to 200 tokens and no other limit.
    """

    model: Path | LoadedModel | None = None
    max_new_tokens: int | None = None
    samples: int = 1
    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    min_length: int | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    rows: int = field(default=32)
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_lengths(self.min_length, self.max_new_tokens, ("--min-length", "--max-new-tokens"))
        for name, number in (("--num-samples", self.samples), ("the number of prompts in a batch", self.rows)):
            if number < 1:
                raise NlpcliError(f"{name} must be at least 1, not {number}")
        if self.greedy and self.samples > 1:
            raise NlpcliError(
                f"--greedy writes one text, but --num-samples is {self.samples}",
                hint="leave out --greedy to sample texts",
            )
        if "" in self.stop:
            raise NlpcliError("--stop needs a text, but the given one is empty")

    def as_generation(self) -> dict[str, Any]:
        """The same in the names of `Generation`; None where the model decides."""
        sampled = ("temperature", "top_k", "top_p", "min_p", "seed")
        samples = self.samples > 1 or any(getattr(self, name) is not None for name in sampled)
        return {
            "do_sample": False if self.greedy else True if samples else None,
            "num_beams": 1 if self.greedy or samples else None,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "min_new_tokens": self.min_length,
            "max_new_tokens": self.max_new_tokens,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "repetition_penalty": self.repetition_penalty,
        }


@dataclass(frozen=True)
class Continuation:
    """What became of a prompt: `text` is what was added, `tokens` their number (the end not counted), `logprob` its
    log-probability in nats under the model itself (the end counted), `finished` False when the limit cut it."""

    prompt: str
    text: str
    tokens: int
    logprob: float
    finished: bool
    prompt_number: int
    sample: int


class Generator:
    """A language model ready to continue texts. `notify` reports which model was taken, `warn` what was left out."""

    def __init__(self, job: GenerateRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> None:
        path = locate(LANGUAGE_MODEL, job.model, notify=notify)
        from nlpcli.models.packed_decoder import packed
        from nlpcli.training.device import prepare

        self.job, self.warn = job, warn
        self.machine = prepare(job.device, "float32", job.threads or (1 if job.samples == 1 else None))
        loaded = open_model(path, str(self.machine.device))
        self.model: Any = packed(loaded.model)
        self.tokenizer = loaded.tokenizer
        self.eos = end_of(loaded)
        self.generation = generation_of(loaded, job.as_generation(), warn=warn)
        self.remembers = getattr(self.model, "memory_length", 0) > 0  # and forgets by itself what is too long ago
        self.window = window_of(loaded)
        self.nothing = beginning(loaded)
        self.start = text_start(loaded)

    def generate(
        self, prompts: Iterable[str], *, stream: Callable[[str], None] | None = None
    ) -> Iterator[list[Continuation]]:
        """The continuations of each prompt, in order, in the portions in which they are ready.

        stream: receives the text of the first continuation bit by bit while it grows.
        """
        wanted = ((i, prompt, k) for i, prompt in enumerate(prompts) for k in range(self.job.samples))
        while rows := list(islice(wanted, self.job.rows if stream is None else 1)):
            growing = None if stream is None else TextStream(self.tokenizer, self.job.stop, stream)
            found = self._continue(rows, growing)
            if growing is not None:
                growing.finish(found[0].text)
            yield found

    def _continue(self, rows: list[tuple[int, str, int]], stream: TextStream | None) -> list[Continuation]:
        from nlpcli.decoding.autoregressive import Renewal
        from nlpcli.decoding.greedy import greedy_search
        from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder
        from nlpcli.decoding.sampling import sample
        from nlpcli.decoding.stop_conditions import StopConditions

        prompts = self.tokenizer.encode([prompt for _, prompt, _ in rows])
        prefixes = [[*self.start, *self._fitting(ids, rows[i][0])] or self.nothing for i, ids in enumerate(prompts)]
        watch = None if stream is None else stream.after(prefixes[0])
        most = self.job.max_new_tokens or MOST_TOKENS
        streams = [(number, k) for number, _, k in rows]
        stop = stopper(self.tokenizer, prefixes[0], self.job.stop) if self.job.stop else None
        renewal = None if self.remembers else Renewal(self.model.init_state, self.window)
        state = self.model.init_state(len(rows))
        if self.generation is not None:
            limits = [self.generation.new_tokens(len(prefix), most) for prefix in prefixes]
            inputs = GenerationInputs(prefixes, limits, streams=streams)
            decoder = HuggingFaceDecoder(self.generation, self.tokenizer.special, seed=self._seed)
            found = decoder.generate(self.model, state, inputs, stop=stop, renewal=renewal, watch=watch)
        else:
            settings, conditions = self._settings(), StopConditions(self.eos, most, stop=stop)
            if self.job.greedy:
                found = greedy_search(
                    self.model, state, prefixes, conditions,
                    constraints=settings.constraints, renewal=renewal, watch=watch,
                )  # fmt: skip
            else:
                found = sample(
                    self.model, state, prefixes, conditions,
                    settings=settings, streams=streams, renewal=renewal, watch=watch,
                )  # fmt: skip
        return [
            self._continuation(row, prefix, hypotheses[0])
            for row, prefix, hypotheses in zip(rows, prefixes, found, strict=True)
        ]

    def _fitting(self, ids: list[int], number: int) -> list[int]:
        room = self.window - len(self.start)
        if len(ids) > room:
            tokens = f"{counted(len(ids), 'token')} and is truncated to its last {room:,}"
            self.warn(f"prompt {number + 1} has {tokens}, the model's maximum")
        return ids[-room:]

    def _settings(self) -> Any:
        from nlpcli.decoding.constraints import Constraints, never_written
        from nlpcli.decoding.sampling import SamplingSettings

        constraints = Constraints(
            suppress=never_written(self.tokenizer.special, end=self.eos is not None),
            **self._given("min_length", "no_repeat_ngram", "repetition_penalty"),
        )
        drawing = self._given("temperature", "top_k", "top_p", "min_p")
        return SamplingSettings(**drawing, seed=self._seed, constraints=constraints)

    @property
    def _seed(self) -> int:
        return 1 if self.job.seed is None else self.job.seed

    def _given(self, *names: str) -> dict[str, Any]:
        """Those of the job's settings that are set."""
        values = {name: getattr(self.job, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _continuation(self, row: tuple[int, str, int], prefix: list[int], hypothesis: Hypothesis) -> Continuation:
        number, prompt, k = row
        text, stopped = before_stop(added_text(self.tokenizer, prefix, hypothesis.ids), self.job.stop)
        return Continuation(
            prompt=prompt,
            text=text,
            tokens=len(hypothesis.ids),
            logprob=hypothesis.logprob,
            finished=hypothesis.ended or stopped,
            prompt_number=number,
            sample=k,
        )


def stopper(tokenizer: Tokenizer, prefix: Sequence[int], stops: Sequence[str]) -> Stop:
    """Checks from the ids after a prefix whether one of the texts `stops` has just been written."""
    from nlpcli.decoding.stop_conditions import Stop

    before = prefix[-CONTEXT:]

    def found(ids: Sequence[int]) -> bool:
        tail = added_text(tokenizer, before, ids)
        return any(text in tail for text in stops)

    # a token has at least one character, or is part of one of at most four bytes
    return Stop(found, 4 * max(map(len, stops)) + 4)
