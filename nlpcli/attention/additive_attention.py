"""Softmax attention with scores that are not inner products: additive and concat.

The score of each query and key is computed before the softmax, in blocks (`nlpcli.attention.score_functions`). Softmax
and the sum over values use the usual kernel, with zeros as queries and keys and the scores as bias.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nlpcli.attention.score_functions import Score
from nlpcli.attention.softmax import SoftmaxAttention, softmax_attention


class ScoredAttention(SoftmaxAttention):
    """softmax(score(q, k) + bias) V: an `AttentionCore` of what the score makes of queries and of keys.

    score: the module of the layer, whose parameters it is given.
    """

    tiles: ClassVar[bool] = False

    def __init__(self, score: Score) -> None:
        super().__init__(scale=False)
        self.score = score

    def context(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None,
        bias: Tensor | None,
        *,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        scores = self.score.between(query, key)
        if bias is not None:
            scores = scores + bias
        zeros = value.new_zeros(*scores.shape[:-1], 1), value.new_zeros(*value.shape[:-1], 1)
        return softmax_attention(
            *zeros, value, attention_mask=visible, causal=causal, bias=scores, scale=1.0, dropout=dropout
        )

    def shares(
        self, query: Tensor, key: Tensor, visible: Tensor | None, bias: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        m = key.size(2)
        one_for_each = torch.eye(m, dtype=key.dtype, device=key.device).expand(key.size(0), key.size(1), m, m)
        return self.context(query, key, one_for_each, visible, bias, causal=causal)
