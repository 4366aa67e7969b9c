"""What stands on top of a stack: from states to predictions."""

from __future__ import annotations

from torch import Tensor, nn

from nlpcli.layers.feed_forward import activation_function


class MaskedHead(nn.Module):
    """norm(f(W x + b)): what masked language modelling puts before the vocabulary (BERT, RoBERTa).

    (…, d_model) -> (…, d_model)
    """

    def __init__(self, width: int, norm: nn.Module, *, activation: str = "gelu") -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = activation_function(activation)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class Pooler(nn.Module):
    """tanh(W x_0 + b) of the first token's state x_0 (Devlin et al. 2019): (batch, n, d_model) -> (batch, d_model)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        return self.dense(states[:, 0]).tanh()
