"""The generator of a text-to-text task's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nlpcli.config.generation_settings import IDS, Generation
from nlpcli.config.loading import parse
from nlpcli.config.schema import DecodingConfig

if TYPE_CHECKING:
    import torch

    from nlpcli.models.decodable import Decodable
    from nlpcli.tasks.text_to_text import TextToText


class BeamGenerator:
    """Beam search, greedy search for a beam of 1.

    The search ends when nothing that lives can still win, as T5's own does, and not when enough has ended: a model that
    is sure of a short answer soon has a beam full of improbable ends.

    task: the `TextToText` whose targets are written, within the limits of its wording. beam_size: that of `decoding` if
    None. min_length: the end may not come before that many tokens. generation: decoding settings that the model has
    from a Hugging Face folder, with which it writes as `transformers` does.
    """

    def __init__(
        self,
        decoding: DecodingConfig,
        task: TextToText,
        *,
        beam_size: int | None = None,
        min_length: int = 0,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        from nlpcli.decoding.beam import BeamSettings
        from nlpcli.decoding.constraints import Constraints, never_written
        from nlpcli.decoding.length_penalty import Ranking

        self.special = task.tokenizer.special
        self.start = task.start
        self.in_stream = task.in_stream
        self.most = task.wording.max_target
        self.generation: Generation | None = None
        if generation:
            given = {"eos_token_id": self.special.eos, **generation, **({"num_beams": beam_size} if beam_size else {})}
            self.generation = parse(Generation, given, "the model's decoding settings")
        suppress, ngram = never_written(self.special), task.wording.no_repeat_ngram
        self.settings = BeamSettings(
            beam_size or decoding.beam_size,
            patience=math.inf,
            ranking=Ranking(length_penalty=decoding.length_penalty),
            constraints=Constraints(suppress, min_length, no_repeat_ngram=ngram),
        )

    @property
    def signature(self) -> str:
        """The settings that affect the generated texts, in the form of score signatures."""
        if self.generation is not None:
            settings_set = self.generation.model_dump(exclude_defaults=True)
            return "|".join(f"{name}:{value}" for name, value in settings_set.items() if name not in IDS)
        settings = self.settings
        ngram = settings.constraints.no_repeat_ngram
        parts = [f"beam:{settings.beam_size}"]
        parts += [f"lp:{settings.ranking.length_penalty:g}"] if settings.beam_size > 1 else []
        return "|".join([*parts, f"max:{self.most}", *([f"no-repeat:{ngram}"] if ngram else [])])

    def __call__(
        self,
        model: Any,  # a decoder or an encoder-decoder, whose states differ
        source: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> list[list[int]]:
        """The ids of each target, without start and end; source (rows, m), mask (rows, m) or None.

        A decoder gets its sources as prompts.
        """
        from nlpcli.decoding.beam import beam_search
        from nlpcli.decoding.greedy import greedy_search
        from nlpcli.decoding.stop_conditions import StopConditions

        tokens = source == source if mask is None else mask
        sources = [row[own].tolist() for row, own in zip(source, tokens, strict=True)]
        if self.in_stream:
            state, prefixes = model.init_state(len(source)), sources
        else:
            state = model.init_state(model.encode(source, mask))
            prefixes = [self.start] * len(source)
        if self.generation is not None:
            return self._generated(model, state, sources, prefixes)
        eos, settings = self.special.eos, self.settings
        if settings.beam_size == 1:
            conditions = StopConditions(eos, self.most, room_for_end=True)
            found = greedy_search(model, state, prefixes, conditions, constraints=settings.constraints)
        else:
            found = beam_search(
                model, state, prefixes, eos=eos, max_length=self.most, settings=settings, room_for_end=True
            )
        return [list(hypotheses[0].ids) if hypotheses else [] for hypotheses in found]

    def _generated(
        self,
        model: Decodable,
        state: Any,  # as of `Decodable`
        sources: list[list[int]],
        prefixes: list[list[int]],
    ) -> list[list[int]]:
        from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder

        settings = self.generation
        assert settings is not None
        if not self.in_stream:
            prefixes = [[self.special.bos if settings.start is None else settings.start]] * len(sources)
        limits = [settings.new_tokens(len(prefix), self.most + 1) for prefix in prefixes]
        inputs = GenerationInputs(prefixes, limits, sources)
        found = HuggingFaceDecoder(settings, self.special).generate(model, state, inputs)
        return [list(hypotheses[0].ids[: self.most]) if hypotheses else [] for hypotheses in found]
