"""What the packed encoder and the packed decoder share: weights laid out for decoding, without calls of modules."""

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
class Turned:
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
    turned: Turned | None

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


def turned(attention: MultiHeadAttention) -> Turned | None:
    a = attention
    if a.rotary is None and a.query_norm is None and a.key_norm is None:
        return None
    return Turned(a.query_norm or nn.Identity(), a.key_norm or nn.Identity(), a.rotary, a.kv_heads)


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
