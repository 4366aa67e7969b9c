"""A Transformer's decoder with as few and as large operations a step as possible, for decoding alone.

At the sizes that are decoded on a CPU a step costs calls, not products. So the projections of query, key and value are
one product, the cache of all layers is one tensor that is written in place, and no module is called. The numbers are
those of the model; `packed` gives the model itself where it has something that is not foreseen here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.multi_head import MultiHeadAttention
from nlpcli.attention.patterns import Causal
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.layers.linear import FrozenLinear, FrozenVocabulary, Linear
from nlpcli.layers.positions import RotaryPositions
from nlpcli.models.decodable import Decodable
from nlpcli.models.decoder_state import CrossMemory
from nlpcli.models.stack import TransformerLayer
from nlpcli.models.transformer import Decoder, EncoderDecoder

_attention = nn.functional.scaled_dot_product_attention
_ROOM = 16
"""A cache gets room for so many positions and an eighth of its length at once: all of it is copied in a beam search."""
Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Turned:
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
class _Layer:
    """A layer's weights. query_key_value: one product; cross_query, cross_output: of the attention to a source."""

    query_key_value: FrozenLinear
    output: FrozenLinear
    norm: Norm
    inner: FrozenLinear
    outer: FrozenLinear
    feed_norm: Norm
    activation: Callable[[Tensor], Tensor]
    gated: bool
    turned: _Turned | None = None
    cross_query: FrozenLinear | None = None
    cross_output: FrozenLinear | None = None
    cross_norm: Norm | None = None


@dataclass
class PackedState:
    """What was read: the keys and values of all layers in cache (capacity, layers, rows, 2, kv_heads, d_head), of which
    the first `length` positions are taken, and what is looked at of the sources. spare: memory for the next order of
    rows; memory that is new to the process costs more than to write it."""

    length: int
    cache: Tensor
    layers: tuple[Tensor, ...]  # the cache's parts by layer, as views
    memory: CrossMemory | None
    spare: Tensor | None = None

    @classmethod
    def of(cls, length: int, cache: Tensor, memory: CrossMemory | None, spare: Tensor | None = None) -> PackedState:
        return cls(length, cache, cache.unbind(1), memory, spare)

    def bytes(self) -> int:
        """The memory that the target read so far takes."""
        return self.cache.nbytes


