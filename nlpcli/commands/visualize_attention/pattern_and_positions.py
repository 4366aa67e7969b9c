"""Data for `--pattern` and `--positions`: attention masks of patterns, and matrices of position encodings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import Causal
from nlpcli.attention.relative import RelativePositions
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.layers.positions import LearnedPositions, LinearBias, RelativeBias, RotaryPositions, sinusoids
from nlpcli.runs.find_model import newest_model
from nlpcli.runs.open_model import open_model
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.position_matrices import Matrix

POSITIONS = {
    "sinusoidal": "alternating sines and cosines (Vaswani et al. 2017, section 3.5)",
    "sinusoidal-halves": "all sines, then all cosines (tensor2tensor, Marian, PEGASUS)",
    "rotary": "the cosine of the angle by which each pair of dimensions is rotated (Su et al. 2021)",
    "transformer-xl": "sines and cosines of the distance between query and key (Dai et al. 2019, section 3.3)",
    "relative": "T5's bucket for each distance between query and key (Raffel et al. 2020, section 2.1)",
    "alibi": "what ALiBi adds to the scores of the first of 8 heads (Press et al. 2022)",
}
LONGEST = 4096


def pattern_attention(text: str, length: int, *, causal: bool = False, seed: int = 0) -> Attention:
    """The keys that each query may attend to, in a text of `length` tokens: weights 1 and 0, one layer, one head, site
    "pattern".

    text: such as "window:4+global:1" (`nlpcli.attention.patterns`); causal: also hide later tokens;
    seed: of random parts without a seed of their own.
    Raises: NlpcliError for a text that is not a pattern and for a length out of range.
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

    kind: a name of `POSITIONS`, for "transformer-xl" of distances 0 … length - 1; d_model: the width, for rotary that
    of a head, whose pairs share an angle;
    buckets, distance, causal: of relative positions, as in a model's settings.
    Raises: NlpcliError for a kind that isn't there and for sizes out of range.
    """
    _check("length", length, LONGEST)
    if kind not in POSITIONS:
        raise unknown("positions", kind, [*POSITIONS, "learned"])
    if kind == "relative":
        return _relative(length, buckets, distance, causal)
    if kind == "alibi":
        return _alibi(length)
    _check("d-model", d_model, LONGEST)
    if d_model % 2:
        raise NlpcliError(f"{kind} positions need an even d_model, but it is {d_model}")
    if kind == "rotary":
        values = RotaryPositions(d_model, initial_length=length).table[0, :length]
        return Matrix("rotary positions: cosine of the angle", values.numpy(), "position", "pair of dimensions", -1, 1)
    if kind == "transformer-xl":
        values = RelativePositions(d_model)(length - 1, 0).flip(0)
        return Matrix("Transformer-XL: positions by distance", values.numpy(), "distance", "dimension", -1, 1)
    values = sinusoids(length, d_model, halves=kind == "sinusoidal-halves")
    return Matrix(f"{kind} positions", values.numpy(), "position", "dimension", -1, 1)


def learned_matrix(model: Path | None, length: int | None, *, notify: Callable[[str], None]) -> Matrix:
    """The vectors that a model has learned for its positions: (length, width).

    model: its folder; None: the newest run that has such vectors, which `notify` names. length: how many; None: all. An
    encoder-decoder with vectors on both sides gives those of the encoder.
    Raises: NlpcliError for a model without such vectors, and a length beyond its last one.
    """
    if model is None:
        found = newest_model(lambda info: info["model"].get("positions") == "learned")
        if found is None:
            raise NlpcliError(
                "no model is given, and no run in runs/ has learned positions", hint="name a model with --model"
            )
        model = found.report("the newest run with learned positions", notify)
    parts = open_model(model, needs_tokenizer=False).model.modules()
    table = next((part for part in parts if isinstance(part, LearnedPositions)), None)
    if table is None:
        raise NlpcliError(f"{model} has no learned positions", hint="'nlpcli inspect' names those that a model has")
    length = table.max_length if length is None else length
    _check("length", length, table.max_length)
    values = table(length).detach().float().numpy()
    largest = float(np.abs(values).max())
    return Matrix("learned positions", values, "position", "dimension", -largest, largest)


def _relative(length: int, buckets: int, distance: int, causal: bool) -> Matrix:
    _check("relative buckets", buckets, LONGEST, least=4)
    _check("relative distance", distance, 2**31, least=buckets)
    bias = RelativeBias(1, buckets=buckets, distance=distance, causal=causal)
    place = np.arange(length)
    offset = place[None, :] - place[:, None]
    numbers = bias.bucket(torch.from_numpy(offset)).numpy().astype(np.float32)
    return Matrix("relative positions: T5's bucket", numbers, "query", "key", 0, buckets - 1)


def _alibi(length: int) -> Matrix:
    values = LinearBias(8)(length, length)[0, 0].numpy()
    return Matrix("ALiBi: added to the scores of the first of 8 heads", values, "query", "key", float(values.min()), 0)


def _check(name: str, number: int, most: int, *, least: int = 1) -> None:
    if not least <= number <= most:
        raise NlpcliError(f"{name} {number} is not between {least} and {most}")
