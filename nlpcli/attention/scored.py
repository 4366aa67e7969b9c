"""Softmax attention with scores that are no inner products: additive and concat.

A score for each query and key is worked out before the softmax, in blocks (`nlpcli.attention.scores`); the softmax and
the sum over values go through the same kernel as all, which is given queries and keys of zeros and the scores as bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nlpcli.attention.core import ScoreBias
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.scores import Score
from nlpcli.attention.softmax import SoftmaxAttention, softmax_attention
from nlpcli.attention.states import KeyValueCache


class ScoredAttention(SoftmaxAttention):
    """softmax(score(q, k) + bias) V: an `AttentionCore` of what the score makes of queries and of keys.

    score: the module of the layer, whose parameters it is given.
    """

    def __init__(self, score: Score) -> None:
        super().__init__(scale=False)
        self.score = score

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        scores, visible, causal = self._whole(query, key, mask, bias)
        return _attend(scores, value, visible, causal=causal, dropout=dropout)

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: KeyValueCache,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        held, after = state.append(key, value)
        if not state.length:
            return self.forward(query, key, value, mask, bias=bias), after
        visible, added = self._of_step(query, state, mask, bias)
        return _attend(self._scores(query, held.key, added), held.value, visible), after

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: KeyValueCache | None = None,
    ) -> Tensor:
        if state is None or not state.length:
            scores, visible, causal = self._whole(query, key, mask, bias)
            return _attend(scores, _identity(key), visible, causal=causal)
        held, _ = state.append(key, key)
        positions = state.seen_after(key.size(-2))
        visible, added = self._of_step(query, state, mask, bias)
        found = _attend(self._scores(query, held.key, added), _identity(held.key), visible)
        if len(positions) == positions.end:
            return found
        places = positions.tensor(query.device)
        return found.new_zeros(*found.shape[:-1], positions.end).index_copy(-1, places, found)

    def _whole(
        self, query: Tensor, key: Tensor, mask: AttentionMask, bias: ScoreBias | None
    ) -> tuple[Tensor, Tensor | None, bool]:
        """The scores of a whole text, what may be seen, and whether it is causal besides."""
        n, m = query.size(-2), key.size(-2)
        causal, visible = mask.split(n, m, device=query.device)
        return self._scores(query, key, None if bias is None else bias.dense(n, m)), visible, causal

    def _scores(self, query: Tensor, key: Tensor, added: Tensor | None) -> Tensor:
        scores = self.score.between(query, key)
        return scores if added is None else scores + added


def _attend(
    scores: Tensor, value: Tensor, visible: Tensor | None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """softmax(scores) value, of scores (rows, heads, n, m)."""
    query, key = value.new_zeros(*scores.shape[:-1], 1), value.new_zeros(*value.shape[:-1], 1)
    return softmax_attention(
        query, key, value, attention_mask=visible, causal=causal, bias=scores, scale=1.0, dropout=dropout
    )


def _identity(key: Tensor) -> Tensor:
    m = key.size(2)
    return torch.eye(m, dtype=key.dtype, device=key.device).expand(key.size(0), key.size(1), m, m)
