"""From token ids to the first hidden states."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nlpcli.layers.dropout import Dropout
from nlpcli.layers.positions import LearnedPositions, SinusoidalPositions


class Embedding(nn.Module):
    """dropout(norm(E[token] · √d + P[position])), each part as configured (Vaswani et al. 2017, section 3.4).

    `tokens` may be shared with other parts of a model. (batch, length) -> (batch, length, d_model)
    """

    def __init__(
        self,
        tokens: nn.Embedding,
        *,
        positions: str = "sinusoidal",
        max_length: int = 1024,
        scale: bool = True,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = tokens.embedding_dim
        self.tokens = tokens
        self.scale = math.sqrt(width) if scale else 1.0
        self.positions: nn.Module | None = None
        if positions == "sinusoidal":
            self.positions = SinusoidalPositions(width)
        elif positions == "learned":
            self.positions = LearnedPositions(max_length, width)
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        x = self.tokens(ids)
        if self.scale != 1.0:
            x = x * self.scale
        if self.positions is not None:
            x = x + self.positions(ids.size(1), start).to(x.dtype)
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x)
