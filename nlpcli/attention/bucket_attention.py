"""Attention within buckets: a position sees the nearest positions that are in its bucket, and no others.

    context_i = Σ_j softmax_j(q_i · k_j / |k_j|) v_j        j: in the bucket of i in some round, and near to i in it

Queries and keys are one projection (Kitaev et al. 2020): the keys are the queries, divided by their lengths. So the
score of a position and itself is the largest, and it sees itself only where it sees nothing else.

"Near" is counted within the bucket: fewer than W places away, to the left alone in a decoder. So, unlike with the
chunks of the papers, no context depends on later tokens or on padding, a text can have any length, and a decoder
remembers the last W keys of each bucket and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from nlpcli.attention.bucket_layout import SELF, ranks
from nlpcli.attention.bucket_state import BucketState, visible_within
from nlpcli.attention.bucket_tiles import bucket_attention
from nlpcli.attention.core import ScoreBias
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Full, split_causal
from nlpcli.attention.recomputation_cache import choice

_AT_ONCE = 64
"""New positions that a step reads at a time, after a state."""


class BucketAttention(ABC):
    """An `AttentionCore` whose subclasses assign each position to a bucket, in each of several rounds.

    count: of buckets. window: a position sees those of its bucket fewer than `window` places away. The bucket of a
    position is that of its key.
    """

    def __init__(self, count: int, window: int) -> None:
        super().__init__()
        self.count = count
        self.window = window

    @abstractmethod
    def buckets(self, key: Tensor) -> Tensor:
        """The buckets of keys (rows, heads, m, d_key), numbers below `count`: (rows, heads, rounds, m)."""

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
        return self.attend(query, key, value, mask, self._buckets(key))

    def start(self, mask: AttentionMask) -> BucketState:
        return BucketState(window=self.window)

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: BucketState,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, BucketState]:
        buckets = self._buckets(key)
        keys = normalized(key)
        state = state.with_room(self.count, buckets, keys, value)
        if not state.length:
            return self.attend(query, key, value, mask, buckets), state.append(buckets, keys, value)
        contexts = []
        for start in range(0, query.size(2), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            q, k, v = (_exact(x[:, :, part]) for x in (query, keys, value))
            before, values, _, among = state.attend(q, k, v, buckets[..., part])
            contexts.append((before[..., None, :] @ _exact(values)).squeeze(3) + among @ v)
            state = state.append(buckets[..., part], k, v)
        return torch.cat(contexts, dim=2).to(query.dtype), state

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: BucketState | None = None,
    ) -> Tensor:
        buckets, keys, q = self._buckets(key), _exact(normalized(key)), _exact(query)
        n = query.size(2)
        if state is not None and state.length:
            before, _, positions, among = state.attend(q, keys, keys, buckets)
            found = before.new_zeros(*before.shape[:-1], state.length)
            found = found.scatter_add(-1, positions.clamp(min=0), before)
            return torch.cat((found, among), dim=-1).to(query.dtype)
        causal, tokens = _parts(mask)
        if tokens is not None:
            buckets = buckets.where(tokens[:, None, None], self.count)
        visible = visible_within(buckets, ranks(buckets, self.count + 1)[0], self.window, causal=causal)
        own = torch.where(torch.eye(n, dtype=torch.bool, device=query.device), SELF, 0.0).to(q.dtype)
        weights = (q @ keys.transpose(2, 3) + own).masked_fill(~visible, float("-inf")).softmax(-1)
        return (weights if tokens is None else weights * tokens[:, None, :, None]).to(query.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, buckets: Tensor) -> Tensor:
        """The context of a whole text whose positions are in these buckets."""
        causal, tokens = _parts(mask)
        rows, heads = query.shape[:2]
        if tokens is not None:
            tokens = tokens.repeat_interleave(heads, dim=0)
        q, k, v, own = (x.flatten(0, 1) for x in (_exact(query), normalized(key), _exact(value), buckets))
        found = bucket_attention(q, k, v, own, self.count, self.window, causal=causal, tokens=tokens)
        return found.unflatten(0, (rows, heads)).to(query.dtype)

    def _buckets(self, key: Tensor) -> Tensor:
        with torch.no_grad():
            small = torch.int16 if self.count < 1 << 15 else torch.int32
            return choice(lambda: self.buckets(_exact(key.detach())).to(small)).long()


def normalized(x: Tensor) -> Tensor:
    """Vectors x (…, width) of length 1, and of length 0 where x is almost 0."""
    x = _exact(x)
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * x.size(-1) ** -0.5


def _exact(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _parts(mask: AttentionMask) -> tuple[bool, Tensor | None]:
    """Whether the mask is causal, and where it has tokens. Raises: ValueError for one that buckets can't keep to."""
    causal, rest = split_causal(mask.pattern)
    if rest != Full() or mask.documents is not None or mask.permutation is not None:
        raise ValueError("attention within buckets does not support patterns, document masks or permutations")
    return causal, mask.keys
