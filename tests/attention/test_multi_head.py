"""Multi-head attention against the paper's equations written out in float64, and what it shows of its weights."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from nlpcli.attention.hooks import Recorder
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.patterns import Causal, Full

D_MODEL, HEADS, BATCH, N = 12, 3, 2, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def randomised(layer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5 + (weight.ndim == 1))
    return layer.double()


def equation(layer, x, memory, *, attention_mask, start=0):
    """Concat_i softmax(q_i k_iᵀ / √d_k) v_i · W^O, all heads at once; returns the output and the weights."""
    w = layer.state_dict()

    def project(name, y):
        z = y @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)
        return z.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def prepare(name, y, first):
        z = project(name, y)
        if f"{name}_norm.weight" in w:
            z = z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}_norm.weight"]
        if layer.rotary is not None:
            half = z.size(-1) // 2
            rate = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
            angle = (torch.arange(z.size(2), dtype=torch.float64)[:, None] + first) * rate
            turned = torch.complex(z[..., :half], z[..., half:]) * torch.polar(torch.ones_like(angle), angle)
            z = torch.cat((turned.real, turned.imag), -1)
        return z

    query, key, value = prepare("query", x, start), prepare("key", memory, 0), project("value", memory)
    powers = (query @ key.mT / math.sqrt(query.size(-1))).exp() * attention_mask
    weights = powers / powers.sum(-1, keepdim=True)
    context = (weights @ value).transpose(1, 2).flatten(2)
    return context @ w["output.weight"].T + w.get("output.bias", 0.0), weights


@pytest.mark.parametrize(
    ("widths", "bias", "rotary", "qk_norm", "causal"),
    list(itertools.product([(None, None), (4, 6), (8, 2)], *[[False, True]] * 4)),
)
def test_it_is_the_papers_equation_in_value_and_gradient(widths, bias, rotary, qk_norm, causal):
    d_key, d_value = widths
    pattern = Causal() if causal else Full()
    settings = AttentionSettings(HEADS, d_key=d_key, d_value=d_value, bias=bias, qk_norm=qk_norm)
    layer = randomised(MultiHeadAttention(D_MODEL, settings, rotary=rotary, pattern=pattern))
    x = torch.randn(BATCH, N, D_MODEL, dtype=torch.float64, requires_grad=True)
    visible = torch.ones(N, N).tril() if causal else torch.ones(N, N)
    output = layer(x)
    expected, _ = equation(layer, x, x, attention_mask=visible)
    assert torch.allclose(output, expected, atol=1e-6)
    ours, theirs = (torch.autograd.grad(item.square().mean(), x)[0] for item in (output, expected))
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_cross_attention_looks_at_another_sequence_through_its_mask(bias):
    layer = randomised(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS, bias=bias)))
    x, memory = torch.randn(BATCH, 4, D_MODEL).double(), torch.randn(BATCH, 7, D_MODEL).double()
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]
    output = layer(x, AttentionMask(keys=mask), memory=layer.project_memory(memory))
    assert torch.allclose(output, equation(layer, x, memory, attention_mask=mask[:, None, None])[0], atol=1e-9)


def test_keys_and_values_are_the_same_in_one_go_and_piece_by_piece():
    settings = AttentionSettings(HEADS, qk_norm=True)
    layer = randomised(MultiHeadAttention(D_MODEL, settings, rotary=True, pattern=Causal()))
    x = torch.randn(BATCH, N, D_MODEL).double()
    whole = layer.project_memory(x)
    first, second = layer.project_memory(x[:, :2]), layer.project_memory(x[:, 2:], 2)
    pieces = first.extended(second.key, second.value)
    assert torch.allclose(whole.key, pieces.key)
    assert torch.allclose(whole.value, pieces.value)
    _, state = layer.step(x[:, :2], layer.start())
    late, _ = layer.step(x[:, 2:], state)
    assert torch.allclose(late, layer(x)[:, 2:])


@pytest.mark.parametrize("width", [1, 3])
def test_rows_that_share_a_source_give_what_they_give_with_a_copy_of_it_each(width):
    layer = randomised(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS, d_key=4, d_value=6)))
    memory = layer.project_memory(torch.randn(2, 7, D_MODEL).double())
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    x = torch.randn(2 * width, 2, D_MODEL).double()
    copies = torch.arange(2).repeat_interleave(width)
    layer.recorder = Recorder()
    shared = layer(x, AttentionMask(keys=mask), memory=memory, width=width)
    copied = layer(x, AttentionMask(keys=mask[copies]), memory=memory.select(copies))
    assert torch.allclose(shared, copied, atol=1e-12)
    assert [tuple(item.shape) for item in layer.recorder] == [(2 * width, HEADS, 2, 7)] * 2
    assert torch.allclose(*layer.recorder, atol=1e-12)


@pytest.mark.parametrize("d_value", [4, 6])
def test_heads_that_share_keys_and_values_are_heads_with_copies_of_them(d_value):
    settings = AttentionSettings(HEADS, d_key=4, d_value=d_value)
    whole = randomised(MultiHeadAttention(D_MODEL, settings, rotary=True, pattern=Causal()))
    few = MultiHeadAttention(D_MODEL, replace(settings, kv_heads=1), rotary=True, pattern=Causal())
    few.double()
    weights = dict(whole.state_dict())
    for name, width in (("key", 4), ("value", d_value)):
        weights[f"{name}.weight"] = weights[f"{name}.weight"][:width]
    few.load_state_dict(weights)
    with torch.no_grad():
        for layer in (whole.key, whole.value):
            layer.weight.copy_(layer.weight[: len(layer.weight) // HEADS].repeat(HEADS, 1))
    x = torch.randn(BATCH, N, D_MODEL).double()
    assert torch.allclose(few(x), whole(x), atol=1e-12)
    for layer in (few, whole):
        layer.recorder = Recorder(gradients=True)
    assert torch.allclose(few(x), whole(x), atol=1e-12)
    assert torch.allclose(few.recorder[0], whole.recorder[0], atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_recorded_are_the_weights_that_were_used(causal):
    pattern = Causal() if causal else Full()
    layer = randomised(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS), rotary=True, pattern=pattern))
    x = torch.randn(BATCH, N, D_MODEL, dtype=torch.float64, requires_grad=True)
    memory = layer.project_memory(x)
    silent = layer(x)
    layer.recorder = Recorder()
    assert torch.equal(layer(x), silent)
    visible = torch.ones(N, N).tril() if causal else torch.ones(N, N)
    [weights] = layer.recorder
    assert not weights.requires_grad
    assert torch.allclose(weights, equation(layer, x, x, attention_mask=visible)[1], atol=1e-6)
    context = (weights @ memory.value).transpose(1, 2).flatten(2)
    assert torch.allclose(layer.output(context), silent, atol=1e-6)


def test_attention_dropout_works_in_training_only():
    layer = randomised(MultiHeadAttention(D_MODEL, AttentionSettings(HEADS, dropout=0.5)))
    x = torch.randn(BATCH, N, D_MODEL).double()
    assert not torch.allclose(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_selecting_repeats_and_drops_rows():
    pair = KeyValue(torch.arange(6.0).view(3, 1, 1, 2), torch.arange(3.0).view(3, 1, 1, 1))
    chosen = pair.select(torch.tensor([2, 2, 0]))
    assert chosen.key[:, 0, 0].tolist() == [[4, 5], [4, 5], [0, 1]]
    assert chosen.value.flatten().tolist() == [2, 2, 0]
