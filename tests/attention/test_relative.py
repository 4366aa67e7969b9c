"""Relative attention against the four terms of its paper, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.hooks import Recorder
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Causal
from nlpcli.attention.relative import RelativeAttention, RelativePositions, relative_gather, relative_shift
from nlpcli.errors import NlpcliError

D_MODEL, HEADS, D_KEY = 12, 3, 5


def sinusoid(distance, width=D_MODEL):
    angles = [distance / 10000 ** (2 * i / width) for i in range(width // 2)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)


def attention(*, segments=False, seed=1):
    torch.manual_seed(seed)
    module = RelativeAttention(D_MODEL, HEADS, d_key=D_KEY, segments=segments).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module


def by_hand(module, x, context, seen, segments=None):
    """The paper's equation for every pair of a query and a key it may see: (batch, n, d_model)."""
    batch, n, m = x.size(0), x.size(1), context.size(1)
    weights = {name: p.view(HEADS, D_KEY, D_MODEL) for name, p in [
        (name, getattr(module, name).weight) for name in ("query", "key", "value", "position")
    ]}  # fmt: skip
    out = torch.zeros(batch, n, HEADS * D_KEY, dtype=torch.float64)
    for b in range(batch):
        for h in range(HEADS):
            q = x[b] @ weights["query"][h].T
            for i in range(n):
                scores, values = [], []
                for j in range(m):
                    if not seen(b, i, j):
                        continue
                    k = weights["key"][h] @ context[b, j]
                    r = weights["position"][h] @ sinusoid(m - n + i - j)
                    score = q[i] @ k + module.content_bias[h] @ k + q[i] @ r + module.position_bias[h] @ r
                    if segments is not None:
                        other = int(segments[b, m - n + i] != segments[b, j])
                        score = score + (q[i] + module.segment_bias[h]) @ module.segment_keys[other, h]
                    scores.append(score / math.sqrt(D_KEY))
                    values.append(weights["value"][h] @ context[b, j])
                if scores:
                    share = torch.stack(scores).softmax(0)
                    out[b, i, h * D_KEY : (h + 1) * D_KEY] = share @ torch.stack(values)
    return out @ module.output.weight.T


def inputs(n, m, seed=0):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(2, m, D_MODEL, generator=generator, dtype=torch.float64)
    return context[:, m - n :], context


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (3, 8), (1, 6)])
@torch.no_grad()
def test_causal_attention_after_a_memory_is_the_papers_four_terms(n, m):
    module, (x, context) = attention(), inputs(n, m)
    positions = RelativePositions(D_MODEL).double()(m - 1, -1)
    found = module(x, module.project_memory(context), positions, AttentionMask(Causal()))
    wanted = by_hand(module, x, context, lambda b, i, j: j <= m - n + i)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (3, 7)])
@torch.no_grad()
def test_attention_both_ways_with_segments_and_a_mask_is_the_equation_too(n, m):
    module, (x, context) = attention(segments=True), inputs(n, m)
    generator = torch.Generator().manual_seed(3)
    segments = torch.randint(0, 2, (2, m), generator=generator)
    attention_mask = torch.rand(2, 1, n, m, generator=generator) < 0.6
    attention_mask[0, 0, 0] = False  # sees nothing: gives nothing
    positions = RelativePositions(D_MODEL).double()(m - 1, -n)
    other = (segments[:, m - n :, None] != segments[:, None])[:, None]
    keys = module.project_memory(context)
    found = module(x, keys, positions, AttentionMask(permutation=attention_mask[:, 0]), other_segment=other)
    wanted = by_hand(module, x, context, lambda b, i, j: bool(attention_mask[b, 0, i, j]), segments)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert not found[0, 0].any()
    places = torch.stack([torch.randperm(n, generator=generator)[: max(n - 1, 1)] for _ in range(2)])
    rows = places[:, None, :, None]
    some = module(
        x.gather(1, places[:, :, None].expand(-1, -1, D_MODEL)), keys, positions,
        AttentionMask(permutation=attention_mask.take_along_dim(rows, 2)[:, 0]),
        other_segment=other.take_along_dim(rows, 2), places=places,
    )  # fmt: skip
    assert torch.allclose(some, wanted.take_along_dim(places[:, :, None], 1), atol=1e-6)


@given(n=st.integers(1, 6), memory=st.integers(0, 6), both=st.booleans())
def test_the_relative_shift_is_a_gather_by_distance(n, memory, both):
    m = n + memory
    columns = m + n if both else m + 1
    x = torch.randn(2, 3, n, columns, dtype=torch.float64)
    shifted = relative_shift(x, m)
    assert shifted.shape == (2, 3, n, m)
    for i in range(n):
        for j in range(m if both else memory + i + 1):
            distance = memory + i - j
            assert torch.equal(shifted[:, :, i, j], x[:, :, i, m - 1 - distance])
    if both:
        places = torch.tensor([list(range(n))[::-1], list(range(n))])
        assert torch.equal(relative_gather(x, places, n, m)[1], relative_shift(x, m)[1])


@given(first=st.integers(0, 40), span=st.integers(1, 60), clamp=st.integers(0, 10))
def test_distances_are_sinusoids_and_end_at_the_clamp(first, span, clamp):
    last = first - span
    rows = RelativePositions(8, clamp=clamp)(first, last)
    assert rows.shape == (span + 1, 8)
    for row, distance in zip(rows, range(first, last - 1, -1), strict=True):
        seen = max(-clamp, min(clamp, distance)) if clamp else distance
        assert torch.allclose(row.double(), sinusoid(seen, 8), atol=1e-6)


def test_an_odd_width_has_no_sinusoids():
    with pytest.raises(NlpcliError, match="even d_model"):
        RelativePositions(7)


@torch.no_grad()
def test_recorded_weights_are_those_applied():
    module, (x, context) = attention(), inputs(3, 5)
    module.recorder = Recorder()
    positions = RelativePositions(D_MODEL).double()(4, -1)
    keys = module.project_memory(context)
    out = module(x, keys, positions, AttentionMask(Causal()))
    [weights] = module.recorder
    assert torch.allclose(weights.sum(-1), torch.ones(2, HEADS, 3, dtype=torch.float64))
    assert torch.allclose(module.output((weights @ keys.value).transpose(1, 2).flatten(2)), out)
