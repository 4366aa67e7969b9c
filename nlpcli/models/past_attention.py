"""Attention of a recurrent network to a window of its own past states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recorder, recorded
from nlpcli.attention.masks import AttentionMask, dense_pattern
from nlpcli.attention.patterns import Causal, Window
from nlpcli.attention.score_functions import SCORES
from nlpcli.attention.softmax import SoftmaxAttention

_BLOCK = 16  # queries at a time at least, where scores are not products


class PastAttention(nn.Module):
    """h_t + C (h~_t - h_t) with h~_t = Σ_τ α(t, τ) h_{t-τ}, α(t, ·) = softmax over τ = 0 … w of score(h_t, h_{t-τ}).

    C is 0 before training, so that the network begins as one without attention; with C = 1 the output is h~_t, and
    with w = 0 it is h_t. The first states see fewer: those there are. All n queries are computed at once.
    score: one of `nlpcli.attention.score_functions.SCORES` without positions. `recorder` is None, or receives the
    weights (rows, 1, n, m) of each call. Sources: Cheng et al. 2016 and Daniluk et al. 2017, whose windows are without
    τ = 0.
    """

    def __init__(self, width: int, past_states: int, *, score: str) -> None:
        super().__init__()
        self.past_states = past_states
        self.score = SCORES[score](width, width)
        self.readout = nn.Parameter(torch.zeros(width, width))
        self.core = SoftmaxAttention(scale=False)
        self.mask = AttentionMask(Causal() & Window(past_states + 1))
        self.recorder: Recorder | None = None

    def forward(self, states: Tensor, past: Tensor | None) -> Tensor:
        """states (rows, n, d) after past (rows, m, d), None: none -> (rows, n, d)."""
        held = states if past is None else torch.cat((past, states), dim=1)
        query = self.score.queries(states[:, None])  # (rows, heads = 1, n, d)
        key, value = self.score.keys(held[:, None]), held[:, None]
        if self.recorder is None:
            context = self._context(query, key, value)
        else:
            weights = self._weights(query, key)
            context = recorded(self.recorder, weights, value, lambda: self._context(query, key, value))
        return states + nn.functional.linear(context[:, 0] - states, self.readout)

    def remembered(self, states: Tensor, past: Tensor | None) -> Tensor:
        """The past states for the next call: at most `past_states` of each row."""
        held = states if past is None or states.size(1) >= self.past_states else torch.cat((past, states), dim=1)
        return held[:, -self.past_states :]

    def _context(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.score.is_product:
            return self.core.forward(query, key, value, self.mask)
        n, m, block, parts = query.size(2), key.size(2), max(_BLOCK, self.past_states), []
        for start in range(0, n, block):
            last = min(start + block, n)
            # the keys of these queries: their own, and those of the window before the first of them
            first = max(0, m - n + start - self.past_states)
            near = slice(first, m - n + last)
            weights = self._weights(query[:, :, start:last], key[:, :, near])
            parts.append(weights @ value[:, :, near])
        return torch.cat(parts, dim=2)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        """(rows, 1, n, m), of the last n queries of m keys."""
        if self.score.is_product:
            return self.core.weights(query, key, self.mask)
        scores = self.score.between(query, key)
        allowed = dense_pattern(self.mask.pattern, query.size(2), key.size(2), query.device)
        return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(dim=-1)
