"""From token ids to the first hidden states."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nlpcli.layers.dropout import Dropout
from nlpcli.layers.linear import Linear
from nlpcli.layers.positions import LearnedPositions, SinusoidalPositions


class Embedding(nn.Module):
    """dropout(norm(E[token] · √d + P[position] + S[segment])), each part as configured.

    `tokens` may be shared with other parts of a model. project: the width of the states where it is not that of the
    embeddings, which are then multiplied by a matrix (Clark et al. 2020). Sources: Vaswani et al. 2017, section 3.4;
    Devlin et al. 2019, figure 2. (batch, length) -> (batch, length, d_model)
    """

    def __init__(
        self,
        tokens: nn.Embedding,
        *,
        positions: nn.Module | None = None,
        scale: bool = True,
        segments: int = 0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        project: int | None = None,
    ) -> None:
        super().__init__()
        width = tokens.embedding_dim
        self.tokens = tokens
        self.scale = math.sqrt(width) if scale else 1.0
        self.positions = positions
        self.segments = nn.Embedding(segments, width) if segments else None
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.projection = Linear(width, project) if project else None

    def forward(self, ids: Tensor, start: int = 0, segments: Tensor | None = None) -> Tensor:
        """ids and segments (batch, length); None: all of segment 0."""
        x = self.tokens(ids)
        if self.scale != 1.0:
            x = x * self.scale
        return self.placed(x, start, segments)

    def placed(self, x: Tensor, start: int = 0, segments: Tensor | None = None) -> Tensor:
        """As `forward`, with x (batch, length, width) in the place of E[token] · √d."""
        if self.positions is not None:
            x = x + self.positions(x.size(1), start).to(x.dtype)
        if self.segments is not None:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        if self.norm is not None:
            x = self.norm(x)
        x = self.dropout(x)
        return x if self.projection is None else self.projection(x)


def added_positions(kind: str, width: int, *, max_length: int = 1024, offset: int = 0) -> nn.Module | None:
    """The positions that are added to embeddings: sinusoidal (sine and cosine in turn), sinusoidal-halves (sines first)
    or learned, for at most `max_length` tokens after `offset` unused ones; None for every other kind."""
    if kind == "learned":
        return LearnedPositions(max_length, width, offset=offset)
    return SinusoidalPositions(width, halves=kind == "sinusoidal-halves") if kind.startswith("sinusoidal") else None
