"""What is recorded of attention: the very weights the fast path applies, whatever hides or moves its keys."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.hooks import Recorder, StepRecording, apart, recorded, recording
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.patterns import Causal, Full
from nlpcli.attention.relative import RelativeAttention, RelativePositions
from nlpcli.attention.softmax import softmax_attention, softmax_weights

D_MODEL, HEADS = 12, 3

calls = st.fixed_dictionaries(
    {
        "n": st.integers(1, 6),
        "before": st.integers(0, 4),
        "causal": st.booleans(),
        "masked": st.booleans(),
        "biased": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)


def scattered(layer, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return layer.eval()


class Bias:
    """What is added to the scores, whatever the positions."""

    def __init__(self, scores):
        self.scores = scores

    def dense(self, n, m):
        return self.scores


def both_ways(layer, call):
    """What a call gives without a recorder, with one, and with one that wants gradients; and their weights."""
    outputs, weights = [call()], []
    for gradients in (False, True):
        layer.recorder = Recorder(gradients=gradients)
        outputs.append(call())
        [recorded] = layer.recorder
        weights.append(recorded)
        layer.recorder = None
    return outputs, weights


def check(layer, outputs, weights, value):
    """Rows sum to one or nothing, and weights times values, merged and projected, are the output."""
    silent, beside, through = outputs
    assert torch.equal(silent, beside)
    rounded = 64 * 2**-23 * max(1.0, float(silent.detach().abs().max()))  # tens of float32 roundings, on any processor
    assert torch.allclose(silent, through, rtol=0, atol=rounded)
    assert not weights[0].requires_grad
    for seen in weights:
        sums = seen.sum(-1)
        assert bool((((sums - 1).abs() < 1e-5) | (sums == 0)).all())
        context = seen @ value.repeat_interleave(seen.size(0) // value.size(0), dim=0)
        again = layer.output(context.transpose(1, 2).flatten(2))
        assert torch.allclose(again, silent, rtol=0, atol=rounded)


@given(
    call=calls,
    width=st.sampled_from([1, 1, 3]),
    rotary=st.booleans(),
    qk_norm=st.booleans(),
    scale=st.booleans(),
    d_value=st.sampled_from([4, 7]),
)
def test_recorded_weights_give_the_output_of_multi_head_attention(call, width, rotary, qk_norm, scale, d_value):
    settings = AttentionSettings(
        HEADS, d_key=4, d_value=d_value, qk_norm=qk_norm, score="scaled-dot" if scale else "dot"
    )
    layer = MultiHeadAttention(D_MODEL, settings, rotary=rotary)
    scattered(layer, call["seed"])
    generator = torch.Generator().manual_seed(call["seed"])
    n, m = call["n"], call["n"] + call["before"]
    keys = torch.randn(2, m, D_MODEL, generator=generator)
    x = torch.randn(2 * width, n, D_MODEL, generator=generator)
    memory = layer.project_memory(keys)
    masks = (2, 1, 1, m) if width > 1 else (2, 1, n, m)
    hidden = torch.rand(masks, generator=generator) < 0.6 if call["masked"] else None
    mask = AttentionMask(
        Causal() if call["causal"] and width == 1 else Full(),
        keys=None if hidden is None or width == 1 else hidden[:, 0, 0],
        permutation=None if hidden is None or width > 1 else hidden[:, 0],
    )
    bias = Bias(torch.randn(HEADS, n, m, generator=generator)) if call["biased"] and width == 1 else None
    outputs, weights = both_ways(layer, lambda: layer(x, mask, memory=memory, width=width, bias=bias))
    check(layer, outputs, weights, memory.value)
    assert weights[0].shape == (2 * width, HEADS, n, m)


@given(call=calls, segments=st.booleans(), places=st.booleans())
def test_recorded_weights_give_the_output_of_relative_attention(call, segments, places):
    layer = scattered(RelativeAttention(D_MODEL, HEADS, d_key=5, segments=segments), call["seed"])
    generator = torch.Generator().manual_seed(call["seed"])
    n, m = call["n"], call["n"] + call["before"]
    keys = torch.randn(2, m, D_MODEL, generator=generator)
    memory = layer.project_memory(keys)
    causal = call["causal"] and not places
    positions = RelativePositions(D_MODEL)(m - 1, -1 if causal else -n)
    attention_mask = torch.rand(2, n, m, generator=generator) < 0.6 if call["masked"] else None
    other = torch.rand(2, 1, n, m, generator=generator) < 0.5 if segments else None
    x, chosen = keys[:, m - n :], None
    if places:
        chosen = torch.stack([torch.randperm(n, generator=generator)[: max(n - 1, 1)] for _ in range(2)])
        rows = chosen[:, None, :, None]
        x = x.gather(1, chosen[:, :, None].expand(-1, -1, D_MODEL))
        attention_mask = None if attention_mask is None else attention_mask.take_along_dim(rows[:, 0], 1)
        other = None if other is None else other.take_along_dim(rows, 2)
    mask = AttentionMask(Causal() if causal else Full(), permutation=attention_mask)
    outputs, weights = both_ways(layer, lambda: layer(x, memory, positions, mask, other_segment=other, places=chosen))
    check(layer, outputs, weights, memory.value)


def test_with_gradients_the_output_has_the_derivative_of_a_sum_weighted_by_them():
    torch.manual_seed(0)
    layer = scattered(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS)), 5)
    x = torch.randn(1, 4, D_MODEL)
    memory = layer.project_memory(x)
    layer.recorder = Recorder(gradients=True)
    direction = torch.randn(1, 4, D_MODEL)
    (layer(x) * direction).sum().backward(inputs=list(layer.recorder))
    [weights] = layer.recorder
    # y = direction · W_o concat(A V), so dy/dA = (W_o^T direction) V^T for each head
    back = (direction @ layer.output.weight).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    assert torch.allclose(weights.grad, back @ memory.value.transpose(2, 3), atol=1e-5)


def test_weights_of_frozen_layers_have_gradients_too():
    layer = scattered(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS)), 5).requires_grad_(False)
    x = torch.randn(1, 4, D_MODEL)
    layer.recorder = Recorder(gradients=True)
    total = layer(x).sum()
    [gradient] = torch.autograd.grad(total, list(layer.recorder))
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.parametrize("gradients", [False, True])
def test_dropout_acts_on_what_is_read_and_not_on_what_is_recorded(gradients):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 5, 4) for _ in range(3))
    recorder = Recorder(gradients=gradients)
    weights = softmax_weights(query, key)
    dropped = recorded(recorder, weights, value, lambda: softmax_attention(query, key, value, dropout=0.5), dropout=0.5)
    assert not torch.allclose(dropped, softmax_attention(query, key, value), atol=1e-3)
    assert torch.allclose(recorder[0] @ value, softmax_attention(query, key, value), atol=1e-5)


@given(sources=st.integers(1, 3), width=st.integers(1, 3), n=st.integers(1, 3))
def test_rows_that_share_a_source_are_taken_apart_in_their_order(sources, width, n):
    x = torch.arange(sources * 2 * width * n).view(sources, 2, width * n, 1)
    rows = apart(x, width)
    assert rows.shape == (sources * width, 2, n, 1)
    for row in range(sources * width):
        source, place = divmod(row, width)
        assert torch.equal(rows[row], x[source, :, place * n : (place + 1) * n])


def test_recording_ends_with_its_block_and_whoever_looked_first_looks_on():
    layers = [MultiHeadAttention(D_MODEL, AttentionSettings(HEADS)) for _ in range(2)]
    states = torch.randn(1, 3, D_MODEL)
    with recording(*layers) as [first, second]:
        with pytest.raises(ValueError, match="stop"), recording(layers[0], layers[0], gradients=True) as [one, same]:
            layers[0](states)
            raise ValueError("stop")
        layers[0](states)
    assert one is same and one.gradients and not first.gradients
    assert [len(one), len(first), len(second)] == [1, 1, 0]
    assert [layer.recorder for layer in layers] == [None, None]


@pytest.mark.parametrize("parts", [[5], [2, 2, 1]])
def test_weights_that_are_found_in_steps_are_recorded_as_one_tensor_with_the_derivatives_of_all_steps(parts):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 1, 5, 3, generator=generator).softmax(-1)
    value = torch.randn(2, 1, 3, 4, generator=generator)

    def output(steps):
        return torch.cat([(step @ value).square() for step in steps], dim=2).sum()

    leaf = weights.clone().requires_grad_()
    [right] = torch.autograd.grad(output([leaf]), [leaf])
    for gradients in (False, True):
        recorder = Recorder(gradients=gradients)
        steps = StepRecording(recorder, weights.shape, value)
        used = [steps.add(part) for part in weights.split(parts, dim=2)]
        steps.finish()
        [found] = recorder
        assert torch.equal(torch.cat(used, dim=2), weights)
        assert torch.equal(found.detach(), weights)
        assert found.requires_grad is gradients
        if gradients:
            [slope] = torch.autograd.grad(output(used), [found])
            assert torch.allclose(slope, right, atol=1e-6)
