"""Answers that are written: greedy or beam search after a prompt, until a stop text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.commands.generate.generate import stopper
from nlpcli.commands.generate.prompt_template import Template
from nlpcli.commands.generate.text_stream import added_text, before_stop
from nlpcli.decoding.likelihood import Completions
from nlpcli.decoding.prefixes import device_of
from nlpcli.decoding.stop_conditions import EndingAtTexts
from nlpcli.runs.decoding_settings import end_of

if TYPE_CHECKING:
    from nlpcli.models.model_folder import LoadedModel

_TAIL = 4  # tokens before the answer that may belong to its first character


class Writer:
    """A model that answers, with a template's limits."""

    def __init__(self, loaded: LoadedModel, template: Template, batch_tokens: int) -> None:
        self.loaded, self.template, self.batch_tokens = loaded, template, batch_tokens
        self.both = loaded.config.kind == "encoder-decoder"
        self.eos = loaded.tokenizer.special.eos if self.both else end_of(loaded)
        self.searched: Any = loaded.model
        if template.beam_size > 1:
            self.searched = EndingAtTexts(loaded.model, loaded.tokenizer, template.stops, self.eos)

    def write(self, questions: Sequence[Completions]) -> list[tuple[str, float, bool]]:
        """For each prompt the answer without space around it, its log-probability, and whether it came to an end."""
        found: list[Any] = [None] * len(questions)
        for places in self._batches(questions):
            chosen = [questions[place] for place in places]
            for place, question, hypothesis in zip(places, chosen, self._search(chosen), strict=True):
                prefix = question.prefix[-_TAIL:]
                text, stopped = before_stop(
                    added_text(self.loaded.tokenizer, prefix, hypothesis.ids), self.template.stops
                )
                found[place] = (text.strip(), hypothesis.logprob, hypothesis.ended or stopped)
        return found

    def _batches(self, questions: Sequence[Completions]) -> Iterator[list[int]]:
        """Places of prompts of similar length. A model with memory reads each prompt as one segment, and so alone."""
        order = sorted(range(len(questions)), key=lambda place: -self._length(questions[place]))
        alone = bool(getattr(self.loaded.model, "memory_length", 0))
        batch: list[int] = []
        for place in order:
            longest = self._length(questions[batch[0]]) if batch else 0
            if batch and (alone or (len(batch) + 1) * longest > self.batch_tokens // self.template.beam_size):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _length(self, question: Completions) -> int:
        return len(question.prefix if question.source is None else question.source) + self.template.max_new_tokens

    def _search(self, questions: Sequence[Completions]) -> list[Any]:
        from nlpcli.decoding.beam import BeamSettings, beam_search
        from nlpcli.decoding.constraints import Constraints, never_written
        from nlpcli.decoding.greedy import greedy_search
        from nlpcli.decoding.length_penalty import Ranking
        from nlpcli.decoding.stop_conditions import StopConditions

        tokenizer, template = self.loaded.tokenizer, self.template
        prefixes = [question.prefix for question in questions]
        state = self._state(questions)
        limit = template.max_new_tokens
        constraints = Constraints(suppress=never_written(tokenizer.special, end=self.eos is not None))
        if template.beam_size == 1:
            stop = stopper(tokenizer, prefixes[0][-_TAIL:], template.stops)
            conditions = StopConditions(self.eos, limit, stop=stop)
            found = greedy_search(self.loaded.model, state, prefixes, conditions, constraints=constraints)
        else:
            settings = BeamSettings(
                template.beam_size, ranking=Ranking(template.length_penalty), constraints=constraints
            )
            found = beam_search(
                self.searched, state, prefixes, eos=self.searched.end, max_length=limit, settings=settings
            )
        return [hypotheses[0] for hypotheses in found]

    def _state(self, questions: Sequence[Completions]) -> Any:
        import torch

        from nlpcli.objectives.source_target_batches import pad

        model = self.loaded.model
        if not self.both:
            return model.init_state(len(questions))
        sources = [question.source or () for question in questions]
        device = device_of(model)
        source = pad(sources, self.loaded.tokenizer.special.pad).to(device)
        lengths = torch.tensor([len(ids) for ids in sources], device=device)
        with torch.inference_mode():
            return model.init_state(
                model.encode(source, torch.arange(source.shape[1], device=device) < lengths[:, None])
            )
