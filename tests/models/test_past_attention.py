"""Attention to past states: against loops in float64, at any length, with gradients, and with a window of 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nlpcli.attention.hooks import recording
from nlpcli.models.past_attention import PastAttention

SCORES = ["dot", "scaled-dot", "general", "additive", "concat", "cosine", "gaussian"]
ROWS, D = 2, 6


def made(score, past_states):
    """Its output is the weighted mean itself."""
    torch.manual_seed(3)
    attention = PastAttention(D, past_states, score=score).double()
    nn.init.eye_(attention.readout)
    return attention


def states(n, seed=1):
    return torch.randn(ROWS, n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(attention, held, n):
    """h~_t for the last n of the states (rows, m, d), one after the other, and the weights (rows, n, m)."""
    m, found, weights = held.size(1), [], torch.zeros(ROWS, n, held.size(1), dtype=held.dtype)
    for row in range(ROWS):
        for place in range(m - n, m):
            near = range(max(0, place - attention.past_states), place + 1)
            scores = [
                attention.score(
                    held[None, row : row + 1, place : place + 1], held[None, row : row + 1, key : key + 1]
                ).item()
                for key in near
            ]
            exps = [math.exp(score - max(scores)) for score in scores]
            for key, value in zip(near, exps, strict=True):
                weights[row, place - m + n, key] = value / sum(exps)
        found.append(weights[row] @ held[row])
    return torch.stack(found), weights


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("n", "m", "past_states"), [(1, 1, 3), (5, 5, 3), (4, 9, 3), (1, 4, 3), (40, 45, 5), (3, 4, 9)]
)
def test_each_state_becomes_the_weighted_mean_of_those_of_its_window(score, n, m, past_states):
    attention, held = made(score, past_states), states(m)
    found = attention(held[:, m - n :], held[:, : m - n] if m > n else None)
    with recording(attention) as [recorder]:
        again = attention(held[:, m - n :], held[:, : m - n] if m > n else None)
    wanted, weights = by_hand(attention, held, n)
    assert torch.allclose(found, wanted, atol=1e-12) and torch.allclose(again, wanted, atol=1e-12)
    assert recorder[0].shape == (ROWS, 1, n, m) and torch.allclose(recorder[0][:, 0], weights, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_a_window_of_0_leaves_the_states_as_they_are_to_the_bit(score):
    attention, x = made(score, 0).float(), states(7).float()
    nn.init.normal_(attention.readout)
    assert torch.equal(attention(x, None), x)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("length", [11, 300])
def test_any_cut_of_a_text_gives_what_the_whole_gives(score, length):
    attention, x = made(score, 4), states(length)
    whole, parts, past, start = attention(x, None), [], None, 0
    for stop in (1, 2, 5, 9, length):
        part = x[:, start:stop]
        parts.append(attention(part, past))
        past, start = attention.remembered(part, past), stop
        assert past.size(1) == min(stop, 4)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-12)


@pytest.mark.parametrize("score", ["general", "additive"])
def test_gradients_are_those_of_finite_differences(score):
    attention, x = made(score, 2), states(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention(x[:, 2:], x[:, :2]), (x,))
    with recording(attention, gradients=True) as [recorder]:
        [slope] = torch.autograd.grad(attention(x, None).square().sum(), recorder[0])
    assert bool(slope.any())


def test_a_state_that_leaves_the_window_has_no_part_in_what_follows():
    attention, x = made("general", 3), states(8).requires_grad_()
    [slope] = torch.autograd.grad(attention(x, None)[:, 6].sum(), x)
    assert (slope.abs().sum((0, 2)) > 0).tolist() == [False, False, False, True, True, True, True, False]


def test_the_output_is_the_state_and_a_matrix_times_what_attention_adds_to_it():
    attention, x = made("general", 3), states(8)
    mean = attention(x, None)
    nn.init.zeros_(attention.readout)
    assert torch.equal(attention(x, None), x) and not PastAttention(D, 3, score="general").readout.any()
    nn.init.normal_(attention.readout)
    assert torch.allclose(attention(x, None), x + (mean - x) @ attention.readout.T, atol=1e-12)
