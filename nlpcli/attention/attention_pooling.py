"""Attention with one learned query: from the states of a sequence to one vector."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nlpcli.attention.hooks import Recorder, recorded


class AttentionPooling(nn.Module):
    """s = Σ_t α_t h_t, α = softmax over t of uᵀ tanh(W h_t + b) (Yang et al. 2016, eq. 5-7).

    The learned query u has d_attention features. A row that has no states gives zeros.
    `recorder` is None, or gets the weights (rows, 1, 1, n) of each call.
    """

    def __init__(self, d_model: int, d_attention: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_model, d_attention)
        self.query = nn.Linear(d_attention, 1, bias=False)
        self.recorder: Recorder | None = None

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """states (rows, n, d_model) -> (rows, d_model).

        mask (rows, n): True where there is a state; None: everywhere.
        """
        scores = self.query(self.project(states).tanh()).squeeze(-1).float()
        if mask is not None:
            scores = scores.masked_fill(~mask, -float("inf"))
        weights = scores.softmax(dim=-1)
        if mask is not None:
            weights = weights.masked_fill(~mask, 0.0)  # of a row without states, too
        weights, value = weights.to(states.dtype)[:, None, None], states[:, None]  # (rows, 1, 1, n), (rows, 1, n, d)
        context: Callable[[], Tensor] = lambda: weights @ value  # noqa: E731
        found = context() if self.recorder is None else recorded(self.recorder, weights, value, context)
        return found[:, 0, 0]
