"""Prompts as what a model reads: the conditioning text, and as much of it as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nlpcli.commands.generate.prompt_template import Case, Template
from nlpcli.config.counting import counted
from nlpcli.decoding.likelihood import Completions, split_completions
from nlpcli.errors import NlpcliError
from nlpcli.runs.decoding_settings import beginning, text_start, window_of

if TYPE_CHECKING:
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.text import Tokenizer


class Demonstrations:
    """Examples with their answers, sampled for every prompt anew (Brown et al. 2020, section 2.4).

    Which ones depends on the seed and on the number of the prompt alone. An example with the very prompt that is posed
    is never one of them.
    Raises: NlpcliError where there are fewer examples than are to be shown.
    """

    def __init__(self, pool: Sequence[Case], shots: int, seed: int) -> None:
        self.pool = [case for case in pool if case.completion is not None]
        if len(self.pool) < shots:
            raise NlpcliError(
                f"--shots {shots} needs {counted(shots, 'example')} with an answer, but the file of --examples "
                f"contains only {len(self.pool):,} of them"
            )
        self.shots, self.seed = shots, seed

    def sampled(self, number: int, case: Case) -> list[Case]:
        """Those for prompt `number`, in the order in which they are shown."""
        if not self.shots:
            return []
        rng = np.random.default_rng([self.seed, number])
        order: Iterator[int] = iter(rng.permutation(len(self.pool)).tolist())
        others = (self.pool[place] for place in order if self.pool[place].prompt != case.prompt)
        return [other for _, other in zip(range(self.shots), others, strict=False)]


@dataclass(frozen=True)
class Prompt:
    """A prompt for the model. context: the whole text before the answer; shots: the examples in it; place, number:
    of the case among all."""

    case: Case
    question: Completions
    context: str
    shots: int
    number: int


class Layout(Protocol):
    """How a kind of model is prompted."""

    tokenizer: Tokenizer
    room: int  # most tokens that are read
    start: list[int]  # the first tokens of the decoder

    def ask(self, context: str, candidates: Sequence[str]) -> Completions: ...

    def excess(self, question: Completions, new_tokens: int) -> int:
        """By how many tokens it is too long; new_tokens: those that are to be written."""
        ...

    def cut(self, question: Completions, tokens: int) -> Completions:
        """The question without the first `tokens` of its text."""
        ...


class DecoderLayout:
    """A decoder continues the context: `split_completions` of it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokenizer = loaded.tokenizer
        self.room = window_of(loaded)
        self.start = beginning(loaded)
        self.text_start = text_start(loaded)

    def ask(self, context: str, candidates: Sequence[str]) -> Completions:
        if candidates:
            prefix, rests = split_completions(self.tokenizer, context, candidates, self.start[-1])
        else:
            prefix, rests = self.tokenizer.encode([context])[0] or self.start, []
        start = self.text_start
        return Completions(start if start and prefix in (start, start[-1:]) else [*start, *prefix], rests)

    def excess(self, question: Completions, new_tokens: int) -> int:
        longest = max(map(len, question.candidates), default=new_tokens)
        return len(question.prefix) + longest - 1 - self.room

    def cut(self, question: Completions, tokens: int) -> Completions:
        first = len(self.text_start)
        return replace(question, prefix=[*question.prefix[:first], *question.prefix[first + tokens :]])


class EncoderDecoderLayout:
    """The encoder reads the context; candidates are whole texts, their end included, so that space around them is
    left out."""

    def __init__(self, loaded: LoadedModel) -> None:
        special = loaded.tokenizer.special
        self.tokenizer, self.end = loaded.tokenizer, special.eos
        self.source_start = list(loaded.info.get("source_start", ()))
        self.start = list(loaded.info.get("target_start", ())) or [special.bos]
        self.room = loaded.config.max_length
        self.positions = loaded.model.max_length

    def ask(self, context: str, candidates: Sequence[str]) -> Completions:
        source, *targets = self.tokenizer.encode([context, *(text.strip() for text in candidates)])
        return Completions(self.start, [[*ids, self.end] for ids in targets], [*self.source_start, *source, self.end])

    def excess(self, question: Completions, new_tokens: int) -> int:
        longest = len(question.prefix) + max(map(len, question.candidates), default=new_tokens) - 1
        if self.positions is not None and longest > self.positions:
            raise NlpcliError(
                f"an answer may have {counted(longest, 'token')}, but the model has only "
                f"{counted(self.positions, 'position')}"
            )
        return len(question.source or ()) - self.room

    def cut(self, question: Completions, tokens: int) -> Completions:
        first = len(self.source_start)
        source = list(question.source or ())
        return replace(question, source=[*source[:first], *source[first + tokens :]])


