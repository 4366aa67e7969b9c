from __future__ import annotations

import math

import pytest
import torch

from nlpcli.errors import NlpcliError
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def silu(x):
    return x / (1 + torch.exp(-x))


PLAIN = {
    "relu": lambda x: x * (x > 0),
    "gelu": gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": silu,
}
GATED = {"swiglu": silu, "geglu": gelu}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", [*PLAIN, *GATED])
def test_each_activation_is_its_equation(name, bias):
    torch.manual_seed(1)
    layer = FeedForward(6, 10, activation=name, bias=bias).double()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    weights = layer.state_dict()

    def linear(part, x):
        return x @ weights[f"{part}.weight"].T + (weights[f"{part}.bias"] if bias else 0)

    hidden = GATED[name](linear("gate", x)) * linear("inner", x) if name in GATED else PLAIN[name](linear("inner", x))
    assert torch.allclose(layer(x), linear("outer", hidden), atol=1e-12)
    assert ("inner.bias" in weights) == bias


def test_an_unknown_activation_is_answered_with_the_nearest():
    with pytest.raises(NlpcliError, match="unknown activation 'swigloo'") as caught:
        FeedForward(4, 8, activation="swigloo")
    assert caught.value.hint == "did you mean 'swiglu'?"


def test_norms_are_their_equations():
    x = torch.randn(5, 7, dtype=torch.float64) * 3 + 1
    layer = make_norm("layernorm", 7, eps=1e-3).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    assert torch.allclose(layer(x), (x - mean) / (variance + 1e-3).sqrt() * layer.weight + layer.bias)
    root = make_norm("rmsnorm", 7, eps=1e-3).double()
    torch.nn.init.normal_(root.weight)
    assert torch.allclose(root(x), x / ((x * x).mean(1, keepdim=True) + 1e-3).sqrt() * root.weight)
    assert make_norm("layernorm", 7, bias=False).bias is None


def test_an_unknown_norm_is_answered_with_the_nearest():
    with pytest.raises(NlpcliError, match="unknown norm 'rms-norm'") as caught:
        make_norm("rms-norm", 4)
    assert caught.value.hint == "did you mean 'rmsnorm'?"
