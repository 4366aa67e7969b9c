"""What a text-to-text task writes its outputs with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpcli.config.schema import DecodingConfig

if TYPE_CHECKING:
    import torch

    from nlpcli.tasks.text_to_text import Generator


def make_generator(
    decoding: DecodingConfig,
    task: Any,
    device: torch.device,
    *,
    beam_size: int | None = None,
    min_length: int = 0,
) -> Generator:
    """Beam search as `decoding` says, with `beam_size` instead of its own where that is given; greedy for a beam of 1.

    task: the `TextToText` whose targets are written, within the limits of its wording. min_length: see `Constraints`.
    """
    from nlpcli.decoding.beam import BeamSettings, beam_search
    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.greedy import greedy_search
    from nlpcli.decoding.ranking import Ranking

    special = task.tokenizer.special
    wording = task.wording
    limits = Constraints(never_written(special), min_length=min_length, no_repeat_ngram=wording.no_repeat_ngram)
    settings = BeamSettings(
        beam_size or decoding.beam_size, ranking=Ranking(length_penalty=decoding.length_penalty), constraints=limits
    )

    def generate(model: Any, source: torch.Tensor, mask: torch.Tensor | None) -> list[list[int]]:
        state = model.init_state(model.encode(source, mask))
        prefixes = [task.start] * len(source)
        most = wording.max_target + 1  # and the end
        if settings.beam_size == 1:
            found = greedy_search(model, state, prefixes, eos=special.eos, max_length=most, constraints=limits)
        else:
            found = beam_search(model, state, prefixes, eos=special.eos, max_length=most, settings=settings)
        return [list(hypotheses[0].ids[: most - 1]) if hypotheses else [] for hypotheses in found]

    return generate
