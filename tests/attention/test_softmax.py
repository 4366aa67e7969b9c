"""The fused kernel against the equation, for every way of saying who may look at whom."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention import masks
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.softmax import SoftmaxAttention, causal_mask, softmax_attention, softmax_weights


def explicit(query, key, value, *, attention_mask=None, causal=False, bias=None, scale=None):
    """Context and weights by the equation, in float64: exp(s) over the visible keys, divided by its sum or by one."""
    query, key, value = query.double(), key.double(), value.double()
    n, m = query.size(2), key.size(2)
    scores = query @ key.transpose(2, 3) * (scale if scale is not None else 1 / math.sqrt(query.size(3)))
    if bias is not None:
        scores = scores + bias.double()
    visible = torch.ones_like(scores, dtype=torch.bool)
    if attention_mask is not None:
        visible = visible & attention_mask
    if causal:
        visible = visible & (torch.arange(m) <= torch.arange(n)[:, None] + m - n)
    powers = (scores - scores.detach().amax(3, keepdim=True)).exp() * visible
    weights = powers / powers.sum(3, keepdim=True).clamp(min=1e-300)
    return weights @ value, weights


ROUNDED = 64 * 2**-23
"""How far two ways to numbers of order 1 may part in float32, each of which rounds some ten times, on any processor."""


def tensors(batch=2, heads=3, n=5, m=5, d_key=4, d_value=4, kind=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, heads, n, d_key), (batch, heads, m, d_key), (batch, heads, m, d_value))
    return [torch.randn(shape, generator=generator).to(kind).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (5, 5), (3, 8), (8, 3)])
@pytest.mark.parametrize(("causal", "masked", "biased"), list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("d_value", [4, 6])
def test_it_is_the_equation_in_value_and_gradient(n, m, causal, masked, biased, d_value):
    query, key, value = tensors(n=n, m=m, d_value=d_value)
    generator = torch.Generator().manual_seed(9)
    attention_mask = torch.rand(2, 1, n, m, generator=generator) < 0.6 if masked else None
    bias = torch.randn(3, n, m, generator=generator).requires_grad_() if biased else None
    context = softmax_attention(query, key, value, attention_mask=attention_mask, causal=causal, bias=bias, scale=0.7)
    expected, _ = explicit(query, key, value, attention_mask=attention_mask, causal=causal, bias=bias, scale=0.7)
    assert torch.allclose(context.double(), expected, atol=ROUNDED)
    leaves = [query, key, value] + ([bias] if biased else [])
    direction = torch.randn(context.shape, generator=generator)
    ours = torch.autograd.grad((context * direction).sum(), leaves)
    theirs = torch.autograd.grad((expected * direction).sum(), leaves)
    for mine, right in zip(ours, theirs, strict=True):
        assert bool(mine.isfinite().all())
        assert torch.allclose(mine, right, atol=4 * ROUNDED)  # terms of order 4 may cancel


@pytest.mark.parametrize(
    "attention_mask", [torch.zeros(2, 1, 1, 5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)]
)
@pytest.mark.parametrize("biased", [False, True])
def test_a_query_that_may_see_nothing_gives_zeros_and_finite_gradients(attention_mask, biased):
    leaves = tensors()
    bias = torch.randn(3, 5, 5) if biased else None
    context = softmax_attention(*leaves, attention_mask=attention_mask, bias=bias)
    assert torch.equal(context, torch.zeros_like(context))
    context.sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in leaves)
    weights = softmax_weights(*leaves[:2], attention_mask=attention_mask, bias=bias)
    assert torch.equal(weights, torch.zeros_like(weights))


def test_among_several_queries_only_the_one_that_sees_nothing_gives_zeros():
    query, key, value = tensors(n=6, m=4)
    context = softmax_attention(query, key, value, causal=True)  # queries 0 and 1 stand before the first key
    assert torch.equal(context[:, :, :2], torch.zeros(2, 3, 2, 4))
    assert torch.allclose(context[:, :, 2], value[:, :, 0], atol=ROUNDED)
    context.sum().backward()
    assert bool(query.grad.isfinite().all())
    assert torch.equal(query.grad[:, :, :2], torch.zeros(2, 3, 2, 4))


@given(n=st.integers(1, 7), m=st.integers(1, 7))
def test_the_last_query_of_a_causal_mask_sees_every_key_and_each_earlier_one_a_key_less(n, m):
    mask = causal_mask(n, m)
    assert mask.sum(1).tolist() == [max(0, m - (n - 1 - i)) for i in range(n)]
    assert torch.equal(mask, mask.sort(1, descending=True).values)


@given(n=st.integers(1, 6), m=st.integers(1, 6), causal=st.booleans(), masked=st.booleans(), seed=st.integers(0, 1000))
def test_weights_sum_to_one_where_anything_is_seen_and_times_the_values_are_the_context(n, m, causal, masked, seed):
    query, key, value = tensors(n=n, m=m, d_value=3, seed=seed)
    attention_mask = torch.rand(2, 1, 1, m, generator=torch.Generator().manual_seed(seed)) < 0.5 if masked else None
    weights = softmax_weights(query, key, attention_mask=attention_mask, causal=causal)
    _, expected = explicit(query, key, value, attention_mask=attention_mask, causal=causal)
    assert torch.allclose(weights.double(), expected, atol=ROUNDED)
    assert torch.allclose(weights.sum(3), (expected.sum(3) > 0).float(), atol=ROUNDED)
    context = softmax_attention(query, key, value, attention_mask=attention_mask, causal=causal)
    assert torch.allclose(weights @ value, context, atol=ROUNDED)


def test_double_precision_stays_double_in_training():
    query, key, value = tensors(kind=torch.float64)
    context = softmax_attention(query, key, value, causal=True)
    expected, _ = explicit(query, key, value, causal=True)
    assert torch.allclose(context, expected, rtol=1e-12, atol=1e-14)
    ours, theirs = (torch.autograd.grad(item.square().sum(), (query, key, value)) for item in (context, expected))
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-13) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("learning", [True, False])
def test_half_precision_stays_near_and_keeps_its_kind(learning):
    leaves = [leaf.detach().requires_grad_(learning) for leaf in tensors(kind=torch.bfloat16)]
    context = softmax_attention(*leaves, causal=True)
    assert context.dtype == torch.bfloat16
    assert torch.allclose(context.double(), explicit(*leaves, causal=True)[0], atol=0.03)


def test_dropout_leaves_the_mean_and_is_off_unless_requested():
    torch.manual_seed(1)
    query, key, value = tensors(batch=400, n=8, m=8)
    plain = softmax_attention(query, key, value)
    dropped = softmax_attention(query, key, value, dropout=0.3)
    assert not torch.allclose(plain, dropped, atol=1e-2)
    assert (
        abs(float((dropped - plain).mean().detach()))
        < 5 * float((dropped - plain).std().detach()) / plain.numel() ** 0.5
    )
    assert torch.equal(plain, softmax_attention(query, key, value, dropout=0.0))


def test_a_padded_batch_whose_pattern_depends_on_the_lengths_has_no_matrix_of_all_pairs(monkeypatch):
    pattern, lengths, n = parse("bigbird:16:1"), [1500, 700, 700, 300, 5, 0], 1500
    keys = torch.arange(n) < torch.tensor(lengths)[:, None]
    keys[1, 3] = False  # a hole, which no batch of ours has
    generator = torch.Generator().manual_seed(4)
    query, key, value = (
        torch.randn(6, heads, n, 8, generator=generator, dtype=torch.float64).requires_grad_() for heads in (2, 1, 1)
    )
    expected = softmax_attention(query, key, value, attention_mask=AttentionMask(pattern, keys).dense(n, n))
    ours = (query, key, value)
    sizes = []
    dense = masks.dense_pattern
    monkeypatch.setattr(masks, "dense_pattern", lambda *given: sizes.append(given[1] * given[2]) or dense(*given))
    found = SoftmaxAttention().forward(*ours, AttentionMask(pattern, keys))
    assert max(sizes, default=0) <= 300**2
    assert torch.allclose(found, expected, atol=1e-8) and not found[5].any()
    for mine, right in zip(*(torch.autograd.grad(x.square().sum(), ours) for x in (found, expected)), strict=True):
        assert torch.allclose(mine, right, atol=1e-6)
