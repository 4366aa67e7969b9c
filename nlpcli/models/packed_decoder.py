"""A Transformer's decoder with as few and as large operations a step as possible, for decoding alone.

At the sizes that are decoded on a CPU a step costs calls, not products. So the projections of query, key and value are
one product, the cache of all layers is one tensor that is written in place, and no module is called. What a layer looks
at of a single source becomes two matrices (`PackedSources.folded`). The numbers are those of the model; `packed` gives
the model itself where it has something that is not foreseen here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.patterns import Causal
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.layers.linear import FrozenVocabulary
from nlpcli.models.decodable import Decodable
from nlpcli.models.decoder_state import Memory
from nlpcli.models.packed_encoder import PackedEncoder, can_pack_encoder
from nlpcli.models.packed_layers import (
    PackedEmbedding,
    PackedLayer,
    attention_by_products,
    few_queries,
    norm_function,
    turned,
    usual,
)
from nlpcli.models.packed_sources import PackedSources, SourceProjections
from nlpcli.models.stack import TransformerLayer
from nlpcli.models.transformer import Decoder, EncoderDecoder

_attention = nn.functional.scaled_dot_product_attention
_ROOM = 16
"""A cache gets room for so many positions and an eighth of its length at once: all of it is copied in a beam search."""


@dataclass
class PackedState:
    """The decoding state: the keys and values of all layers in cache (capacity, 2 · layers, rows, kv_heads · d_head),
    whose first `length` positions are taken, and the projected sources. spare: memory for the next
    order of rows; memory that is new to the process costs more than to write it. places: where the rows are among those
    of the cache, which has rows that were dropped, too; None: they are all of them. wasted: steps of dropped rows."""

    length: int
    cache: Tensor
    sources: PackedSources | None
    spare: Tensor | None = None
    places: Tensor | None = None
    wasted: int = 0

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
        stack = model.decoder
        attention = stack.layers[0].self_attention
        self._heads, self._kv_heads, self._width = attention.heads, attention.kv_heads, attention.d_key
        self._scale = cast("SoftmaxAttention", attention.core).scale
        self._pre = stack.layers[0].pre_norm
        self._last = norm_function(stack.norm) if stack.norm is not None else None
        self._encode = self._source_projections = None
        with torch.inference_mode():
            self._embedding = PackedEmbedding(model.decoder_embedding)
            self._layers = [PackedLayer.of(layer) for layer in stack.layers]
            self._logits = FrozenVocabulary(model.output_weight, model.output_bias)
            if isinstance(model, EncoderDecoder):
                self._source_projections = SourceProjections(list(stack.layers))
                self._encode = PackedEncoder(model) if can_pack_encoder(model) else model.encode

    # --- what is not decoding is the model's

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Memory:
        assert self._encode is not None
        return self._encode(source, source_mask)

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        return cast("EncoderDecoder", self.model).hidden(source, source_mask, target)

    def __getattr__(self, name: str) -> Any:  # whatever the model has
        return getattr(self.model, name)

    # --- decoding

    @torch.inference_mode()
    def init_state(self, memory: Any) -> PackedState:
        """See `Decodable`. memory: of an encoder-decoder what `encode` gives; of a decoder the number of rows."""
        if isinstance(memory, int):
            return PackedState(0, self._room(memory, 0), None)
        assert self._source_projections is not None
        return PackedState(0, self._room(memory.states.size(0), 0), self._source_projections.sources(memory))

    @torch.inference_mode()
    def step(self, tokens: Tensor, state: PackedState) -> tuple[Tensor, PackedState]:
        """See `Decodable.step`."""
        hidden, state = self._read_rows(tokens, state)
        return self._logits(hidden), state

    @torch.inference_mode()
    def most_probable(self, tokens: Tensor, state: PackedState, never: Tensor) -> tuple[Tensor, PackedState]:
        """As `step`, but the most probable tokens (rows,) instead of logits; never: ids that are not chosen."""
        hidden, state = self._read_rows(tokens, state)
        return self._logits.best(hidden, never), state

    def _read_rows(self, tokens: Tensor, state: PackedState) -> tuple[Tensor, PackedState]:
        """As `_read`, for the rows that were not dropped."""
        places = state.places
        if places is None:
            return self._read(tokens, state)
        given = tokens.new_zeros(state.cache.size(2), tokens.size(1)).index_copy_(0, places, tokens)
        hidden, after = self._read(given, state)
        wasted = state.wasted + len(given) - len(tokens)
        return hidden.index_select(0, places), replace(after, places=places, wasted=wasted)

    def _read(self, tokens: Tensor, state: PackedState) -> tuple[Tensor, PackedState]:
        """The hidden states (rows, d_model) that predict what follows the tokens (rows, n)."""
        rows, n = tokens.shape
        heads, kv_heads, width, length = self._heads, self._kv_heads, self._width, state.length
        end, queries = length + n, heads * width
        cache = state.cache
        if end > cache.size(0):
            cache = self._room(rows, end)
            cache[:length] = state.cache[:length]
        x, pre, sources = self._embedding(tokens, length), self._pre, state.sources
        visible = _lower(n, end, x.device) if n > 1 else None
        # for each layer (rows, n, 2, kv_heads · d_head), and for each its keys and values (rows, kv_heads, end, d_head)
        room = cache[length:end].view(n, -1, 2, rows, kv_heads * width).permute(1, 3, 0, 2, 4).unbind(0)
        known = cache[:end].view(end, -1, rows, kv_heads, width).permute(1, 2, 3, 0, 4).unbind(0)
        by_products = n == 1 and heads == kv_heads and few_queries(rows, n, end, width, x)
        shape, parts = (rows, n, 2, kv_heads * width), (queries, 2 * kv_heads * width)
        for number, layer in enumerate(self._layers):
            query, new = layer.query_key_value(layer.norm(x) if pre else x).split_with_sizes(parts, 1)
            if layer.turned is not None:
                query, new = layer.turned(
                    query.view(rows, n, heads, width), new.view(rows, n, 2 * kv_heads, width), length
                )
                query = query.flatten(2)
            room[number].copy_(new.reshape(shape))
            query = (
                query.view(rows, heads, 1, width) if n == 1 else query.reshape(rows, n, heads, width).transpose(1, 2)
            )
            key, value = known[2 * number], known[2 * number + 1]
            if by_products:
                y = attention_by_products(query, key, value, None, self._scale)
            else:
                y = _attention(query, key, value, attn_mask=visible, scale=self._scale, enable_gqa=heads != kv_heads)
            y = y if n == 1 else y.transpose(1, 2)
            x = layer.output(y.reshape(rows * n, queries), x)
            if not pre:
                x = layer.norm(x)
            if sources is not None:
                assert self._source_projections is not None
                x = self._source_projections.attend(x, number, sources)
            x = layer.feed_forward.added(layer.feed_norm(x) if pre else x, x)
            if not pre:
                x = layer.feed_norm(x)
        x = x if n == 1 else x.view(rows, n, -1)[:, -1]
        if self._last is not None:
            x = self._last(x)
        if self.model.output_scale != 1.0:
            x = x * self.model.output_scale
        return x, PackedState(end, cache, sources, state.spare)

    @torch.inference_mode()
    def reorder(self, state: PackedState, index: Tensor, width: int = 1) -> PackedState:
        """See `Decodable.reorder`. Dropped rows stay until to read them has cost what it costs to copy the others."""
        if state.places is not None or (width == 1 and 1 < index.numel() < state.cache.size(2)):
            places = index if state.places is None else state.places.index_select(0, index)
            if width == 1 and state.wasted < places.numel() and bool((places[1:] > places[:-1]).all()):
                return replace(state, places=places)
            index = places
        sources = None if state.sources is None else state.sources.select(index, width)
        rows, cache, length = index.numel(), state.spare, state.length
        if cache is None or cache.size(2) != rows or cache.size(0) <= length:
            cache = self._room(rows, length + 1)
        torch.index_select(state.cache[:length], 2, index, out=cache[:length])
        return PackedState(length, cache, sources, state.cache if state.cache.size(2) == rows else None)

    def _room(self, rows: int, positions: int) -> Tensor:
        """A cache for so many positions and some more."""
        weight, capacity = self.model.output_weight, positions + _ROOM + positions // 8
        return weight.new_empty(capacity, 2 * len(self._layers), rows, self._kv_heads * self._width)


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
    plain = cross is None or (usual(cross) and turned(cross) is None and cross.heads == cross.kv_heads)
    return plain and not layer.parallel_residual and own.pattern == Causal() and usual(own)


def _lower(n: int, m: int, device: torch.device) -> Tensor:
    """(n, m): which of m positions the last n may see."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)