class PackedDecoder:
    """A `Decodable`, and the `TranslationModel` of an encoder-decoder.

    It has the weights that the model had when this was made: of a model that is trained on, make another one.
    """

    def __init__(self, model: EncoderDecoder | Decoder) -> None:
        self.model = model
        self.max_length = model.max_length
        self._stack = model.decoder
        attention = self._stack.layers[0].self_attention
        self._heads, self._kv_heads, self._width = attention.heads, attention.kv_heads, attention.d_key
        self._scale = cast("SoftmaxAttention", attention.core).scale
        self._pre = self._stack.layers[0].pre_norm
        self._last = _norm(self._stack.norm) if self._stack.norm is not None else None
        with torch.inference_mode():
            self._packed = [_packed_layer(layer) for layer in self._stack.layers]
            self._logits = FrozenVocabulary(model.output_weight, model.output_bias)

    # --- what is not decoding is the model's

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> object:
        return cast("EncoderDecoder", self.model).encode(source, source_mask)

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        return cast("EncoderDecoder", self.model).hidden(source, source_mask, target)

    def __getattr__(self, name: str) -> Any:  # whatever the model has
        return getattr(self.model, name)

    # --- decoding

    def init_state(self, memory: Any) -> PackedState:
        """See `Decodable`. memory: of an encoder-decoder what `encode` gives; of a decoder the number of rows."""
        source = None if isinstance(memory, int) else cast("EncoderDecoder", self.model)._cross(memory)
        rows = memory if isinstance(memory, int) else memory.states.size(0)
        return PackedState.of(0, self._room(rows, 0), source)

    @torch.inference_mode()
    def step(self, tokens: Tensor, state: PackedState) -> tuple[Tensor, PackedState]:
        """See `Decodable.step`."""
        rows, n = tokens.shape
        heads, kv_heads, width, length = self._heads, self._kv_heads, self._width, state.length
        end = length + n
        if end > state.cache.size(0):
            cache = self._room(rows, end)
            cache[:length] = state.cache[:length]
            state = PackedState.of(length, cache, state.memory)
        x = self.model.decoder_embedding(tokens, length).flatten(0, 1)
        memory, pre = state.memory, self._pre
        visible = _lower(n, end, x.device) if n > 1 else None
        for number, layer in enumerate(self._packed):
            y = layer.norm(x) if pre else x
            found = layer.query_key_value(y).view(rows, n, heads + 2 * kv_heads, width)
            query, new = found[:, :, :heads], found[:, :, heads:]
            if layer.turned is not None:
                query, new = layer.turned(query, new, length)
            own = state.layers[number]
            own[length:end].copy_(new.unflatten(2, (2, kv_heads)).transpose(0, 1))
            key, value = own[:end].permute(2, 1, 3, 0, 4).unbind(0)  # (rows, kv_heads, end, d_head)
            grouped = heads != kv_heads
            y = _attention(query.transpose(1, 2), key, value, attn_mask=visible, scale=self._scale, enable_gqa=grouped)
            y = y.transpose(1, 2).reshape(rows * n, heads * width)
            x = x + layer.output(y)
            if not pre:
                x = layer.norm(x)
            if memory is not None:
                x = self._cross(x, layer, memory, number, rows, n)
            y = layer.feed_norm(x) if pre else x
            y = layer.inner(y)
            if layer.gated:
                gate, y = y.chunk(2, dim=-1)
                y = layer.activation(gate) * y
            else:
                y = layer.activation(y)
            x = x + layer.outer(y)
            if not pre:
                x = layer.feed_norm(x)
        x = x.view(rows, n, -1)[:, -1]
        if self._last is not None:
            x = self._last(x)
        if self.model.output_scale != 1.0:
            x = x * self.model.output_scale
        return self._logits(x), PackedState(end, state.cache, state.layers, memory, state.spare)

    def _cross(self, x: Tensor, layer: _Layer, memory: CrossMemory, number: int, rows: int, n: int) -> Tensor:
        """x (rows · n, d_model) after attention to the source."""
        assert layer.cross_query is not None and layer.cross_output is not None and layer.cross_norm is not None
        pre, heads, width, beam = self._pre, self._heads, self._width, memory.width
        y = layer.cross_norm(x) if pre else x
        query = layer.cross_query(y)
        query = query.view(rows // beam, beam * n, heads, width).transpose(1, 2)  # (sources, heads, beam · n, d_head)
        source = memory.layers[number]
        keys = None if memory.mask is None else memory.mask.keys
        visible = None if keys is None else keys[:, None, None, :]
        y = _attention(query, source.key, source.value, attn_mask=visible, scale=self._scale)
        y = y.transpose(1, 2).reshape(rows * n, heads * width)
        x = x + layer.cross_output(y)
        return x if pre else layer.cross_norm(x)

    @torch.inference_mode()
    def reorder(self, state: PackedState, index: Tensor, width: int = 1) -> PackedState:
        """See `Decodable.reorder`."""
        memory = None if state.memory is None else state.memory.select(index, width)
        rows, cache, length = index.numel(), state.spare, state.length
        if cache is None or cache.size(2) != rows or cache.size(0) <= length:
            cache = self._room(rows, length + 1)
        torch.index_select(state.cache[:length], 2, index, out=cache[:length])
        return PackedState.of(length, cache, memory, state.cache if state.cache.size(2) == rows else None)

    def _room(self, rows: int, positions: int) -> Tensor:
        """A cache for so many positions and some more."""
        weight, capacity = self.model.output_weight, positions + _ROOM + positions // 8
        return weight.new_empty(capacity, len(self._packed), rows, 2, self._kv_heads, self._width)


def packed(model: Decodable) -> Decodable:
    """The packed decoder of a model, or the model itself where it can't be packed."""
    if type(model) not in (Decoder, EncoderDecoder):
        return model
    stack = cast("Decoder", model).decoder
    if stack.positions is not None or stack.reversible or not all(_fits(layer) for layer in stack.layers):
        return model
    return PackedDecoder(cast("Decoder", model))


def _fits(layer: TransformerLayer) -> bool:
    own, cross = layer.self_attention, layer.cross_attention
    plain = cross is None or (_is_usual(cross) and _turned(cross) is None and cross.heads == cross.kv_heads)
    return plain and not layer.parallel_residual and own.pattern == Causal() and _is_usual(own)


def _is_usual(attention: MultiHeadAttention) -> bool:
    a = attention
    return (
        type(a) is MultiHeadAttention
        and type(a.core) is SoftmaxAttention
        and a.score is None
        and a.gates is None
        and all(type(module) is Linear for module in (a.query, a.key, a.value, a.output))
        and a.d_key == a.d_value
    )


def _packed_layer(layer: TransformerLayer) -> _Layer:
    own, cross, feed = layer.self_attention, layer.cross_attention, layer.feed_forward
    return _Layer(
        query_key_value=_frozen(own.query, own.key, own.value),
        output=_frozen(own.output),
        norm=_norm(layer.self_attention_norm),
        inner=_frozen(feed.gate, feed.inner),
        outer=_frozen(feed.outer),
        feed_norm=_norm(layer.feed_forward_norm),
        activation=feed.activation,
        gated=feed.gate is not None,
        cross_query=None if cross is None else _frozen(cross.query),
        cross_output=None if cross is None else _frozen(cross.output),
        turned=_turned(own),
        cross_norm=None if layer.cross_attention_norm is None else _norm(layer.cross_attention_norm),
    )


def _turned(attention: MultiHeadAttention) -> _Turned | None:
    a = attention
    if a.rotary is None and a.query_norm is None and a.key_norm is None:
        return None
    return _Turned(a.query_norm or nn.Identity(), a.key_norm or nn.Identity(), a.rotary, a.kv_heads)


def _frozen(*modules: nn.Linear | None) -> FrozenLinear:
    return FrozenLinear(*(module for module in modules if module is not None))


def _norm(module: nn.Module | None) -> Norm:
    """The function of a norm, without the calls of a module."""
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = list(module.normalized_shape), module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
    assert module is not None
    return module  # RMSNorm, and the identity of a stack without a first norm


def _lower(n: int, m: int, device: torch.device) -> Tensor:
    """(n, m): which of m positions the last n may see."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)
