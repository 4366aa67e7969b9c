"""The options of a search for translations, and the settings that they become for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.text import SpecialTokens


@dataclass(frozen=True)
class Search:
    """Beam search; with `sample` set, sampling of `n_best` translations instead.

    None means the model's own value: `beam_size` and `length_penalty` as in its evaluations in training, with a beam of
    at least `n_best`; for a model from a Hugging Face folder, its decoding settings. Without such a value, there is no
    limit.
    """

    beam_size: int | None = None
    length_penalty: float | None = None
    length_normalization: str | None = None
    coverage_penalty: float | None = None
    beam_patience: float | None = None
    n_best: int = 1
    sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 1
    min_length: int | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    allow_unknown: bool = False

    def as_generation(self, max_length: int | None) -> dict[str, Any]:
        """The same in the names of `Generation`; None where the model decides."""
        beams = self.beam_size
        if self.n_best > 1 and beams is None and not self.sample:
            beams = max(self.n_best, 1)
        return {
            "num_beams": beams,
            "do_sample": True if self.sample else False if beams is not None else None,
            "length_penalty": self.length_penalty,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "min_length": None if self.min_length is None else self.min_length + 1,  # with the start
            "max_length": None if max_length is None else max_length + 1,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "repetition_penalty": self.repetition_penalty,
        }


def search_settings(search: Search, special: SpecialTokens, trained: Mapping[str, Any]) -> Any:
    """`search` in the words of `nlpcli.decoding`; trained: what the model was measured with in training."""
    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.length_penalty import Ranking
    from nlpcli.decoding.search_settings import BeamSettings, SamplingSettings

    constraints = Constraints(
        suppress=never_written(special, unknown=search.allow_unknown),
        **_given(search, "min_length", "no_repeat_ngram", "repetition_penalty"),
    )
    if search.sample:
        sampling = _given(search, "temperature", "top_k", "top_p", "min_p", "seed")
        return SamplingSettings(**sampling, constraints=constraints)
    size, penalty = search.beam_size, search.length_penalty
    if size is None:
        size = max(trained.get("beam_size", BeamSettings.beam_size), search.n_best)
    if penalty is None:
        penalty = trained.get("length_penalty", Ranking.length_penalty)
    named: dict[str, Any] = {"normalization": search.length_normalization, "coverage_penalty": search.coverage_penalty}
    ranking = Ranking(penalty, **{name: value for name, value in named.items() if value is not None})
    patience = BeamSettings.patience if search.beam_patience is None else search.beam_patience
    return BeamSettings(size, search.n_best, patience, ranking, constraints)


def _given(search: Search, *names: str) -> dict[str, Any]:
    """Those of the settings that are set."""
    values = {name: getattr(search, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
