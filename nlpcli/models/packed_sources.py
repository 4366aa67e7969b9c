"""The encoder output for the cross-attention of a packed decoder, for all layers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.models.decoder_state import Memory
from nlpcli.models.packed_layers import Norm, attention_by_products, few_queries, frozen, norm_function
from nlpcli.models.stack import TransformerLayer

_attention = nn.functional.scaled_dot_product_attention


@dataclass(frozen=True)
class PackedSources:
    """For each layer keys and values (sources, heads, m, d_head); mask (sources, 1, 1, m): 0, and -inf for padding.

    width: consecutive rows that share a source. folded: of a single source, for each layer the matrices (d_model,
    heads · m) and (heads · m, d_model) instead, which the projections of query and output are part of, and what is
    added to the scores (heads · m), or None.
    """

    count: int
    layers: tuple[tuple[Tensor, Tensor], ...] = ()
    mask: Tensor | None = None
    width: int = 1
    folded: tuple[tuple[Tensor, Tensor, Tensor | None], ...] | None = None

    def select(self, index: Tensor, width: int) -> PackedSources:
        """See `Decodable.reorder`."""
        if self.folded is not None:
            return PackedSources(1, width=index.numel(), folded=self.folded)
        sources = torch.div(index[::width], self.width, rounding_mode="floor")
        count = sources.numel()
        if count == self.count and sources.tolist() == list(range(count)):
            return PackedSources(count, self.layers, self.mask, width)
        mask = None if self.mask is None else self.mask.index_select(0, sources)
        layers = tuple((key.index_select(0, sources), value.index_select(0, sources)) for key, value in self.layers)
        return PackedSources(count, layers, mask, width)


class SourceProjections:
    """The attention of all layers of a decoder to a source."""

    def __init__(self, layers: list[TransformerLayer]) -> None:
        attentions = [layer.cross_attention for layer in layers if layer.cross_attention is not None]
        first = attentions[0]
        self._heads, self._width = first.heads, first.d_key
        self._scale = cast("SoftmaxAttention", first.core).scale
        own_scale = self._width**-0.5 if self._scale is None else self._scale
        self._norms: list[Norm] = [norm_function(layer.cross_attention_norm) for layer in layers]
        self._pre = layers[0].pre_norm
        self._queries = [frozen(a.query) for a in attentions]
        self._outputs = [frozen(a.output) for a in attentions]
        self._memories = [frozen(a.key, a.value) for a in attentions]
        queries, outputs = (
            [cast("nn.Linear", module) for module in modules]
            for modules in ([a.query for a in attentions], [a.output for a in attentions])
        )
        shape = (self._heads, self._width, -1)
        # (layers, 2, heads, d_head, d_model): what keys and values are multiplied by
        self._folding = torch.stack(
            [
                torch.stack((own_scale * query.weight.view(shape), output.weight.t().reshape(shape)))
                for query, output in zip(queries, outputs, strict=True)
            ]
        )
        self._query_bias = _stacked([query.bias for query in queries])
        if self._query_bias is not None:
            self._query_bias = own_scale * self._query_bias.view(len(queries), self._heads, self._width, 1)
        self._output_bias = _stacked([output.bias for output in outputs])

    def sources(self, memory: Memory) -> PackedSources:
        """The keys and values of an encoder's output."""
        states, padding = memory.states, memory.mask
        count, m, _ = states.shape
        if count == 1 and padding is None and self._heads * m <= 2 * states.size(2):
            return PackedSources(1, folded=self._folded(states[0]))
        rows, places = states.flatten(0, 1), None
        if padding is not None:
            places = padding.flatten().nonzero()[:, 0]
            rows = rows.index_select(0, places)
        shape = (count, m, 2, self._heads, self._width)
        layers = []
        for project in self._memories:
            found = scatter_rows(project(rows), places, count * m).view(shape)
            key, value = found.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
            layers.append((key, value))
        return PackedSources(count, tuple(layers), None if padding is None else additive(padding, states.dtype))

    def _folded(self, states: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor | None], ...]:
        """states (m, d_model) of one source."""
        m = states.size(0)
        pairs = torch.stack([project(states) for project in self._memories], dim=1)
        pairs = pairs.view(m, len(self._memories), 2, self._heads, self._width).permute(1, 2, 3, 0, 4)
        both = torch.matmul(pairs, self._folding).flatten(2, 3)  # (layers, 2, heads · m, d_model)
        to_scores, to_states = both.unbind(1)
        if self._output_bias is not None:  # the weights of the first head have the sum 1
            to_states[:, :m] += self._output_bias[:, None]
        added: tuple[Tensor | None, ...] = (None,) * len(self._memories)
        if self._query_bias is not None:
            added = torch.matmul(pairs[:, 0], self._query_bias).flatten(1).unbind(0)
        return tuple(zip(to_scores.transpose(1, 2).unbind(0), to_states.unbind(0), added, strict=True))

    def attend(self, x: Tensor, number: int, sources: PackedSources) -> Tensor:
        """x (rows · n, d_model) after the attention of layer `number`, with its residual and its norm."""
        norm, rows = self._norms[number], x.size(0)
        y = norm(x) if self._pre else x
        if sources.folded is not None:
            to_scores, to_states, added = sources.folded[number]
            scores = torch.mm(y, to_scores) if added is None else torch.addmm(added, y, to_scores)
            weights = scores.view(rows, self._heads, -1).softmax(-1).view_as(scores)
            x = torch.addmm(x, weights, to_states)
        else:
            key, value = sources.layers[number]
            query = self._queries[number](y).view(sources.count, -1, self._heads, self._width).transpose(1, 2)
            if few_queries(sources.count, query.size(2), key.size(2), self._width, query):
                y = attention_by_products(query, key, value, sources.mask, self._scale)
            else:
                y = _attention(query, key, value, attn_mask=sources.mask, scale=self._scale)
            y = y.transpose(1, 2).reshape(rows, -1)  # (sources, heads, beam · n, d_head)
            x = self._outputs[number](y, x)
        return x if self._pre else norm(x)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, m), True where there is a token -> (rows, 1, 1, m): 0 there, and -inf for padding."""
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill_(~mask, -torch.inf)[:, None, None, :]


def scatter_rows(rows: Tensor, places: Tensor | None, count: int) -> Tensor:
    """The rows at their places among `count`, zeros elsewhere; None: they are all of them."""
    return rows if places is None else rows.new_zeros(count, rows.size(1)).index_copy_(0, places, rows)


def _stacked(biases: list[Tensor | None]) -> Tensor | None:
    present = [bias for bias in biases if bias is not None]
    return torch.stack(present) if present else None
