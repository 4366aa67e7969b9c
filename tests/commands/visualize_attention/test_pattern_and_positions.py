"""Patterns and positions that are drawn without a model: against the masks and layers of the models themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nlpcli.attention.pattern_parser import parse
from nlpcli.commands.visualize_attention.pattern_and_positions import POSITIONS, pattern_attention, position_matrix
from nlpcli.errors import NlpcliError
from nlpcli.layers.positions import RelativeBias, RotaryPositions, sinusoids


@pytest.mark.parametrize("text", ["full", "causal", "window:4+global:1", "random:3", "causal & (blockwise:4+fixed:4)"])
def test_a_pattern_is_an_attention_of_ones_where_it_allows(text):
    attention = pattern_attention(text, 13, seed=5)
    site = attention.site("pattern")
    allowed = parse(text, seed=5).dense(13).numpy()
    assert site.title == str(parse(text, seed=5)) and (site.layers, site.heads, site.signed) == ((1,), (1,), False)
    assert site.weights[0].dtype == np.float32 and np.array_equal(site.weights[0][0], allowed)
    assert site.queries.tokens == site.keys.tokens == tuple(map(str, range(13)))
    assert attention.notes["allowed"] == f"{allowed.sum()} of 169 query-key pairs ({allowed.mean():.1%})"


@pytest.mark.parametrize("text", ["causal", "full", "window:3+global:1", "causal & window:3"])
def test_a_causal_pattern_hides_what_comes_later(text):
    weights = pattern_attention(text, 9, causal=True).site("pattern").weights[0][0]
    assert np.array_equal(weights, (parse(text).dense(9) & torch.ones(9, 9, dtype=bool).tril()).numpy())


def test_sinusoids_are_those_of_the_models():
    matrix = position_matrix("sinusoidal", 20, 16)
    assert np.array_equal(matrix.values, sinusoids(20, 16).numpy()) and (matrix.low, matrix.high) == (-1, 1)
    halves = position_matrix("sinusoidal-halves", 20, 16).values
    assert np.array_equal(halves, np.concatenate((matrix.values[:, ::2], matrix.values[:, 1::2]), axis=1))


def test_rotary_positions_are_the_cosines_that_turn_a_query():
    matrix = position_matrix("rotary", 300, 8)
    first = torch.cat((torch.ones(4), torch.zeros(4))).expand(1, 1, 300, 8)
    turned = RotaryPositions(8)(first)[0, 0]
    assert np.allclose(matrix.values, turned[:, :4].numpy(), atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_relative_positions_are_the_buckets_that_t5_adds_its_biases_by(causal):
    matrix = position_matrix("relative", 40, buckets=8, distance=20, causal=causal)
    layer = RelativeBias(1, buckets=8, distance=20, causal=causal)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(8.0)[:, None])
        assert np.array_equal(matrix.values, layer(40, 40)[0, 0].numpy())
    assert (matrix.low, matrix.high, matrix.rows, matrix.columns) == (0, 7, "query", "key")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: pattern_attention("windw:3", 8), "unknown pattern 'windw'"),
        (lambda: pattern_attention("full", 0), "length 0"),
        (lambda: pattern_attention("full", 10**9), "length 1000000000"),
        (lambda: position_matrix("sinusodal", 8), "unknown positions 'sinusodal'"),
        (lambda: position_matrix("rotary", 8, 7), "even d_model"),
        (lambda: position_matrix("sinusoidal", 8, 0), "d-model 0"),
        (lambda: position_matrix("sinusoidal", 0), "length 0"),
        (lambda: position_matrix("relative", 8, buckets=2), "relative buckets 2"),
        (lambda: position_matrix("relative", 8, buckets=32, distance=3), "relative distance 3"),
    ],
)
def test_mistakes_are_named(call, named):
    with pytest.raises(NlpcliError) as caught:
        call()
    assert named in caught.value.message


@pytest.mark.parametrize("kind", POSITIONS)
def test_every_kind_of_positions_can_be_drawn(kind):
    matrix = position_matrix(kind, 6, 8)
    assert matrix.values.shape[0] == 6 and np.isfinite(matrix.values).all()
    assert matrix.low <= matrix.values.min() and matrix.values.max() <= matrix.high


def test_transformer_xl_is_drawn_by_the_sines_and_cosines_of_distances():
    matrix = position_matrix("transformer-xl", 30, 16)
    rates = 10000.0 ** (-np.arange(0, 16, 2) / 16)
    angles = np.arange(30)[:, None] * rates
    assert np.allclose(matrix.values, np.concatenate((np.sin(angles), np.cos(angles)), axis=1), atol=1e-6)
    assert (matrix.rows, matrix.columns) == ("distance", "dimension")


def test_alibi_is_drawn_by_the_slope_of_the_first_of_eight_heads():
    matrix = position_matrix("alibi", 5)
    assert matrix.values[4].tolist() == [-2, -1.5, -1, -0.5, 0] and matrix.values[0, 2] == -1
    assert not matrix.signed and position_matrix("sinusoidal", 5).signed  # white means 0 where both signs occur
