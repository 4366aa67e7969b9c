"""Multi-head attention: projections, one attention core, and the output projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nlpcli.attention.additive_attention import ScoredAttention
from nlpcli.attention.core import AttentionCore, DecodingState, ScoreBias
from nlpcli.attention.hooks import Recorder, apart, recorded
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import Full
from nlpcli.attention.score_functions import SCORES, Score
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.layers.linear import Linear
from nlpcli.layers.norms import RMSNorm
from nlpcli.layers.positions import Rotary, RotaryPositions

_NO_MASK = AttentionMask()


@dataclass(frozen=True)
class AttentionSettings:
    """The settings of multi-head attention, the same for self-attention and cross-attention of a layer.

    kv_heads: heads of keys and values, each for heads / kv_heads heads of queries in turn (Ainslie et al. 2023); None:
    as many as `heads`. d_key, d_value: of one head; None: d_model / heads, and d_model for the values whose mean is
    taken. bias: of the projections. dropout: of the weights. qk_norm: queries and keys are normalized, with `norm_eps`.
    score: of a query and a key, a name in `nlpcli.attention.score_functions.SCORES`. aggregation: how heads become one
    vector: concatenation and a projection, concatenation alone (heads · d_value = d_model), or the mean (d_value =
    d_model).
    """

    heads: int
    kv_heads: int | None = None
    d_key: int | None = None
    d_value: int | None = None
    bias: bool = False
    dropout: float = 0.0
    qk_norm: bool = False
    norm_eps: float = 1e-5
    score: str = "scaled-dot"
    aggregation: Literal["projection", "concat", "mean"] = "projection"


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 … head_h) W^O (Vaswani et al. 2017, section 3.2.2): a `SequenceMixer`.

    Scores that are inner products of what they make of query and key go through the same core, exactly; the core of
    others is `ScoredAttention`. Without W^O heads are concatenated, or their mean is taken (`AttentionSettings`).

    rotary: how queries and keys are turned by their positions; True: as in the paper. pattern: which keys a query may
    attend to in self-attention, in addition to a call's mask. core: computes contexts from queries, keys and
    values; None: softmax attention. own_keys: False: the keys of self-attention are its queries; own_queries: False:
    it has neither, and the core gets queries and keys without numbers. gates: how many numbers each head of keys gets
    for each token besides; they stand behind the key.
    `recorder` is None, or gets the weights (rows, heads, n, m) of each call, to record them.
    """

    def __init__(
        self,
        d_model: int,
        settings: AttentionSettings,
        *,
        rotary: bool | Rotary | None = None,
        pattern: Pattern = Full(),
        core: AttentionCore[Any] | None = None,
        own_queries: bool = True,
        own_keys: bool = True,
        gates: int = 0,
    ) -> None:
        super().__init__()
        bias = settings.bias
        self.heads = settings.heads
        self.kv_heads = settings.kv_heads or settings.heads
        self.d_key = settings.d_key or d_model // settings.heads
        whole = settings.aggregation == "mean"
        self.d_value = settings.d_value or (d_model if whole else d_model // settings.heads)
        self.query = Linear(d_model, self.heads * self.d_key, bias=bias) if own_queries else None
        self.key = Linear(d_model, self.kv_heads * self.d_key, bias=bias) if own_queries and own_keys else None
        self.gates = Linear(d_model, self.kv_heads * gates, bias=bias) if gates else None
        self.value = Linear(d_model, self.kv_heads * self.d_value, bias=bias)
        self.output: nn.Linear | None = None
        if settings.aggregation == "projection":
            self.output = Linear(self.heads * self.d_value, d_model, bias=bias)
        self.averages = whole
        turning = Rotary() if rotary is True else rotary
        self.rotary = RotaryPositions(self.d_key, turning) if turning and self.query is not None else None
        self.query_norm = RMSNorm(self.d_key, eps=settings.norm_eps) if settings.qk_norm and self.query else None
        self.key_norm = RMSNorm(self.d_key, eps=settings.norm_eps) if settings.qk_norm and self.key else None
        self.dropout = settings.dropout
        self.score: Score | None = None
        if settings.score not in ("dot", "scaled-dot"):
            self.score = SCORES[settings.score](self.d_key, self.d_key, heads=self.heads)
        # Any: a core takes the state that it has made
        self.core: AttentionCore[Any] = core or SoftmaxAttention(scale=settings.score == "scaled-dot")
        if self.score is not None and not self.score.is_product:
            self.core = ScoredAttention(self.score)
        self.pattern = pattern
        self._mask = AttentionMask(pattern)
        self.recorder: Recorder | None = None

    def project_memory(self, memory: Tensor, start: int = 0) -> KeyValue:
        """Keys and values of `memory` (batch, m, d_model), whose first position is `start`."""
        if self.key is None:
            return self._with_values(self._query(memory, start), memory)
        key = split_heads(self.key(memory), self.kv_heads)
        if self.key_norm is not None:
            key = self.key_norm(key)
        if self.rotary is not None:
            key = self.rotary(key, start)
        if self.score is not None:
            key = self.score.keys(key)
        return self._with_values(key, memory)

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask | None = None,
        *,
        bias: ScoreBias | None = None,
        memory: KeyValue | None = None,
        width: int = 1,
    ) -> Tensor:
        """A whole text x (rows, n, d_model) attends to itself, or to `memory` -> (rows, n, d_model).

        With a memory the layer's pattern does not apply. `width` consecutive rows of x share one row of `memory` (the
        beam of one source sentence); then the mask has no pattern, documents or permutation.
        """
        given = _NO_MASK if mask is None else mask
        query = self._query(x, 0)
        if memory is None:
            memory = self.project_memory(x) if self.key is not None else self._with_values(query, x)
            given = self._mask if mask is None else mask.within(self.pattern)
        rows, heads, n, d_key = query.shape
        if width > 1:
            query = query.view(rows // width, width, heads, n, d_key).transpose(1, 2)
            query = query.reshape(rows // width, heads, width * n, d_key)
        dropout = self.dropout if self.training else 0.0
        if self.recorder is None:
            found = self.core.forward(query, memory.key, memory.value, given, bias=bias, dropout=dropout)
            return self._merged(apart(found, width))
        weights = apart(self.core.weights(query, memory.key, given, bias=bias), width)

        def context() -> Tensor:
            found = self.core.forward(query, memory.key, memory.value, given, bias=bias, dropout=dropout)
            return apart(found, width)

        return self._merged(recorded(self.recorder, weights, memory.value, context, dropout=dropout))

    def start(self) -> DecodingState:
        """The state of self-attention before the first position."""
        return self.core.start(self._mask)

    def step(self, x: Tensor, state: DecodingState, *, bias: ScoreBias | None = None) -> tuple[Tensor, DecodingState]:
        """The positions x (rows, n, d_model) after those of `state`, and the state after them."""
        query = self._query(x, state.length)
        new = self.project_memory(x, state.length) if self.key is not None else self._with_values(query, x)
        if self.recorder is not None:
            weights = self.core.weights(query, new.key, self._mask, bias=bias, state=state)
            self.recorder.append(weights.detach())
        context, after = self.core.step(query, new.key, new.value, state, self._mask, bias=bias)
        return self._merged(context), after

    def _with_values(self, key: Tensor, memory: Tensor) -> KeyValue:
        if self.gates is not None:
            key = torch.cat((key, split_heads(self.gates(memory), self.kv_heads)), dim=-1)
        return KeyValue(key, split_heads(self.value(memory), self.kv_heads))

    def _query(self, x: Tensor, start: int, by: nn.Linear | None = None) -> Tensor:
        """The queries of x, whose first position is `start`. by: the projection; None: `query`."""
        projection = by or self.query
        if projection is None:
            return x.new_empty(x.size(0), self.heads, x.size(1), 0)
        query = split_heads(projection(x), self.heads)
        if self.query_norm is not None:
            query = self.query_norm(query)
        if self.rotary is not None:
            query = self.rotary(query, start)
        return query if self.score is None else self.score.queries(query)

    def _merged(self, context: Tensor) -> Tensor:
        """(rows, heads, n, d_value) -> (rows, n, d_model)"""
        merged = context.mean(dim=1) if self.averages else context.transpose(1, 2).flatten(2)
        return merged if self.output is None else self.output(merged)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · width) -> (batch, heads, length, width)"""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)  # (batch, heads, length, width)
