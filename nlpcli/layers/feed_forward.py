"""The position-wise feed-forward layer and its gated forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from nlpcli.errors import unknown
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.linear import Linear

Activation = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
_GATED: dict[str, Activation] = {"swiglu": F.silu, "geglu": F.gelu, "geglu_tanh": partial(F.gelu, approximate="tanh")}


def activation_function(name: str) -> Activation:
    """An activation by name; of a gated one, that of the gate. Raises: NlpcliError for a name that is none."""
    functions = _ACTIVATIONS | _GATED
    if name not in functions:
        raise unknown("activation", name, functions)
    return functions[name]


class FeedForward(nn.Module):
    """FFN(x) = f(x W1 + b1) W2 + b2 (Vaswani et al. 2017, eq. 2); gated: (f(x W1) ⊙ x V) W2 (Shazeer 2020).

    (..., d_model) -> (..., d_model)
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: str = "relu", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation = activation_function(activation)
        self.inner = Linear(d_model, d_ff, bias=bias)
        self.gate = Linear(d_model, d_ff, bias=bias) if activation in _GATED else None
        self.outer = Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            hidden = self.activation(self.inner(x))
        else:
            hidden = self.activation(self.gate(x)) * self.inner(x)
        return self.outer(self.dropout(hidden))
