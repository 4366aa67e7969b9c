"""Scaled dot-product attention with a softmax over all keys: the core every other one is measured against."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpcli.attention.core import ScoreBias
from nlpcli.attention.key_value_cache import KeyValueCache, Positions
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import Full
from nlpcli.attention.tiled_attention import HALVES, can_merge, tiled_attention
from nlpcli.attention.tiles import LEAST, tiling

_FULL = Full()


class SoftmaxAttention:
    """softmax(Q Kᵀ · scale + bias) V over the keys that the mask allows: an `AttentionCore`.

    scale: whether scores are divided by √d_key. Other scores are subclasses with a `context` and `shares` of their own.
    """

    tiles: ClassVar[bool] = True
    """Whether a local pattern may be computed in tiles."""

    def __init__(self, *, scale: bool = True) -> None:
        self.scale = None if scale else 1.0

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
        n, m = query.size(-2), key.size(-2)
        tiles = None
        if self.tiles and n >= LEAST and mask.permutation is None:
            own_lengths = mask.pattern.depends_on_length and mask.keys is not None
            if own_lengths and n == m and bias is None and bool((mask.lengths() < n).any()):
                return self._by_length(query, key, value, mask, dropout)
            merges = bias is None and not dropout and can_merge(query, value)
            tiles = None
            if not (own_lengths and (n < m or bias is not None)):
                tiles = tiling(mask.pattern, n, m, merges=merges)
        if tiles is not None:
            return tiled_attention(query, key, value, tiles, mask, bias=bias, scale=self.scale, dropout=dropout)
        causal, visible = mask.split(n, m, device=query.device)
        added = None if bias is None else bias.dense(n, m)
        return self.context(query, key, value, visible, added, causal=causal, dropout=dropout)

    def _by_length(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask,
        dropout: float,
    ) -> Tensor:
        """The context of padded rows whose pattern depends on their lengths: rows of one length at a time."""
        lengths = mask.lengths()
        parts, order = [], []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            found = value.new_zeros(len(rows), query.size(1), length, value.size(-1))
            if length:
                own, keys, values = (x[rows, :, :length] for x in (query, key, value))
                found = self.forward(own, keys, values, mask.cut(rows, length), dropout=dropout)
            parts.append(F.pad(found, (0, 0, 0, query.size(2) - length)))
            order.append(rows)
        return torch.cat(parts)[torch.cat(order).argsort()]

    def start(self, mask: AttentionMask) -> KeyValueCache:
        return KeyValueCache(mask.pattern.horizon)

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
        return self.context(query, held.key, held.value, visible, added), after

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
            n, m = query.size(-2), key.size(-2)
            causal, visible = mask.split(n, m, device=query.device)
            added = None if bias is None else bias.dense(n, m)
            return self.shares(query, key, visible, added, causal=causal)
        held, _ = state.append(key, key)
        positions = state.seen_after(key.size(-2))
        visible, added = self._of_step(query, state, mask, bias)
        found = self.shares(query, held.key, visible, added)
        if len(positions) == positions.end:
            return found
        places = positions.tensor(query.device)
        return found.new_zeros(*found.shape[:-1], positions.end).index_copy(-1, places, found)

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
        """The context over the visible keys; bias: a term added to the scores."""
        return softmax_attention(
            query, key, value, attention_mask=visible, causal=causal, bias=bias, scale=self.scale, dropout=dropout
        )

    def shares(
        self, query: Tensor, key: Tensor, visible: Tensor | None, bias: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """The weights of the same."""
        return softmax_weights(query, key, attention_mask=visible, causal=causal, bias=bias, scale=self.scale)

    def _of_step(
        self, query: Tensor, state: KeyValueCache, mask: AttentionMask, bias: ScoreBias | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """The mask of n new queries over the keys after `state`, and the bias of their scores."""
        n = query.size(-2)
        causal, rest = mask.causality
        visible = None
        if rest != _FULL or (causal and n > 1):
            visible = _step_mask(mask.pattern, n, state.seen_after(n), query.device)
        new = Positions(0, state.length, state.length + n)
        return visible, None if bias is None else bias.between(new, state.seen_after(n))


@functools.lru_cache(maxsize=16)
def _step_mask(pattern: Pattern, n: int, positions: Positions, device: torch.device) -> Tensor | None:
    """(n, keys) boolean, True where the last n positions may see the keys at `positions`; None: all.

    Layers share it: it must not be written to.
    """
    with torch.inference_mode(False):  # what was made while translating must serve training, too
        keys = positions.tensor(device)
        found = pattern.allows(keys[-n:, None], keys[None, :], positions.end).expand(n, len(positions))
    return None if found.device.type != "meta" and bool(found.all()) else found


def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attention_mask: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(Q Kᵀ / √d_k + bias) V (Vaswani et al. 2017, eq. 1) through PyTorch's fused kernels.

    Shapes: query (batch, heads, n, d_key), key (batch, kv_heads, m, d_key), value (batch, kv_heads, m, d_value), where
    a head of keys and values serves heads / kv_heads consecutive heads of queries;
    attention_mask: boolean, True = may attend, and bias: added to the scores, both broadcast to (batch, heads, n, m).
    `causal` lets query i see the keys up to i + m - n: the last query sees everything.
    Returns: (batch, heads, n, d_value). A query that may see nothing gives zeros.
    """
    if query.device.type == "cpu" and query.dtype in HALVES and query.requires_grad:
        return _in_float32(query, key, value, attention_mask, causal, bias, scale, dropout)
    n, m = query.size(-2), key.size(-2)
    if causal and n == 1:
        causal = False
    if causal and (n != m or attention_mask is not None or bias is not None):
        lower = causal_mask(n, m, device=query.device)
        attention_mask = lower if attention_mask is None else attention_mask & lower
        causal = False
    mask = attention_mask
    if bias is not None:
        mask = bias.to(query.dtype)
        if attention_mask is not None:
            mask = mask.masked_fill(~attention_mask, float("-inf"))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale,
        enable_gqa=key.size(1) != query.size(1),
    )  # fmt: skip


def _in_float32(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    causal: bool,
    bias: Tensor | None,
    scale: float | None,
    dropout: float,
) -> Tensor:
    """On a CPU the fused kernel's backward pass takes ten times longer in half precision than in float32."""
    with torch.autocast("cpu", enabled=False):
        context = softmax_attention(
            query.float(), key.float(), value.float(), attention_mask=attention_mask, causal=causal, bias=bias,
            scale=scale, dropout=dropout,
        )  # fmt: skip
    return context.to(query.dtype)


def softmax_weights(
    query: Tensor,
    key: Tensor,
    *,
    attention_mask: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The weights `softmax_attention` applies: (batch, heads, n, m), rows sum to one, or to zero where nothing is seen.

    The same kernel is given the identity for values, so what is drawn is what was used.
    """
    batch, heads, m = key.size(0), key.size(1), key.size(2)
    identity = torch.eye(m, dtype=query.dtype, device=query.device).expand(batch, heads, m, m)
    return softmax_attention(query, key, identity, attention_mask=attention_mask, causal=causal, bias=bias, scale=scale)


def causal_mask(n: int, m: int, *, device: torch.device | str = "cpu") -> Tensor:
    """(n, m) boolean, True where query i may see key j: j <= i + m - n."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)
