"""Shared by the packed encoder and decoder: weights laid out for decoding, without calls of modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlpcli.attention.multi_head import MultiHeadAttention
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.linear import FrozenLinear, Linear
from nlpcli.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from nlpcli.models.stack import TransformerLayer

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class QueryKeyTransform:
    """Queries and keys after their norms and rotary positions, where a layer has them."""

    query_norm: Norm
    key_norm: Norm
    rotary: RotaryPositions | None
    kv_heads: int

    def __call__(self, query: Tensor, new: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """query (rows, n, heads, d_head), new (rows, n, 2 · kv_heads, d_head): keys, then values; the same, changed."""
        query, key = self.query_norm(query), self.key_norm(new[:, :, : self.kv_heads])
        if self.rotary is not None:
            query, key = (self.rotary(x.transpose(1, 2), start).transpose(1, 2) for x in (query, key))
        return query, torch.cat((key, new[:, :, self.kv_heads :]), dim=2)


@dataclass(frozen=True)
class PackedFeedForward:
    """A feed-forward layer: of a gated one, gate and inner are one product; relu is part of it."""

    inner: FrozenLinear
    outer: FrozenLinear
    activation: Callable[[Tensor], Tensor] | None
    gated: bool

    @classmethod
    def of(cls, feed: FeedForward) -> PackedFeedForward:
        gated, relu = feed.gate is not None, feed.activation is F.relu
        layers = [feed.inner] if feed.gate is None else [feed.gate, feed.inner]
        return cls(
            inner=FrozenLinear(*layers, relu=relu and not gated),
            outer=FrozenLinear(feed.outer),
            activation=None if relu and not gated else feed.activation,
            gated=gated,
        )

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """to + FFN(x): (rows, d_model)."""
        y = self.inner(x)
        if self.gated:
            gate, y = y.chunk(2, dim=-1)
            assert self.activation is not None
            y = self.activation(gate) * y
        elif self.activation is not None:
            y = self.activation(y)
        return self.outer(y, to)


@dataclass(frozen=True)
class PackedLayer:
    """Self-attention and feed-forward layer. query_key_value: one product."""

    query_key_value: FrozenLinear
    output: FrozenLinear
    norm: Norm
    feed_forward: PackedFeedForward
    feed_norm: Norm
    turned: QueryKeyTransform | None

    @classmethod
    def of(cls, layer: TransformerLayer) -> PackedLayer:
        own = layer.self_attention
        return cls(
            query_key_value=frozen(own.query, own.key, own.value),
            output=frozen(own.output),
            norm=norm_function(layer.self_attention_norm),
            feed_forward=PackedFeedForward.of(layer.feed_forward),
            feed_norm=norm_function(layer.feed_forward_norm),
            turned=turned(own),
        )


class PackedEmbedding:
    """ids (rows, n) -> the first hidden states (rows · n, d_model), as `Embedding` gives them."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding
        self._weight, self._scale = embedding.tokens.weight, embedding.scale
        kinds = (SinusoidalPositions, LearnedPositions)
        plain = embedding.segments is None and embedding.norm is None and embedding.projection is None
        self._positions = embedding.positions if plain and isinstance(embedding.positions, kinds) else None

    def __call__(self, ids: Tensor, start: int = 0) -> Tensor:
        """start: the position of the first of the n."""
        if self._positions is None:
            return self._embedding(ids, start).flatten(0, 1)
        weight, n = self._weight, ids.size(1)
        positions = self._positions.forward(n, start).to(weight.dtype)
        if n == 1 or ids.size(0) == 1:
            return torch.add(positions, weight.index_select(0, ids.flatten()), alpha=self._scale)
        return torch.add(positions, F.embedding(ids, weight), alpha=self._scale).flatten(0, 1)


_LEAST_PRODUCT = 400  # multiplications: PyTorch computes smaller products of a batch in plain loops
_LEAST_ROWS, _MOST_QUERIES = 4, 16


def few_queries(rows: int, n: int, m: int, width: int, like: Tensor) -> bool:
    """Whether a CPU computes `attention_by_products` of n queries with m keys of this width in less time than by
    PyTorch's kernel, which is made for long texts. like: numbers on their device and of their type."""
    return (
        rows >= _LEAST_ROWS
        and n <= _MOST_QUERIES
        and n * m * width >= _LEAST_PRODUCT
        and like.device.type == "cpu"
        and like.dtype == torch.float32
        and torch.backends.mkl.is_available()
    )


def attention_by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) V as three operations: (rows, heads, n, d_head), as many heads of keys and values.

    mask (rows, 1, 1, m) or None; scale: None for 1 / √d_head.
    """
    rows, heads, n, width = query.shape
    m = key.size(2)
    queries, keys, values = query.reshape(-1, n, width), key.flatten(0, 1), value.flatten(0, 1)
    factor = width**-0.5 if scale is None else scale
    if mask is None:
        scores = torch.baddbmm(query.new_empty(1, 1, 1), queries, keys.transpose(1, 2), beta=0, alpha=factor)
    else:
        added = mask.expand(rows, heads, n, m).reshape(-1, n, m)
        scores = torch.baddbmm(added, queries, keys.transpose(1, 2), alpha=factor)
    return torch.bmm(scores.softmax(-1), values).view(rows, heads, n, width)


def usual(attention: MultiHeadAttention) -> bool:
    """Whether it is scaled dot-product attention with linear projections, and nothing else but norms and rotation."""
    a = attention
    return (
        type(a) is MultiHeadAttention
        and type(a.core) is SoftmaxAttention
        and a.score is None
        and a.gates is None
        and all(type(module) is Linear for module in (a.query, a.key, a.value, a.output))
        and a.d_key == a.d_value
    )


def turned(attention: MultiHeadAttention) -> QueryKeyTransform | None:
    a = attention
    if a.rotary is None and a.query_norm is None and a.key_norm is None:
        return None
    return QueryKeyTransform(a.query_norm or nn.Identity(), a.key_norm or nn.Identity(), a.rotary, a.kv_heads)


def frozen(*modules: nn.Linear | None) -> FrozenLinear:
    return FrozenLinear(*(module for module in modules if module is not None))


def norm_function(module: nn.Module | None) -> Norm:
    """The function of a norm, without the calls of a module."""
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = list(module.normalized_shape), module.weight, module.bias, module.eps
        kernel = torch.native_layer_norm
        return lambda x: kernel(x, shape, weight, bias, eps)[0]
    assert module is not None
    return module  # RMSNorm, and the identity of a stack without a first norm
