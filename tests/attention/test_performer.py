"""Performer: its features are what the paper says, and their products are softmax attention on average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.performer import HyperbolicPerformerAttention, PerformerAttention, projection
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.models.build import build_model

KINDS = [PerformerAttention, HyperbolicPerformerAttention]


def vectors(n, width, *, norm, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(1, 1, n, width, generator=generator, dtype=torch.float64)
    return found / found.norm(dim=-1, keepdim=True) * norm


def kernel(core, query, key):
    """φ(q)ᵀ φ(k) / m with the factor that queries lack, (n, m)."""
    found = core._exponents(query).exp() @ core.key_features(key).transpose(2, 3)
    return found[0, 0] / core.features


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_paper(kind):
    core, x = kind(6, layer=3), vectors(5, 4, norm=2.0)
    scaled = x[0, 0].numpy() / 4**0.25
    rows = projection(6 if kind is PerformerAttention else 3, 4, 3).double().numpy()
    signed = rows if kind is PerformerAttention else np.concatenate((rows, -rows))
    expected = np.exp(scaled @ signed.T - (scaled**2).sum(1, keepdims=True) / 2)
    assert np.allclose(core.key_features(x)[0, 0].numpy(), expected, atol=1e-12)
    ratio = core.query_features(x)[0, 0].numpy() / expected
    assert np.allclose(ratio, ratio[:, :1])  # a factor for each query


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_draws_is_the_kernel_of_softmax(kind):
    query, key = vectors(4, 8, norm=1.0), vectors(5, 8, norm=1.0, seed=1)
    draws = torch.stack([kernel(kind(32, layer=layer), query, key) for layer in range(400)])
    exact = (query[0, 0] @ key[0, 0].T / 8**0.5).exp()
    error = draws.std(0) / 400**0.5
    assert bool(((draws.mean(0) - exact).abs() < 4 * error).all()) and float((error / exact).max()) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_falls_with_the_number_of_features(kind):
    n, width = 48, 16
    query, key = vectors(n, width, norm=0.5 * width**0.25), vectors(n, width, norm=0.5 * width**0.25, seed=1)
    value, mask = vectors(n, width, norm=1.0, seed=2), AttentionMask()
    exact = SoftmaxAttention().forward(query, key, value, mask)
    sizes, errors = [16, 64, 256, 1024], []
    for size in sizes:
        found = [kind(size, layer=layer).forward(query, key, value, mask) - exact for layer in range(12)]
        errors.append(float(torch.stack(found).square().mean().sqrt()))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope <= -0.35 and errors[-1] < 0.01


def test_rows_are_orthogonal_in_blocks_and_as_long_as_gaussian_ones():
    found = torch.cat([projection(20, 8, layer) for layer in range(300)]).view(300, 20, 8)
    for block in (found[:, :8], found[:, 8:16], found[:, 16:]):
        products = block @ block.transpose(1, 2)
        assert torch.allclose(products, torch.diag_embed(products.diagonal(dim1=1, dim2=2)), atol=1e-4)
    assert float(found.square().sum(-1).mean()) == pytest.approx(8, rel=0.05)
    assert found.mean(dim=(0, 1)).abs().max() < 0.05  # no direction is preferred


def test_hyperbolic_features_are_the_better_estimate_of_a_kernel():
    query, key = vectors(16, 8, norm=1.5), vectors(16, 8, norm=1.5, seed=1)
    exact = (query[0, 0] @ key[0, 0].T / 8**0.5).exp()
    errors = [
        torch.stack([kernel(kind(16, layer=layer), query, key) - exact for layer in range(200)]).square().mean()
        for kind in KINDS
    ]
    assert errors[1] < errors[0]


def test_a_draw_belongs_to_a_layer_and_is_the_same_for_every_model_and_seed():
    shape = {
        "kind": "decoder",
        "d_model": 16,
        "heads": 2,
        "d_ff": 24,
        "decoder_layers": 2,
        "attention": ["performer:8"],
    }
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append([layer.self_attention.core for layer in build_model(shape, 20).decoder.layers])
    x = vectors(3, 8, norm=1.0)
    (first, second), (again, _) = [[core.key_features(x) for core in cores] for cores in found]
    assert torch.equal(first, again) and not torch.allclose(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_keys_and_queries_give_finite_contexts_and_gradients(kind, dtype):
    query, key, value = (vectors(70, 64, norm=400.0, seed=seed).to(dtype).requires_grad_() for seed in range(3))
    context = kind(64).forward(query, key, value, AttentionMask())
    context.float().square().sum().backward()
    assert context.isfinite().all() and all(x.grad.isfinite().all() for x in (query, key, value))
