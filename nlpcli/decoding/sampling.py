"""Sampling: temperature, and the three ways to cut the tail of a distribution.

A row's tokens depend on (seed, its stream) alone: each row has its own random numbers, one a token, and the token is
found by inverting the distribution function in the order of the vocabulary. So neither the other rows nor the device
change the sample, up to the rounding of the model's own logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nlpcli.decoding.autoregressive import Choose, ContextShift, Watch, roll_out
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.search_settings import SamplingSettings
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.decodable import Decodable

_SAMPLED_AHEAD = 256


@torch.inference_mode()
def sample(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    conditions: StopConditions,
    *,
    settings: SamplingSettings | None = None,
    streams: Sequence[tuple[int, ...]] | None = None,
    context_shift: ContextShift | None = None,
    watch: Watch | None = None,
) -> list[list[Hypothesis]]:
    """One random continuation of each prefix, as the only one of its list; see `roll_out` and `sampler` for arguments.

    `logprob` is under the model itself, before temperature and cuts.
    """
    settings = settings or SamplingSettings()
    found = roll_out(
        model,
        state,
        prefixes,
        conditions,
        constraints=settings.constraints,
        choose=sampler(settings, prefixes, streams),
        context_shift=context_shift,
        watch=watch,
    )
    return [[hypothesis] for hypothesis in found]


def sampler(
    settings: SamplingSettings, prefixes: Sequence[Sequence[int]], streams: Sequence[tuple[int, ...]] | None
) -> Choose:
    """Samples the next tokens, for `roll_out`.

    streams: what distinguishes a row's random numbers from those of others, such as (line, number of the sample);
    tuples of one length. The row's place if None.
    """
    uniform = _Uniform(settings.seed, streams or [(row,) for row in range(len(prefixes))])
    starts = [len(prefix) for prefix in prefixes]

    def choose(logits: Tensor, rows: Tensor, position: int) -> Tensor:
        numbers = uniform.at([(row, position - starts[row]) for row in rows.tolist()])
        cut = cut_tail(logits.float() / settings.temperature, settings)
        return invert(cut.softmax(-1), torch.from_numpy(numbers).to(logits.device))

    return choose


def cut_tail(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """-inf for the tokens that top-k, top-p and min-p leave out: (rows, vocabulary) -> (rows, vocabulary)."""
    if 0 < settings.top_k < logits.shape[1]:
        least = logits.topk(settings.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if settings.top_p < 1:
        probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
        before = probabilities.double().cumsum(-1) - probabilities
        left_out = (before >= settings.top_p).scatter(1, order, before >= settings.top_p)
        logits = logits.masked_fill(left_out, -torch.inf)
    if settings.min_p > 0:
        least = logits.amax(-1, keepdim=True) + float(np.log(settings.min_p))
        logits = logits.masked_fill(logits < least, -torch.inf)
    return logits


def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """For each row the first token v with Σ_{w <= v} p_w > u Σ p: (rows, vocabulary), (rows,) in [0, 1) -> (rows,)."""
    cumulative = probabilities.double().cumsum(-1)
    target = (uniform[:, None] * cumulative[:, -1:]).contiguous()
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probabilities.shape[1] - 1)


class _Uniform:
    """Numbers in [0, 1) for rows and steps; those of a row depend on (seed, stream) alone."""

    def __init__(self, seed: int, streams: Sequence[tuple[int, ...]]) -> None:
        self.generators = [np.random.default_rng((seed, *stream)) for stream in streams]
        self.numbers = np.empty((len(streams), 0))

    def at(self, places: Sequence[tuple[int, int]]) -> np.ndarray:
        """The numbers for pairs (row, step); before the first step any number does, since nothing is chosen there."""
        while max(step for _, step in places) >= self.numbers.shape[1]:
            more = np.stack([generator.random(_SAMPLED_AHEAD) for generator in self.generators])
            self.numbers = np.concatenate((self.numbers, more), axis=1)
        rows, steps = np.array(places).T
        return self.numbers[rows, np.maximum(steps, 0)]
