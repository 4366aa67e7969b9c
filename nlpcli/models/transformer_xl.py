"""Transformer-XL (Dai et al. 2019): a decoder with a memory of earlier segments and relative positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.attention.key_value_cache import KeyValue, KeyValueCache
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_base import Horizon
from nlpcli.attention.patterns import Causal
from nlpcli.attention.relative import RelativeAttention, RelativePositions
from nlpcli.config.transformer_xl_settings import SegmentRecurrentConfig, TransformerXLConfig
from nlpcli.layers.adaptive_softmax import AdaptiveSoftmax
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.linear import Linear, linear
from nlpcli.models.backbone import EMBEDDINGS, FINAL, OWN, Backbone, Direction, Part
from nlpcli.models.padded_batch import Rows

_CAUSAL = AttentionMask(Causal())


class RelativeLayer(nn.Module):
    """Relative attention and a feed-forward layer, each with a residual.

    post-norm: x = norm(x + dropout(f(x)));  pre-norm: x = x + dropout(f(norm(x))), the keys' states normalised too.
    """

    def __init__(
        self, settings: SegmentRecurrentConfig, *, norm_position: str = "post", segments: bool = False
    ) -> None:
        super().__init__()
        c = settings
        self.pre_norm = norm_position == "pre"
        self.attention = RelativeAttention(
            c.d_model, c.heads, d_key=c.d_key, segments=segments, dropout=c.attention_dropout
        )
        self.attention_norm = nn.LayerNorm(c.d_model, eps=c.norm_eps)
        self.feed_forward = FeedForward(c.d_model, c.d_ff, activation=c.activation, dropout=c.activation_dropout)
        self.feed_forward_norm = nn.LayerNorm(c.d_model, eps=c.norm_eps)
        self.dropout = Dropout(c.dropout)

    def project(self, states: Tensor) -> KeyValue:
        """Keys and values of what entered this layer: (batch, m, d_model)."""
        return self.attention.project_memory(self.attention_norm(states) if self.pre_norm else states)

    def forward(
        self,
        x: Tensor,
        memory: KeyValue,
        positions: Tensor,
        mask: AttentionMask,
        *,
        other_segment: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """See `RelativeAttention.forward`; (batch, n, d_model) -> (batch, n, d_model)."""
        y = self.attention_norm(x) if self.pre_norm else x
        y = self.attention(y, memory, positions, mask, other_segment=other_segment, places=places)
        x = self._add(x, y, self.attention_norm)
        y = self.feed_forward_norm(x) if self.pre_norm else x
        return self._add(x, self.feed_forward(y), self.feed_forward_norm)

    def _add(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        x = x + self.dropout(y)
        return x if self.pre_norm else norm(x)


@dataclass
class SegmentState:
    """The decoding state: per layer the cache of its keys and values."""

    length: int
    layers: list[KeyValueCache]


class TransformerXL(Backbone):
    """A left-to-right language model with segment recurrence.

    hidden(segment, memory) gives the memory for the segment that follows: the states that entered each layer, at most
    the last `memory_length` of them, through which no gradient flows. So the context grows with depth, by up to
    `memory_length` positions a layer. `memory_length` may be changed at any time, as for evaluation (section 4.1).

    Positions are relative sinusoids, embeddings are multiplied by √d_model, and the biases u and v are those of all
    layers when `share_position_biases`, as in the authors' code. Pre-norm adds a last norm. With `adaptive_cutoffs` the
    vocabulary's softmax is adaptive, and its loss is that of `adaptive_softmax`.
    """

    direction: ClassVar[Direction] = "left-to-right"
    has_memory: ClassVar[bool] = True

    def __init__(self, settings: TransformerXLConfig, vocab_size: int) -> None:
        super().__init__()
        c = settings
        self.memory_length = c.memory_length
        self.max_length = None
        tokens = nn.Embedding(vocab_size, c.d_model)
        self.embedding = Embedding(tokens, scale=True, dropout=c.dropout)
        self.positions = RelativePositions(c.d_model, clamp=c.clamp_length)
        made = nn.ModuleList(RelativeLayer(c, norm_position=c.norm_position) for _ in range(c.decoder_layers))
        self.layers = cast("Sequence[RelativeLayer]", made)  # modules of this class alone
        if c.share_position_biases:
            first = self.layers[0].attention
            for layer in self.layers[1:]:
                layer.attention.content_bias = first.content_bias
                layer.attention.position_bias = first.position_bias
        self.norm = nn.LayerNorm(c.d_model, eps=c.norm_eps) if c.norm_position == "pre" else None
        self.dropout = Dropout(c.dropout)
        cutoffs = [border for border in c.adaptive_cutoffs if border < vocab_size]
        self.adaptive_softmax = AdaptiveSoftmax(c.d_model, vocab_size, cutoffs) if cutoffs else None
        tied = c.tie in ("all", "target-output")
        self.output_weight_owner = tokens if tied else Linear(c.d_model, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if c.output_bias else None

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns hidden states into logits: (vocab, d_model)."""
        return self.output_weight_owner.weight

    def hidden(
        self, tokens: Tensor, memory: list[Tensor] | None = None, mask: AttentionMask | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Hidden states (batch, n, d_model) that predict what follows each of tokens (batch, n), and the new memory.

        memory: per layer (batch, m, d_model), from the segment before. mask: what must not be seen besides, of memory
        and tokens together.
        """
        old: Sequence[Tensor | None] = memory or [None] * len(self.layers)
        past = [
            None if states is None else layer.project(states) for layer, states in zip(self.layers, old, strict=True)
        ]
        read: list[Tensor] = []

        def present(number: int, x: Tensor) -> KeyValue:
            read.append(x)
            own, before = self.layers[number].project(x), past[number]
            return own if before is None else before.extended(own.key, own.value)

        hidden = self._read(tokens, 0 if memory is None else memory[0].size(1), present, mask)
        return hidden, [remembered(a, b, self.memory_length) for a, b in zip(old, read, strict=True)]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of one segment (batch, n), without a memory."""
        return self.logits(self.hidden(tokens)[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab); log-probabilities with an adaptive softmax."""
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax.log_probabilities(hidden, self.output_weight, self.output_bias)
        return linear(hidden, self.output_weight, self.output_bias)

    def states(
        self, rows: Rows, *, side: str = "decoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        return self.hidden(rows.ids)[0]

    def depth(self, side: str = "decoder") -> None:
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
        yield from ((EMBEDDINGS, part) for part in (self.embedding, self.positions))
        yield from ((f"layers.{number}", layer) for number, layer in enumerate(self.layers))
        if self.norm is not None:
            yield FINAL, self.norm

    def state_after(self, tokens: Tensor) -> SegmentState:
        """See `Backbone.state_after`."""
        state = self.init_state(tokens.size(0))
        return self.advance(tokens, state)[1] if tokens.size(1) else state

    def init_state(self, batch_size: int) -> SegmentState:
        """The state before the first token of `batch_size` sequences."""
        last = self.memory_length + 1 if self.memory_length else None  # and the next position itself
        return SegmentState(0, [KeyValueCache(Horizon(0, last)) for _ in self.layers])

    def step(self, tokens: Tensor, state: SegmentState) -> tuple[Tensor, SegmentState]:
        """See `Decodable.step`. The tokens of one call are a segment; it remembers `memory_length` positions before
        it, and all of them when that is 0."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(self, tokens: Tensor, state: SegmentState) -> tuple[Tensor, SegmentState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_model)."""
        layers: list[KeyValueCache] = []

        def present(number: int, x: Tensor) -> KeyValue:
            own = self.layers[number].project(x)
            held, after = state.layers[number].append(own.key, own.value)
            layers.append(after)
            return held

        hidden = self._read(tokens, state.layers[0].held, present)
        return hidden, SegmentState(state.length + tokens.size(1), layers)

    def reorder(self, state: SegmentState, index: Tensor, width: int = 1) -> SegmentState:
        """See `Decodable.reorder`."""
        return SegmentState(state.length, [cache.select(index) for cache in state.layers])

    def _read(
        self,
        tokens: Tensor,
        before: int,
        present: Callable[[int, Tensor], KeyValue],
        mask: AttentionMask | None = None,
    ) -> Tensor:
        """The hidden states of one segment after `before` positions.

        present: for the number of a layer and what enters it, the keys and values that it looks at.
        """
        mask = _CAUSAL if mask is None else mask.within(Causal())
        x = self.embedding(tokens)
        positions = self.dropout(self.positions(before + tokens.size(1) - 1, -1).to(x.dtype))
        for number, layer in enumerate(self.layers):
            x = layer(x, present(number, x), positions, mask)
        return self.dropout(x if self.norm is None else self.norm(x))


def remembered(old: Tensor | None, new: Tensor, length: int) -> Tensor:
    """The last `length` of the states (batch, m, d_model) and (batch, n, d_model), cut off from their gradients."""
    new = new.detach()
    states = new if old is None or new.size(1) >= length else torch.cat((old, new), dim=1)
    return states[:, max(states.size(1) - length, 0) :]
