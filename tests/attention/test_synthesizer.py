"""Synthesizer: the scores of each variant by loops, what they depend on, and what is refused."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.kinds import KINDS, parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Causal
from nlpcli.models.build import build_model

VARIANTS = [name for name in KINDS if name.startswith("synthesizer")]
LENGTH, HEADS, WIDTH = 11, 2, 4


def named(name):
    return f"{name}:3" if ":" in KINDS[name].form else name


def core_of(name):
    torch.manual_seed(1)
    core = parse_attention(named(name)).core(length=LENGTH, heads=HEADS, d_key=WIDTH).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return core


def score(name, core, head, i, j, query, key):
    """One score by the paper's formula."""
    if name == "synthesizer-dense":
        return core.weight[head, j] @ query.relu() + core.bias[head, j]
    if name == "synthesizer-factorized-dense":
        size = 4  # the root of 11, rounded up
        outer = query.relu() @ core.outer_weight[head] + core.outer_bias[head, 0]
        inner = query.relu() @ core.inner_weight[head] + core.inner_bias[head, 0]
        assert outer.shape == (3,) and inner.shape == (size,)
        return outer[j // size] * inner[j % size]
    if name == "synthesizer-random":
        return core.table[head, i, j]
    if name == "synthesizer-factorized-random":
        return core.left[head, i] @ core.right[head, j]
    share = torch.sigmoid(core.mixture[head, 0, 0])
    return share * core.table[head, i, j] + (1 - share) * (query @ key) / WIDTH**0.5


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_context_is_that_of_the_papers_scores(name, causal):
    core, n = core_of(name), 7
    query, key, value = (torch.randn(3, HEADS, n, WIDTH, dtype=torch.float64) for _ in range(3))
    mask = AttentionMask(Causal()) if causal else AttentionMask()
    found, weights = core.forward(query, key, value, mask), core.weights(query, key, mask)
    for row in range(3):
        for head in range(HEADS):
            for i in range(n):
                last = i + 1 if causal else n
                scores = [score(name, core, head, i, j, query[row, head, i], key[row, head, j]) for j in range(last)]
                shares = torch.stack(scores).softmax(0)
                assert torch.allclose(found[row, head, i], shares @ value[row, head, :last])
                assert torch.allclose(weights[row, head, i, :last], shares)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_row_of_weights_depends_on(name):
    core, n = core_of(name), 6
    query, key = (torch.randn(1, HEADS, n, WIDTH, dtype=torch.float64) for _ in range(2))
    before = core.weights(query, key, AttentionMask())
    query[:, :, 2] += 1
    after = core.weights(query, key, AttentionMask())
    changed = [not torch.allclose(before[:, :, i], after[:, :, i]) for i in range(n)]
    assert changed == [i == 2 and "random" not in name for i in range(n)]
    key[:, :, 3] += 1
    assert torch.equal(core.weights(query, key, AttentionMask()), after) == (name != "synthesizer-mixed")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_model_has_no_projections_that_nothing_reads_and_trains_all_it_has(name):
    shape = {"kind": "decoder", "d_model": 8, "heads": 2, "d_ff": 12, "decoder_layers": 1, "max_length": LENGTH}
    model = build_model({**shape, "attention": [named(name)], "positions": "rotary", "dropout": 0.0}, 20)
    model(torch.randint(20, (2, LENGTH))).square().sum().backward()
    assert all(bool(p.grad.any()) for p in model.parameters())
    attention = model.decoder.layers[0].self_attention
    assert (attention.query is not None, attention.key is not None) == {
        "synthesizer-mixed": (True, True),
        "synthesizer-random": (False, False),
        "synthesizer-factorized-random": (False, False),
    }.get(name, (True, False))
    with pytest.raises(ValueError, match="11"):
        attention(torch.randn(1, LENGTH + 1, 8))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_values_of_another_width_and_half_precision(name, kind):
    core = core_of(name).to(kind)
    query, key = (torch.randn(2, HEADS, 5, WIDTH, dtype=kind) for _ in range(2))
    value = torch.randn(2, HEADS, 5, WIDTH + 3, dtype=kind)
    found = core.forward(query, key, value, AttentionMask())
    exact = core.double().forward(query.double(), key.double(), value.double(), AttentionMask())
    assert found.shape == value.shape and found.dtype == kind
    assert torch.allclose(found.double(), exact, atol=1e-5 if kind == torch.float32 else 0.1)
