"""Attention with one learned query: equal to a loop, blind to padding, recorded as any attention."""

from __future__ import annotations

import math

import pytest
import torch

from nlpcli.attention.attention_pooling import AttentionPooling
from nlpcli.attention.hooks import recording

ROWS, LENGTH, WIDTH, HIDDEN = 3, 6, 5, 4
LENGTHS = torch.tensor([6, 1, 4])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]


@pytest.fixture
def pooling():
    torch.manual_seed(1)
    return AttentionPooling(WIDTH, HIDDEN).double()


def states(seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, LENGTH, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()


def by_a_loop(pooling, row):
    """The vector and the weights of one row of states without padding."""
    pooling = pooling.requires_grad_(False)
    row, scores = row.detach(), []
    for state in row:
        hidden = [
            math.tanh(sum(float(w) * float(x) for w, x in zip(weights, state, strict=True)) + float(bias))
            for weights, bias in zip(pooling.project.weight, pooling.project.bias, strict=True)
        ]
        scores.append(sum(float(u) * h for u, h in zip(pooling.query.weight[0], hidden, strict=True)))
    total = sum(math.exp(score) for score in scores)
    weights = [math.exp(score) / total for score in scores]
    vector = [sum(a * float(state[i]) for a, state in zip(weights, row, strict=True)) for i in range(WIDTH)]
    return vector, weights


def test_it_is_the_papers_sum_worked_out_by_a_loop(pooling):
    x = states()
    with recording(pooling) as [recorder]:
        vectors = pooling(x, MASK)
    [weights] = recorder
    assert weights.shape == (ROWS, 1, 1, LENGTH)
    for row, length in enumerate(LENGTHS.tolist()):
        vector, expected = by_a_loop(pooling, x[row, :length])
        assert torch.allclose(vectors[row], torch.tensor(vector, dtype=torch.float64), atol=1e-6)
        assert torch.allclose(weights[row, 0, 0, :length], torch.tensor(expected, dtype=torch.float64), atol=1e-6)
        assert not weights[row, 0, 0, length:].any()


def test_padding_changes_no_vector_and_no_gradient(pooling):
    x = states()
    vectors = pooling(x, MASK)
    [slope] = torch.autograd.grad(vectors.square().sum(), [x])
    assert not slope[~MASK].any()
    changed = torch.where(MASK[..., None], x, 1e3)
    assert torch.equal(pooling(changed, MASK), vectors)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(pooling(x[row : row + 1, :length])[0], vectors[row], atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_row_without_states_gives_zeros_and_finite_gradients(pooling, kind):
    pooling = pooling.to(kind)
    x = states().detach().to(kind).requires_grad_()
    vectors = pooling(x, torch.tensor([True, False, True])[:, None] & MASK)
    assert vectors.dtype == kind and not vectors[1].any() and vectors[0].any()
    gradients = torch.autograd.grad(vectors.float().square().sum(), [x, *pooling.parameters()])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_the_vector_has_a_derivative_by_recorded_weights(pooling):
    x = states()
    with recording(pooling, gradients=True) as [recorder]:
        vectors = pooling(x, MASK)
    [slope] = torch.autograd.grad(vectors[:, 0].sum(), list(recorder))
    assert torch.allclose(slope[:, 0, 0], x[:, :, 0])
    assert torch.allclose(vectors, pooling(x, MASK), atol=1e-12)
