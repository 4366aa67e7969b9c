"""XLNet (Yang et al. 2019): an encoder that learns from every order of factorisation, with Transformer-XL's memory.

Two streams share all weights. The content stream h holds what a position is once its token is known; the query stream
g holds what is known of a position from the tokens before it in the order z, without its own:

    h_i = attention(query = h_i, keys and values = h_j of z_j <= z_i)
    g_i = attention(query = g_i, keys and values = h_j of z_j <  z_i)          (section 2.3)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.relative import RelativePositions
from nlpcli.config.xlnet_settings import XLNetConfig
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.linear import linear
from nlpcli.models.backbone import EMBEDDINGS, OWN, Backbone, Part
from nlpcli.models.padded_batch import Rows
from nlpcli.models.transformer_xl import RelativeLayer, remembered


class XLNet(Backbone):
    """A bidirectional encoder that can also predict tokens in a given order of factorisation.

    Segments are distinguished by whether query and key share one, with trained vectors of each layer (section 2.5). The
    memory is per layer the states that entered it, at most the last `memory_length`, without gradients; it counts as
    segment 0. A query that may see nothing (the first of an order, without memory) reads zeros.
    """

    has_memory: ClassVar[bool] = True
    permutes: ClassVar[bool] = True

    def __init__(self, settings: XLNetConfig, vocab_size: int) -> None:
        super().__init__()
        c = settings
        self.memory_length = c.memory_length
        self.max_length = None
        tokens = nn.Embedding(vocab_size, c.d_model)
        self.embedding = Embedding(tokens, scale=False, dropout=c.dropout)
        self.query_embedding = nn.Parameter(torch.randn(c.d_model) * 0.02)  # what the query stream begins with
        self.positions = RelativePositions(c.d_model, clamp=c.clamp_length)
        made = nn.ModuleList(RelativeLayer(c, segments=True) for _ in range(c.encoder_layers))
        self.layers = cast("Sequence[RelativeLayer]", made)  # modules of this class alone
        self.dropout = Dropout(c.dropout)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns states into logits, which is the embedding's: (vocab, d_model)."""
        return self.embedding.tokens.weight

    def logits(self, states: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        return linear(states, self.output_weight, self.output_bias)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """States (batch, n, d_model) of tokens (batch, n), looking both ways.

        mask (batch, n): True where there is a token, None when there is no padding. segments (batch, n): None: all one.
        """
        return self.hidden(tokens, mask=mask, segments=segments)[0]

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        return self(rows.ids, rows.mask, rows.segments)

    def depth(self, side: str = "encoder") -> None:
        """See `Backbone.depth`."""
        return

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        return {OWN: [layer.attention for layer in self.layers]}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield from ((EMBEDDINGS, part) for part in (self.embedding, self.query_embedding, self.positions))
        yield from ((f"layers.{number}", layer) for number, layer in enumerate(self.layers))

    def hidden(
        self,
        tokens: Tensor,
        memory: list[Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The content stream's states (batch, n, d_model), and the memory for the segment that follows.

        memory: per layer (batch, m, d_model). visible (batch, n, n): True where position i may see position j; each
        sees itself and the memory in any case.
        """
        return self._read(tokens, memory, mask, segments, visible, None)

    def permutation_hidden(
        self,
        tokens: Tensor,
        visible: Tensor,
        target_places: Tensor,
        memory: list[Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The query stream's states (batch, k, d_model) at target_places (batch, k), and the memory.

        visible (batch, n, n): True where j comes before i in the order of factorisation; never for i itself.
        """
        return self._read(tokens, memory, mask, segments, visible, target_places)

    def _read(
        self,
        tokens: Tensor,
        memory: list[Tensor] | None,
        mask: Tensor | None,
        segments: Tensor | None,
        visible: Tensor | None,
        targets: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The states of the query stream at `targets`, or without them of the content stream, and the memory."""
        n = tokens.size(1)
        earlier: Sequence[Tensor | None] = memory or [None] * len(self.layers)
        before = 0 if earlier[0] is None else earlier[0].size(1)
        seen = _seen(visible, mask, before)  # (batch, n, before + n)
        itself = torch.ones(n, before + n, dtype=torch.bool, device=tokens.device).triu(before).tril(before)
        content_mask = AttentionMask(permutation=None if seen is None else seen | itself)
        other = _other_segment(segments, before)
        x = self.embedding(tokens)
        positions = self.dropout(self.positions(before + n - 1, -n).to(x.dtype))
        queries = query_mask = query_other = None
        if targets is not None:
            queries = self.dropout(self.query_embedding.expand(*targets.shape, -1))
            query_mask = AttentionMask(permutation=None if seen is None else _rows(seen, targets))
            query_other = None if other is None else _rows(other[:, 0], targets)[:, None]
        kept = []
        for layer, old in zip(self.layers, earlier, strict=True):
            kept.append(remembered(old, x, self.memory_length))
            present = _with_memory(layer, old, x)
            if targets is not None:
                queries = layer(queries, present, positions, query_mask, other_segment=query_other, places=targets)
            if targets is None or layer is not self.layers[-1]:  # queries don't look at the last content
                x = layer(x, present, positions, content_mask, other_segment=other)
        return self.dropout(x if queries is None else queries), kept


def _with_memory(layer: RelativeLayer, old: Tensor | None, x: Tensor) -> KeyValue:
    present = layer.project(x)
    if old is None:
        return present
    return layer.project(old).extended(present.key, present.value)


def _seen(visible: Tensor | None, mask: Tensor | None, before: int) -> Tensor | None:
    """Who may see whom, memory included: (batch, n, before + n), None when everyone sees everything."""
    if mask is not None:
        visible = mask[:, None, :].expand(-1, mask.size(1), -1) if visible is None else visible & mask[:, None, :]
    if visible is None:
        return None
    return nn.functional.pad(visible, (before, 0), value=True)


def _other_segment(segments: Tensor | None, before: int) -> Tensor | None:
    """True where key and query are of different segments: (batch, 1, n, before + n)."""
    if segments is None:
        return None
    keys = nn.functional.pad(segments, (before, 0))
    return (segments[:, :, None] != keys[:, None, :])[:, None]


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """The rows (batch, k, m) of x (batch, n, m) at `places` (batch, k)."""
    return x.take_along_dim(places[:, :, None], dim=1)