class Composer:
    """Lays prompts out: instruction, examples and the case, with the template's separator between them.

    A prompt that is too long loses its oldest examples first; `shortened` reports how often that happened. Only when
    none is left is the text itself cut, from its beginning, which `warn` reports each time.
    """

    def __init__(
        self, template: Template, layout: Layout, demonstrations: Demonstrations, *, warn: Callable[[str], None]
    ) -> None:
        self.template, self.layout, self.demonstrations, self.warn = template, layout, demonstrations, warn
        self.new_tokens = 0 if template.ranks else template.max_new_tokens
        self.prompts = self.shortened = 0
        self.fewest = demonstrations.shots

    def compose(self, case: Case, number: int) -> Prompt:
        """Raises: NlpcliError where even the answers don't fit."""
        shown = [f"{other.prompt}{other.completion}" for other in self.demonstrations.sampled(number, case)]
        self.prompts += 1
        prompt = self._prompt(case, number, shown)
        wanted = len(shown)
        while shown and (excess := self.layout.excess(prompt.question, self.new_tokens)) > 0:
            shown = shown[self._to_drop(shown, excess) :]
            prompt = self._prompt(case, number, shown)
        if len(shown) < wanted:
            self.shortened += 1
            self.fewest = min(self.fewest, len(shown))
        return self._cut(prompt)

    def _prompt(self, case: Case, number: int, shown: Sequence[str]) -> Prompt:
        instruction = [self.template.instruction] if self.template.instruction else []
        context = self.template.separator.join([*instruction, *shown, case.prompt])
        question = self.layout.ask(context, list(case.candidates.values()))
        return Prompt(case, question, context, len(shown), number)

    def _to_drop(self, shown: Sequence[str], excess: int) -> int:
        """So many of the oldest examples have about as many tokens as are too many; at least one."""
        sizes = map(len, self.layout.tokenizer.encode(list(shown)))
        held = 0
        for count, size in enumerate(sizes, start=1):
            held += size
            if held >= excess:
                return count
        return len(shown)

    def _cut(self, prompt: Prompt) -> Prompt:
        excess = self.layout.excess(prompt.question, self.new_tokens)
        if excess <= 0:
            return prompt
        text = prompt.question.prefix if prompt.question.source is None else prompt.question.source
        if excess >= len(text):
            raise NlpcliError(
                f"{prompt.case.place}: an answer may have "
                f"{counted(self.layout.room + excess - len(text) + 1, 'token')}, so no token is left for the prompt: "
                f"the model's maximum for both is {counted(self.layout.room, 'token')}",
                hint="use shorter candidates, or a smaller max_new_tokens",
            )
        self.warn(
            f"{prompt.case.place}: the prompt has {counted(len(text), 'token')} and is truncated to its last "
            f"{len(text) - excess:,}, because the model's maximum for prompt and answer is {self.layout.room:,}"
        )
        return replace(prompt, question=self.layout.cut(prompt.question, excess))

    def summary(self) -> str | None:
        """The final warnings about prompts with fewer examples than were requested."""
        if not self.shortened:
            return None
        shots, contain = self.demonstrations.shots, "contains" if self.shortened == 1 else "contain"
        return (
            f"{self.shortened:,} of {counted(self.prompts, 'prompt')} {contain} fewer than {counted(shots, 'example')} "
            f"(at least {self.fewest}), because the model's maximum is {counted(self.layout.room, 'token')}"
        )
