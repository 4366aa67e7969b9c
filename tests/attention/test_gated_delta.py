"""The gated delta rule: its recurrence by a loop, and against the one in transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nlpcli.attention import gated_delta
from nlpcli.attention.gated_delta import GatedDeltaAttention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Causal, Full
from nlpcli.models.build import build_model

HEADS, WIDTH, MASK = 3, 4, AttentionMask(Causal())


def core_and_leaves(n, *, rows=2, seed=0):
    torch.manual_seed(seed)
    core = GatedDeltaAttention(heads=HEADS, d_key=WIDTH).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.copy_(torch.randn_like(parameter))
    widths = (WIDTH, WIDTH + 2, WIDTH + 1)
    return core, [torch.randn(rows, HEADS, n, width, dtype=torch.float64, requires_grad=True) for width in widths]


def parts(core, query, key):
    """The convolved queries and keys, log α and β, by their formulas."""

    def convolved(x, taps):
        found = torch.zeros_like(x)
        for t in range(x.size(2)):
            for i in range(min(4, t + 1)):
                found[:, :, t] += taps[i, :, 0] * x[:, :, t - i]
        found = found * found.sigmoid()
        return found / found.square().sum(-1, keepdim=True).sqrt()

    decay = -F.softplus(key[..., -2] + core.decay_bias)
    return (
        convolved(query, core.query_taps),
        convolved(key[..., :-2], core.key_taps),
        decay,
        torch.sigmoid(key[..., -1] + core.strength_bias),
    )


def by_loop(core, query, key, value):
    """One token after the other: first take away, then write."""
    queries, keys, decay, strength = parts(core, query, key)
    context = []
    matrix = value.new_zeros(*value.shape[:2], WIDTH, value.size(-1))
    for t in range(value.size(2)):
        k, v = keys[:, :, t], value[:, :, t]
        matrix = matrix * decay[:, :, t, None, None].exp()
        known = torch.einsum("bhkv,bhk->bhv", matrix, k)
        matrix = matrix + strength[:, :, t, None, None] * torch.einsum("bhk,bhv->bhkv", k, v - known)
        context.append(torch.einsum("bhkv,bhk->bhv", matrix, queries[:, :, t]))
    return torch.stack(context, dim=2)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 13, 16])
def test_chunks_give_what_the_recurrence_gives_and_its_gradients(n, monkeypatch):
    monkeypatch.setattr(gated_delta, "_CHUNK", 4)
    core, leaves = core_and_leaves(n)
    inputs = [*leaves, *core.parameters()]
    found, expected = core.forward(*leaves, MASK), by_loop(core, *leaves)
    assert torch.allclose(found, expected, atol=1e-12)
    ours, theirs = (torch.autograd.grad(x.square().sum(), inputs) for x in (found, expected))
    assert all(torch.allclose(mine, right, atol=1e-10) for mine, right in zip(ours, theirs, strict=True))


def test_the_rule_is_that_of_qwen3_next():
    rule = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next").torch_recurrent_gated_delta_rule
    core, leaves = core_and_leaves(70)
    core, (query, key, value) = core.float(), [x.detach().float() for x in leaves]
    swapped = [x.transpose(1, 2) for x in parts(core, query, key)]
    theirs, _ = rule(swapped[0] * WIDTH**0.5, swapped[1], value.transpose(1, 2), *swapped[2:], None, False)
    assert torch.allclose(core.forward(query, key, value, MASK), theirs.transpose(1, 2), atol=1e-5)


def test_a_key_that_is_written_again_is_overwritten():
    """Without decay and with β = 1 the matrix gives the last value of each of a few orthogonal keys."""
    core = GatedDeltaAttention(heads=1, d_key=4).double()
    with torch.no_grad():
        for taps in (core.query_taps, core.key_taps):
            taps.copy_(torch.tensor([1.0, 0, 0, 0])[:, None, None, None])
        core.decay_bias.fill_(-40)
        core.strength_bias.fill_(40)
    names = torch.tensor([0, 1, 2, 0, 1, 3, 0])
    key = 20 * F.one_hot(names, 4).double()  # SiLU of 0 is 0
    value = torch.randn(7, 5, dtype=torch.float64)
    gated = torch.cat((key, torch.zeros(7, 2)), dim=-1)
    query = 20 * F.one_hot(torch.tensor([0, 0, 0, 1, 0, 2, 0]), 4).double()
    found = core.forward(query[None, None], gated[None, None], value[None, None], MASK)[0, 0]
    last = [0, 0, 0, 1, 3, 2, 6]
    assert torch.allclose(found, value[last], atol=1e-9)


def test_it_is_refused_where_texts_are_read_both_ways():
    core, leaves = core_and_leaves(3)
    with pytest.raises(ValueError, match="from left to right only"):
        core.forward(*leaves, AttentionMask(Full()))
    with pytest.raises(ValueError, match="does not support bidirectional"):
        build_model({"kind": "encoder", "attention": ["gated-delta"], "d_model": 16, "heads": 2}, 20)


def test_a_model_trains_all_that_it_has():
    shape = {"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 12, "decoder_layers": 2, "positions": "none"}
    model = build_model({**shape, "attention": ["gated-delta"], "dropout": 0.0}, 20)
    model(torch.randint(20, (2, 9))).square().sum().backward()
    assert all(bool(p.grad.any()) for p in model.parameters())
    assert model.decoder.layers[0].self_attention.gates.weight.shape == (4, 16)
