"""A Transformer's encoder for sources that are translated: few calls, and no products of padding."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nlpcli.attention.patterns import Full
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.models.decoder_state import Memory
from nlpcli.models.packed_layers import PackedEmbedding, PackedLayer, norm_function, usual
from nlpcli.models.packed_sources import additive, scatter_rows
from nlpcli.models.transformer import EncoderDecoder

_attention = nn.functional.scaled_dot_product_attention


class PackedEncoder:
    """The `encode` of a model that `can_pack_encoder`."""

    def __init__(self, model: EncoderDecoder) -> None:
        stack = model.encoder
        attention = stack.layers[0].self_attention
        self._heads, self._kv_heads, self._width = attention.heads, attention.kv_heads, attention.d_key
        self._scale = cast("SoftmaxAttention", attention.core).scale
        self._pre = stack.layers[0].pre_norm
        self._embedding = PackedEmbedding(model.encoder_embedding)
        self._layers = [PackedLayer.of(layer) for layer in stack.layers]
        self._last = None if stack.norm is None else norm_function(stack.norm)

    @torch.inference_mode()
    def __call__(self, source: Tensor, mask: Tensor | None = None) -> Memory:
        """See `EncoderDecoder.encode`."""
        if mask is not None and mask.device.type == "cpu" and bool(mask.all()):
            mask = None
        count, m = source.shape
        heads, kv_heads, width = self._heads, self._kv_heads, self._width
        x = self._embedding(source)
        places, visible = None, None
        if mask is not None:
            places, visible = mask.flatten().nonzero()[:, 0], additive(mask, x.dtype)
            x = x.index_select(0, places)
        for layer in self._layers:
            y = layer.norm(x) if self._pre else x
            found = scatter_rows(layer.query_key_value(y), places, count * m).view(
                count, m, heads + 2 * kv_heads, width
            )
            query, new = found[:, :, :heads], found[:, :, heads:]
            if layer.turned is not None:
                query, new = layer.turned(query, new, 0)
            query, key, value = (part.transpose(1, 2) for part in (query, new[:, :, :kv_heads], new[:, :, kv_heads:]))
            y = _attention(
                query, key, value, attn_mask=visible, scale=self._scale, enable_gqa=heads != kv_heads
            )  # (sources, heads, m, d_head)
            y = y.transpose(1, 2).reshape(count * m, heads * width)
            x = layer.output(y if places is None else y.index_select(0, places), x)
            if not self._pre:
                x = layer.norm(x)
            x = layer.feed_forward.added(layer.feed_norm(x) if self._pre else x, x)
            if not self._pre:
                x = layer.feed_norm(x)
        if self._last is not None:
            x = self._last(x)
        return Memory(scatter_rows(x, places, count * m).view(count, m, -1), mask)


def can_pack_encoder(model: EncoderDecoder) -> bool:
    """Whether its encoder has nothing that is not foreseen here."""
    stack = model.encoder
    plain = stack.positions is None and not stack.reversible and stack.global_tokens is None
    if model.source_encoder is not None or not plain:
        return False
    layers = stack.layers
    return all(
        not layer.parallel_residual and usual(layer.self_attention) and layer.self_attention.pattern == Full()
        for layer in layers
    )
