"""Attention with quadratic relative scores against torch's convolutions."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nlpcli.attention.convolution import ConvolutionalAttention, QuadraticScores
from nlpcli.attention.hooks import recording
from nlpcli.attention.key_value_cache import Positions

ALPHAS = (1, 2, 5, 10, 20, 50)
KERNELS = ((1,), (3,), (5,), (1, 1), (3, 3), (1, 5), (5, 3))


def convolution(kernel: tuple[int, ...], channels: int, *, bias: bool = True) -> nn.Conv1d | nn.Conv2d:
    kind = nn.Conv1d if len(kernel) == 1 else nn.Conv2d
    return kind(channels, channels, kernel, padding="same", bias=bias).double()


def error(layer: nn.Module, x: torch.Tensor, alpha: float) -> float:
    with torch.no_grad():
        wanted = layer(x)
        return ((ConvolutionalAttention(layer, alpha)(x) - wanted).abs().max() / wanted.abs().max()).item()


@given(st.sampled_from(KERNELS), st.integers(1, 4), st.booleans(), st.integers(0, 100), st.data())
def test_sharp_heads_are_a_convolution(kernel, channels, bias, seed, data):
    torch.manual_seed(seed)
    size = [data.draw(st.integers(1, 6)) for _ in kernel]
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    assert error(convolution(kernel, channels, bias=bias), x, 50) < 1e-4


@pytest.mark.parametrize("kernel", [(3,), (5,), (3, 3), (3, 5)])
def test_the_error_falls_with_alpha(kernel):
    torch.manual_seed(0)
    layer = convolution(kernel, 4)
    x = torch.randn(1, 4, *[7] * len(kernel), dtype=torch.float64)
    errors = [error(layer, x, alpha) for alpha in ALPHAS]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert errors[0] > 0.1 and errors[-1] < 1e-4


def test_the_error_falls_as_the_weight_of_the_neighbors_does():
    """A head's four nearest neighbors have the weight exp(−α) of its own key each."""
    torch.manual_seed(0)
    layer = convolution((3, 3), 4)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    ratio = error(layer, x, 15) / error(layer, x, 10)
    assert ratio == pytest.approx(torch.tensor(-5.0).exp().item(), rel=0.02)


def test_each_head_attends_to_its_own_shift():
    torch.manual_seed(0)
    layer = ConvolutionalAttention(convolution((3, 3), 2), 50)
    with recording(layer.attention) as [recorder]:
        layer(torch.randn(1, 2, 4, 5, dtype=torch.float64))
    [weights] = recorder
    rows, columns = 6, 7  # with zeros around
    for head, (down, right) in enumerate(layer.shifts.long().tolist()):
        for row in range(1, rows - 1):
            for column in range(1, columns - 1):
                key = (row + down) * columns + column + right
                assert weights[0, head, row * columns + column, key] > 1 - 1e-12


def test_scores_are_those_of_the_paper_up_to_a_constant_of_each_head():
    """v · r_δ with v = −α (1, −2 Δ_1, −2 Δ_2) and r_δ = (|δ|², δ_1, δ_2)."""
    shifts, alpha, size = torch.tensor([[0.0, 0.0], [-1.0, 2.0]]), 1.5, (3, 4)
    scores = QuadraticScores(size, shifts, alpha).dense(12, 12)[0]
    places = [(row, column) for row in range(3) for column in range(4)]
    for head, (down, right) in enumerate(shifts.tolist()):
        for i, query in enumerate(places):
            for j, key in enumerate(places):
                way = (key[0] - query[0], key[1] - query[1])
                theirs = -alpha * (way[0] ** 2 + way[1] ** 2 - 2 * down * way[0] - 2 * right * way[1])
                assert scores[head, i, j].item() == pytest.approx(theirs - alpha * (down**2 + right**2), abs=1e-4)


def test_scores_of_some_positions_are_a_part_of_all():
    scores = QuadraticScores((9,), torch.tensor([[-1.0], [1.0]]), 2.0)
    whole = scores.dense(9, 9)
    assert torch.equal(scores.dense(4, 9), whole[:, :, 5:])
    assert torch.equal(scores.between(Positions(0, 3, 5), Positions(0, 0, 5)), whole[:, :, 3:5, :5])
