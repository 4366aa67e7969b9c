"""Longformer (Beltagy et al. 2020): a window around each token, and global tokens with projections of their own.

    local query i:   softmax(q_i · K / √d) V over the keys within W/2 positions of i and the global ones
    global query i:  softmax(q'_i · K' / √d) V' over all keys        q', K', V': other matrices than q, K, V

As a global query has other keys and values than a local one (section 3.1, "linear projections for global attention"),
this is a layer and not a core. Where texts are long the window is computed in tiles (`nlpcli.attention.tiles`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlpcli.attention.core import DecodingState, ScoreBias
from nlpcli.attention.hooks import recorded_parts
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention, split_heads
from nlpcli.attention.patterns import Full, Global, Window
from nlpcli.layers.linear import Linear
from nlpcli.layers.positions import Rotary


@dataclass(frozen=True)
class _Part:
    """Consecutive queries (rows, heads, n, d_key), all keys and values as these queries see them, and their mask."""

    query: Tensor
    memory: KeyValue
    mask: AttentionMask


class LongformerAttention(MultiHeadAttention):
    """Multi-head attention whose first `global_tokens` positions are global, the others see W/2 keys on each side.

    window: W, even: W + 1 keys in a row with the own one, as the window is counted in the paper's code. A text that is
    not longer than `global_tokens` is full attention with the projections of global tokens. Norms and rotary positions
    of queries and keys are the same for both kinds of tokens. For encoders: a global token sees what comes later.
    """

    def __init__(
        self,
        window: int,
        global_tokens: int = 1,
        *,
        d_model: int,
        settings: AttentionSettings,
        rotary: bool | Rotary | None = None,
    ) -> None:
        pattern = Window(window // 2 + 1) | Global(global_tokens)
        super().__init__(d_model, settings, rotary=rotary, pattern=pattern)
        self.global_tokens = global_tokens
        self.global_query = Linear(d_model, self.heads * self.d_key, bias=settings.bias)
        self.global_key = Linear(d_model, self.kv_heads * self.d_key, bias=settings.bias)
        self.global_value = Linear(d_model, self.kv_heads * self.d_value, bias=settings.bias)

    @torch.no_grad()
    def begin_as_local(self) -> None:
        """Copies the projections of local tokens to those of global tokens, with which Longformer begins."""
        pairs = (
            (self.global_query, self.query),
            (self.global_key, self.key),
            (self.global_value, self.value),
        )
        for own, local in pairs:
            if local is not None:
                own.load_state_dict(local.state_dict())

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask | None = None,
        *,
        bias: ScoreBias | None = None,
        memory: KeyValue | None = None,
        width: int = 1,
    ) -> Tensor:
        """A whole text x (rows, n, d_model) attends to itself -> (rows, n, d_model). The mask has padding only.

        Raises: ValueError for a memory, a bias, and a mask that it can't keep to.
        """
        if memory is not None or bias is not None or width != 1:
            raise ValueError("Longformer's attention is self-attention without relative positions")
        parts = self._parts(x, mask)
        dropout = self.dropout if self.training else 0.0

        def context() -> Tensor:
            found = [
                self.core.forward(part.query, part.memory.key, part.memory.value, part.mask, dropout=dropout)
                for part in parts
            ]
            return torch.cat(found, dim=2) if len(found) > 1 else found[0]

        if self.recorder is None:
            return self._merged(context())
        weights = [(self.core.weights(part.query, part.memory.key, part.mask), part.memory.value) for part in parts]
        return self._merged(recorded_parts(self.recorder, weights, context, dropout=dropout))

    def start(self) -> DecodingState:
        """Raises: NotImplementedError, always: global tokens see the whole text."""
        raise NotImplementedError("Longformer's global tokens see the whole text; it can't be read step by step")

    def step(self, x: Tensor, state: DecodingState, *, bias: ScoreBias | None = None) -> tuple[Tensor, DecodingState]:
        """Raises: NotImplementedError, always."""
        raise NotImplementedError("Longformer's global tokens see the whole text; it can't be read step by step")

    def _parts(self, x: Tensor, mask: AttentionMask | None) -> list[_Part]:
        """The global queries, and the local ones where there are any."""
        given = AttentionMask() if mask is None else mask
        if given.pattern != Full() or given.documents is not None or given.permutation is not None:
            raise ValueError("Longformer does not support other patterns, document masks or permutations")
        first = min(self.global_tokens, x.size(1))
        parts = [_Part(self._query(x[:, :first], 0, self.global_query), self._global_memory(x), given)]
        if first < x.size(1):
            local = replace(given, pattern=self.pattern)
            parts.append(_Part(self._query(x[:, first:], first), self.project_memory(x), local))
        return parts

    def _global_memory(self, x: Tensor) -> KeyValue:
        """Keys and values of x (rows, n, d_model) as global queries see them."""
        key = split_heads(self.global_key(x), self.kv_heads)
        if self.key_norm is not None:
            key = self.key_norm(key)
        if self.rotary is not None:
            key = self.rotary(key, 0)
        return KeyValue(key, split_heads(self.global_value(x), self.kv_heads))
