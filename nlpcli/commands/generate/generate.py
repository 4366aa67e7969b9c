"""Continuing texts with a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from nlpcli.commands.generate.engines import Rows, open_engine
from nlpcli.commands.generate.generate_request import GenerateRequest
from nlpcli.commands.generate.text_stream import CONTEXT, TextStream, added_text, before_stop
from nlpcli.config.counting import counted
from nlpcli.runs.decoding_settings import beginning, text_start, window_of
from nlpcli.runs.find_model import LANGUAGE_MODEL, locate

if TYPE_CHECKING:
    from nlpcli.decoding.hypothesis import Hypothesis
    from nlpcli.decoding.stop_conditions import Stop
    from nlpcli.text import Tokenizer


@dataclass(frozen=True)
class Continuation:
    """The output for a prompt: `text` is the continuation, `tokens` its length (the end not counted), `logprob` its
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
        self.job, self.warn = job, warn
        self.engine = open_engine(job, locate(LANGUAGE_MODEL, job.model, notify=notify), notify=notify, warn=warn)
        loaded = self.engine.loaded
        self.tokenizer = loaded.tokenizer
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
        prompts = self.tokenizer.encode([prompt for _, prompt, _ in rows])
        prefixes = [[*self.start, *self._fitting(ids, rows[i][0])] or self.nothing for i, ids in enumerate(prompts)]
        found = self.engine.continuations(
            Rows(
                prefixes,
                streams=[(number, k) for number, _, k in rows],
                stop=stopper(self.tokenizer, prefixes[0], self.job.stop) if self.job.stop else None,
                watch=None if stream is None else stream.after(prefixes[0]),
            )
        )
        return [
            self._continuation(row, prefix, hypothesis)
            for row, prefix, hypothesis in zip(rows, prefixes, found, strict=True)
        ]

    def _fitting(self, ids: list[int], number: int) -> list[int]:
        room = self.window - len(self.start)
        if len(ids) > room:
            tokens = f"{counted(len(ids), 'token')} and is truncated to its last {room:,}"
            self.warn(f"prompt {number + 1} has {tokens}, the model's maximum")
        return ids[-room:]

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
