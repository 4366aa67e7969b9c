from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.layers.positions import (
    LearnedPositions,
    LinearBias,
    Rotary,
    RotaryPositions,
    SinusoidalPositions,
    sinusoids,
    slopes,
)
from nlpcli.layers.rope_scaling import RopeScaling


@given(position=st.integers(0, 5000), i=st.integers(0, 31))
def test_sinusoids_are_the_papers_formula(position, i):
    row = sinusoids(1, 64, start=position)[0]
    angle = position / 10000 ** (2 * i / 64)
    assert float(row[2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
    assert float(row[2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_sinusoid_k_positions_on_is_a_rotation_that_depends_on_k_alone():
    table = sinusoids(60, 16).double()
    pairs = torch.complex(table[:, 1::2], table[:, 0::2])  # e^(i · angle)
    for k in (1, 7, 30):
        turn = pairs[k:] / pairs[:-k]
        assert torch.allclose(turn, turn[:1].expand_as(turn), atol=1e-5)


@pytest.mark.parametrize(("length", "start"), [(5, 0), (5, 250), (300, 0), (1, 256), (40, 1000)])
def test_the_table_grows_with_the_sequence_and_keeps_its_values(length, start):
    positions = SinusoidalPositions(8)
    assert torch.equal(positions(length, start), sinusoids(length, 8, start=start))
    assert torch.equal(positions(3), sinusoids(3, 8))
    assert positions.state_dict() == {}


def test_learned_positions_are_rows_after_the_offset_and_end_with_the_table():
    positions = LearnedPositions(6, 4, offset=2)
    torch.nn.init.normal_(positions.weight)
    assert torch.equal(positions(3, 1), positions.weight[3:6])
    assert torch.equal(positions(6), positions.weight[2:])
    with pytest.raises(ValueError, match="7 tokens is longer than the 6 positions"):
        positions(3, 4)


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(1)
    rotary = RotaryPositions(16).double()
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    for i, j in [(0, 0), (3, 1), (5, 9), (40, 12), (600, 590)]:
        score = (rotary(query, i) * rotary(key, j)).sum()
        for shift in (1, 17, 300):
            shifted = (rotary(query, i + shift) * rotary(key, j + shift)).sum()
            assert float(shifted) == pytest.approx(float(score), abs=2e-6)
    assert float((rotary(query, 3) * rotary(key, 1)).sum()) != pytest.approx(float((query * key).sum()), abs=1e-3)


@given(position=st.integers(0, 700), i=st.integers(0, 3))
def test_rotary_turns_each_pair_by_its_angle(position, i):
    x = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    x[..., i], x[..., i + 4] = 2.0, 3.0
    y = RotaryPositions(8).double()(x, position)[0, 0, 0]
    angle = position / 10000 ** (2 * i / 8)
    assert float(y[i]) == pytest.approx(2 * math.cos(angle) - 3 * math.sin(angle), abs=1e-6)
    assert float(y[i + 4]) == pytest.approx(3 * math.cos(angle) + 2 * math.sin(angle), abs=1e-6)
    assert float(y.abs().sum()) == pytest.approx(float(y[[i, i + 4]].abs().sum()))


def test_rotary_leaves_position_zero_and_all_lengths_as_they_are():
    x = torch.randn(2, 3, 50, 8)
    y = RotaryPositions(8)(x)
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)


@pytest.mark.parametrize("kind", [RotaryPositions, SinusoidalPositions])
def test_a_table_that_grew_while_translating_still_serves_training(kind):
    positions = kind(8)
    trained = torch.nn.Parameter(torch.randn(1, 1, 300, 8))

    def read(x):
        return positions(x) if kind is RotaryPositions else x * positions(300)

    with torch.inference_mode():
        read(trained)
    read(trained).sum().backward()
    assert trained.grad is not None


def test_a_share_of_each_head_is_turned_as_a_head_of_its_width_and_the_rest_is_kept():
    x = torch.randn(2, 3, 20, 12)
    found = RotaryPositions(12, Rotary(theta=50.0, share=0.5))(x, 7)
    assert torch.equal(found[..., 6:], x[..., 6:])
    assert torch.equal(found[..., :6], RotaryPositions(6, Rotary(theta=50.0))(x[..., :6], 7))


def test_linear_scaling_puts_positions_nearer_together():
    x = torch.randn(1, 1, 1, 8)
    scaled = RotaryPositions(8, Rotary(scaling=RopeScaling("linear", 4.0)))
    assert torch.allclose(scaled(x, 40), RotaryPositions(8)(x, 10), atol=1e-6)


@pytest.mark.parametrize("method", ["llama3", "yarn"])
def test_fast_pairs_are_kept_and_slow_ones_divided(method):
    scaling = RopeScaling(method, 8.0, 1024)
    rates = 10000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    found = scaling.rates(rates, 10000.0, 0)
    assert torch.allclose(found[:5], rates[:5]) and torch.allclose(found[-5:], rates[-5:] / 8)
    assert bool((found.diff() < 0).all()) and bool((found <= rates).all()) and bool((found >= rates / 8).all())
    assert scaling.factor_of_scores() == (1.0 if method == "llama3" else pytest.approx(0.1 * math.log(8) + 1))


def test_dynamic_scaling_leaves_texts_alone_that_are_as_long_as_those_in_training():
    plain = RotaryPositions(8)
    dynamic = RotaryPositions(8, Rotary(scaling=RopeScaling("dynamic", 2.0), max_length=16))
    x = torch.randn(1, 2, 20, 8)
    assert torch.equal(dynamic(x[:, :, :16]), plain(x[:, :, :16]))
    longer = dynamic(x)
    assert not torch.allclose(longer, plain(x)) and torch.equal(longer[:, :, 0], x[:, :, 0])
    assert torch.equal(dynamic(x[:, :, :16]), plain(x[:, :, :16]))  # nothing is left of the longer text


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_the_slopes_of_alibi_are_those_of_bloom(heads):
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(
        torch.ones(1, 7, dtype=torch.long), heads, torch.float32
    )  # (heads, 1, 7): slope · key
    assert torch.allclose(torch.tensor(slopes(heads)) * 6, theirs[:, 0, 6])
    if heads & (heads - 1) == 0:
        assert slopes(heads) == [2.0 ** (-8 * (head + 1) / heads) for head in range(heads)]


@given(n=st.integers(1, 9), before=st.integers(0, 9))
def test_alibi_falls_with_the_distance_wherever_a_text_is_cut(n, before):
    bias, m = LinearBias(4), n + before
    whole, place = bias(m, m), torch.arange(m)
    assert torch.equal(whole[0], -torch.tensor(slopes(4))[:, None, None] * (place[:, None] - place).abs())
    assert torch.equal(bias(n, m, before), whole[:, :, before:])
    assert not list(bias.parameters()) and bias.state_dict() == {}
