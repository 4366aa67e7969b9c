"""What can be drawn without a model: who may look at whom, and how positions are encoded."""

from __future__ import annotations

import numpy as np
import torch

from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import Causal
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.layers.positions import RelativeBias, RotaryPositions, sinusoids
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.position_matrices import Matrix

POSITIONS = {
    "sinusoidal": "alternating sines and cosines (Vaswani et al. 2017, section 3.5)",
    "sinusoidal-halves": "all sines, then all cosines (tensor2tensor, Marian, PEGASUS)",
    "rotary": "the cosine of the angle by which each pair of dimensions is rotated (Su et al. 2021)",
    "relative": "T5's bucket for each distance between query and key (Raffel et al. 2020, section 2.1)",
}
LONGEST = 4096


def pattern_attention(text: str, length: int, *, causal: bool = False, seed: int = 0) -> Attention:
    """Who may look at whom in a text of `length` tokens: weights 1 and 0, one layer, one head, site "pattern".

    text: such as "window:4+global:1" (`nlpcli.attention.patterns`); causal: what comes later is hidden besides;
    seed: of random parts that name none.
    Raises: NlpcliError for a text that is no pattern and for a length out of range.
    """
    _check("length", length, LONGEST)
    pattern = parse(text, seed=seed)
    if causal and pattern != Causal():
        pattern = Causal() & pattern
    weights = pattern.dense(length).numpy().astype(np.float32)[None]
    side = Side(tuple(map(str, range(length))))
    allowed = int(weights.sum())
    return Attention(
        (Site("pattern", str(pattern), side, side, (weights,)),),
        texts={"pattern": str(pattern)},
        notes={"allowed": f"{allowed:,} of {counted(length**2, 'query-key pair')} ({allowed / length**2:.1%})"},
    )


def position_matrix(
    kind: str, length: int, d_model: int = 128, *, buckets: int = 32, distance: int = 128, causal: bool = False
) -> Matrix:
    """How positions 0 … length - 1 are encoded: (length, d_model), or (length, length) for relative positions.

    kind: a name of `POSITIONS`; d_model: the width, for rotary that of a head, of which pairs share an angle;
    buckets, distance, causal: of relative positions, as in a model's settings.
    Raises: NlpcliError for a kind that isn't there and for sizes out of range.
    """
    _check("length", length, LONGEST)
    if kind == "learned":
        raise NlpcliError("learned positions are weights of a model, so they can't be drawn without a model")
    if kind not in POSITIONS:
        raise unknown("positions", kind, POSITIONS)
    if kind == "relative":
        return _relative(length, buckets, distance, causal)
    _check("d-model", d_model, LONGEST)
    if d_model % 2:
        raise NlpcliError(f"{kind} positions need an even d_model, but it is {d_model}")
    if kind == "rotary":
        values = RotaryPositions(d_model, initial_length=length).table[0, :length]
        return Matrix("rotary positions: cosine of the angle", values.numpy(), "position", "pair of dimensions", -1, 1)
    values = sinusoids(length, d_model, halves=kind == "sinusoidal-halves")
    return Matrix(f"{kind} positions", values.numpy(), "position", "dimension", -1, 1)


def _relative(length: int, buckets: int, distance: int, causal: bool) -> Matrix:
    _check("relative buckets", buckets, LONGEST, least=4)
    _check("relative distance", distance, 2**31, least=buckets)
    bias = RelativeBias(1, buckets=buckets, distance=distance, causal=causal)
    place = np.arange(length)
    offset = place[None, :] - place[:, None]
    numbers = bias.bucket(torch.from_numpy(offset)).numpy().astype(np.float32)
    return Matrix("relative positions: T5's bucket", numbers, "query", "key", 0, buckets - 1)


def _check(name: str, number: int, most: int, *, least: int = 1) -> None:
    if not least <= number <= most:
        raise NlpcliError(f"{name} {number} is not between {least} and {most}")
