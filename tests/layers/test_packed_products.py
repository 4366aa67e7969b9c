"""Products with packed weights are the same products."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nlpcli.layers import packed_products as module
from nlpcli.layers.packed_products import PackedProducts


@pytest.fixture
def packings(monkeypatch):
    """The weights that were packed since the test began."""
    if not module._AVAILABLE:
        pytest.skip("oneDNN computes no products here")
    made, real = [], module._packed

    def packed(weight):
        made.append(weight)
        return real(weight)

    monkeypatch.setattr(module, "_packed", packed)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 32), (16, 32), (3, 40, 32), (2, 3, 700, 32), (20, 0, 32)])
def test_a_layer_gives_the_same_numbers(packings, shape, bias):
    torch.manual_seed(1)
    layer, x = nn.Linear(32, 24, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected = layer(x)
        with PackedProducts():
            found = layer(x)
    assert len(packings) == (x.numel() >= 16 * 32)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_that_changed_are_packed_anew(packings):
    layer, x = nn.Linear(32, 24), torch.randn(20, 32)
    with torch.no_grad(), PackedProducts():
        before = layer(x)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x) - layer.bias, 2 * (before - layer.bias))
        layer.load_state_dict({"weight": torch.zeros(24, 32), "bias": torch.ones(24)})
        assert (layer(x) == 1).all()


def test_packed_weights_are_forgotten_with_their_layer(packings):
    layer, before = nn.Linear(32, 24), len(module._PACKED)
    with torch.no_grad(), PackedProducts():
        layer(torch.randn(20, 32))
    assert len(module._PACKED) == before + 1
    packings.clear()
    del layer
    assert len(module._PACKED) == before


def test_what_needs_gradients_or_other_numbers_is_computed_as_usual(packings):
    layer, x = nn.Linear(32, 24), torch.randn(20, 32)
    with PackedProducts():
        layer(x).sum().backward()
        with torch.no_grad():
            layer.double()(x.double())
        with torch.inference_mode():
            nn.Linear(32, 24)(x)  # its weights are of inference, whose changes are not counted
    assert layer.weight.grad is not None and not packings
