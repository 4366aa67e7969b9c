"""The Transformer (Vaswani et al. 2017): encoder, decoder and both, out of one block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.attention.masks import AttentionMask
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.layers.embeddings import Embedding, added_positions
from nlpcli.layers.linear import Linear, linear
from nlpcli.models.backbone import CROSS, DECODER, ENCODER, SOURCE_ENCODER, Backbone, Direction, Part, grouped
from nlpcli.models.decoder_state import CrossMemory, DecoderState, Memory
from nlpcli.models.heads import MaskedHead, Pooler
from nlpcli.models.padded_batch import Rows
from nlpcli.models.stack import Stack, norm_of

HIDDEN_SHARE = 0.15
"""The share of the tokens that an encoder predicts in training with masks."""


class WithVocabulary(Backbone):
    """Base of models that predict tokens: a matrix from states to logits, tied to an embedding or its own."""

    output_weight_owner: nn.Embedding | nn.Linear
    output_bias: nn.Parameter | None

    def add_vocabulary(self, tokens: nn.Embedding, *, tied: bool, bias: bool) -> None:
        vocab_size, width = tokens.weight.shape
        self.output_weight_owner = tokens if tied else Linear(width, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        return linear(hidden, self.output_weight, self.output_bias)

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns hidden states into logits: (vocab, d_model)."""
        return self.output_weight_owner.weight


class _WithDecoder(WithVocabulary):
    """Base of the two models with a decoder: reads a target at once or token by token."""

    decoder: Stack
    decoder_embedding: Embedding
    max_length: int | None

    def _add_decoder(self, settings: TransformerConfig, tokens: nn.Embedding, *, cross: bool) -> None:
        c = settings
        self.decoder_embedding = embedding_of(tokens, c)
        self.decoder = Stack(
            c.decoder_layers, c, attention=c.decoder_attention if cross else None, cross=cross, causal=True
        )
        self.add_vocabulary(tokens, tied=c.tie in ("all", "target-output"), bias=c.output_bias)
        self.output_scale = tokens.embedding_dim**-0.5 if c.scale_output else 1.0
        self.max_length = c.position_limit

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """See `Decodable.step`."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_model)."""
        x = self.decoder_embedding(tokens, state.length)
        memory = state.memory
        if memory is None:
            x, layers = self.decoder.step(x, state.layers)
        else:
            x, layers = self.decoder.step(
                x, state.layers, memory=memory.layers, memory_mask=memory.mask, width=memory.width
            )
        return self._scaled(x), DecoderState(state.length + tokens.size(1), layers, memory)

    def _read(
        self,
        tokens: Tensor,
        mask: AttentionMask | None = None,
        memory: CrossMemory | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """The hidden states of whole texts (rows, n), for which no state is made: (rows, n, d_model)."""
        x = self.decoder_embedding(tokens)
        if memory is None:
            return self._scaled(self.decoder(x, mask, hidden_states=hidden_states))
        return self._scaled(
            self.decoder(x, mask, hidden_states=hidden_states, memory=memory.layers, memory_mask=memory.mask)
        )

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.output_scale == 1.0 else x * self.output_scale

    def reorder(self, state: DecoderState, index: Tensor, width: int = 1) -> DecoderState:
        """See `Decodable.reorder`."""
        return state.select(index, width)


class EncoderDecoder(_WithDecoder):
    """Source in, target out. `tie` selects which of the three vocabulary matrices are shared (Press and Wolf 2017).

    source_encoder: None, or what reads the source's ids in another vocabulary and gives the encoder's input in the
    place of token embeddings: see `nlpcli.models.source_encoder`.
    """

    direction: ClassVar[Direction] = "source-to-target"

    def __init__(self, settings: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        c = settings
        source = nn.Embedding(vocab_size, c.d_model)
        target = source if c.tie in ("all", "source-target") else nn.Embedding(vocab_size, c.d_model)
        self.encoder_embedding = embedding_of(source, c)
        self.encoder = Stack(c.encoder_layers, c, global_tokens=c.global_tokens)
        self.source_encoder: nn.Module | None = None
        self._add_decoder(c, target, cross=True)

    def encode(
        self, source: Tensor, source_mask: Tensor | None = None, hidden_states: list[Tensor] | None = None
    ) -> Memory:
        """source (batch, m) ids, source_mask (batch, m) True where there is a token; None when there is no padding.

        hidden_states: gets those of all encoder layers, see `Stack`.
        """
        if source_mask is not None and _known(source_mask) and bool(source_mask.all()):
            source_mask = None
        mask = _padding(source_mask)
        if self.source_encoder is None:
            x = self.encoder_embedding(source)
        else:
            x = self.encoder_embedding.placed(self.source_encoder(source, mask))
        return Memory(self.encoder(x, mask, hidden_states=hidden_states), source_mask)

    def init_state(self, memory: Memory) -> DecoderState:
        """The state before the first target token; the source's keys and values are computed here, once."""
        return DecoderState(0, self.decoder.start(), self._cross(memory))

    def _cross(self, memory: Memory) -> CrossMemory:
        attentions = [layer.cross_attention for layer in self.decoder.layers]
        projected = [attention.project_memory(memory.states) for attention in attentions if attention is not None]
        return CrossMemory(projected, _padding(memory.mask))

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Hidden states (batch, n, d_model) that predict what follows each token of target (batch, n)."""
        return self.target_hidden(target, self.encode(source, source_mask))

    def target_hidden(self, target: Tensor, memory: Memory, hidden_states: list[Tensor] | None = None) -> Tensor:
        """As `hidden`, for a source that was encoded. hidden_states: gets those of all decoder layers."""
        return self._read(target, memory=self._cross(memory), hidden_states=hidden_states)

    def whole_target_hidden(self, target: Tensor, target_mask: Tensor, memory: Memory) -> Tensor:
        """As `target_hidden`, but each position also sees the target tokens after it (Garg et al. 2019, section 4.3).

        target_mask (batch, n): True where there is a token, at the beginning of each row.
        """
        return self._read(target, AttentionMask(keys=target_mask, whole=True), self._cross(memory))

    def forward(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of target (batch, n)."""
        return self.logits(self.hidden(source, source_mask, target))

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`. The decoder reads the text moved by one place (Lewis et al. 2020, section 3.1)."""
        memory = self.encode(rows.ids, rows.mask, hidden_states if side == "encoder" else None)
        if side == "encoder":
            return memory.states
        target = rows.ids.roll(1, dims=1)
        target[:, 0] = start
        return self.target_hidden(target, memory, hidden_states)

    def depth(self, side: str = "encoder") -> int:
        """See `Backbone.depth`."""
        return len((self.decoder if side == "decoder" else self.encoder).layers)

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.encoder_embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        sites: dict[str, Sequence[Recordable]] = {
            ENCODER: [layer.self_attention for layer in self.encoder.layers],
            DECODER: [layer.self_attention for layer in self.decoder.layers],
            CROSS: [layer.cross_attention for layer in self.decoder.layers if layer.cross_attention is not None],
        }
        if self.source_encoder is not None:
            stack = cast("Stack", self.source_encoder.encoder)
            sites[SOURCE_ENCODER] = [layer.self_attention for layer in stack.layers]
        return sites

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        embeddings = (self.encoder_embedding, self.decoder_embedding)
        return grouped(embeddings, {"encoder": self.encoder, "decoder": self.decoder})

    def example(self, tokens: Tensor) -> Tensor:
        """See `Backbone.example`."""
        return self(tokens, None, tokens)

    def state_after(self, tokens: Tensor) -> DecoderState:
        """See `Backbone.state_after`."""
        source = nn.functional.pad(tokens, (0, 1))
        state = self.init_state(self.encode(source))
        return self.advance(tokens, state)[1] if tokens.size(1) else state


class Decoder(_WithDecoder):
    """A left-to-right language model (Radford et al. 2018)."""

    direction: ClassVar[Direction] = "left-to-right"

    def __init__(self, settings: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self._add_decoder(settings, nn.Embedding(vocab_size, settings.d_model), cross=False)

    def init_state(self, batch_size: int) -> DecoderState:
        """The state before the first token of `batch_size` sequences."""
        return DecoderState(0, self.decoder.start())

    def hidden(
        self, tokens: Tensor, mask: AttentionMask | None = None, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """Hidden states (batch, n, d_model) that predict what follows each token of tokens (batch, n).

        mask: what must not be seen besides, as tokens of other documents. hidden_states: gets those of all layers.
        """
        return self._read(tokens, mask, hidden_states=hidden_states)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of tokens (batch, n)."""
        return self.logits(self.hidden(tokens))

    def states(
        self, rows: Rows, *, side: str = "decoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`. No mask: what stands behind a row's end is never seen."""
        return self.hidden(rows.ids, hidden_states=hidden_states)

    def depth(self, side: str = "decoder") -> int:
        """See `Backbone.depth`."""
        return len(self.decoder.layers)

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.decoder_embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        return {DECODER: [layer.self_attention for layer in self.decoder.layers]}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        return grouped([self.decoder_embedding], {"decoder": self.decoder})

    def state_after(self, tokens: Tensor) -> DecoderState:
        """See `Backbone.state_after`."""
        state = self.init_state(tokens.size(0))
        return self.advance(tokens, state)[1] if tokens.size(1) else state


class Encoder(WithVocabulary):
    """A bidirectional encoder with the heads its pretraining needs (Devlin et al. 2019).

    mlm_head: for the vocabulary; pooler: for a state of the whole text; pair_head: for two classes from it.
    """

    def __init__(self, settings: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        c = settings
        inner = c.d_embedding or c.d_model
        tokens = nn.Embedding(vocab_size, inner)
        self.encoder_embedding = embedding_of(tokens, c)
        self.encoder = Stack(c.encoder_layers, c, global_tokens=c.global_tokens)
        self.mlm_head = self.pooler = self.pair_head = None
        if c.mlm_head:
            self.mlm_head = MaskedHead(
                c.d_model, norm_of(c, inner), out=inner, activation=c.activation, bias=c.mlm_head_bias
            )
            self.add_vocabulary(tokens, tied=c.tie in ("all", "target-output"), bias=True)
        if c.pooler:
            self.pooler = Pooler(c.d_model)
        if c.pair_head:
            self.pair_head = Linear(c.d_model, 2)
        self.max_length = c.position_limit

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """(batch, n) ids -> (batch, n, d_model) states.

        mask (batch, n): True where there is a token; None when there is no padding. segments (batch, n): kinds of
        segments, None for all 0. hidden_states: gets those of all layers, see `Stack`.
        """
        return self.encoder(
            self.encoder_embedding(tokens, segments=segments), _padding(mask), hidden_states=hidden_states
        )

    def mlm_hidden(self, states: Tensor) -> Tensor:
        """(…, d_model) states -> (…, d_embedding), which `logits` turns into a distribution over the vocabulary."""
        assert self.mlm_head is not None
        return self.mlm_head(states)

    def pooled(self, states: Tensor) -> Tensor:
        """(batch, n, d_model) states -> (batch, d_model): tanh(W x_0 + b) of the first state."""
        assert self.pooler is not None
        return self.pooler(states)

    def pair_logits(self, states: Tensor) -> Tensor:
        """(batch, n, d_model) states -> (batch, 2); class 0: the second segment follows the first."""
        assert self.pair_head is not None
        return self.pair_head(self.pooled(states))

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        return self(rows.ids, rows.mask, rows.segments, hidden_states=hidden_states)

    def depth(self, side: str = "encoder") -> int:
        """See `Backbone.depth`."""
        return len(self.encoder.layers)

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.encoder_embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        return {ENCODER: [layer.self_attention for layer in self.encoder.layers]}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        return grouped([self.encoder_embedding], {"encoder": self.encoder}, [self.pooler])

    def trained_example(self, tokens: Tensor) -> Tensor:
        """See `Backbone.trained_example`: logits of `HIDDEN_SHARE` of the tokens, where the model has such a head."""
        if self.mlm_head is None:
            return self(tokens)
        hidden = max(1, round(HIDDEN_SHARE * tokens.size(1)))
        return self.logits(self.mlm_hidden(self(tokens)[:, :hidden]))


def _known(x: Tensor) -> bool:
    """Whether values of x can be read: on a GPU every step would wait for them, and a graph has none yet."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def _padding(mask: Tensor | None) -> AttentionMask | None:
    return None if mask is None else AttentionMask(keys=mask)


def embedding_of(tokens: nn.Embedding, settings: TransformerConfig) -> Embedding:
    """The embeddings around `tokens` by a model's settings."""
    c, width = settings, tokens.embedding_dim
    return Embedding(
        tokens,
        positions=added_positions(c.positions, width, max_length=c.max_length, offset=c.position_offset),
        scale=c.scale_embeddings,
        segments=c.segments,
        norm=norm_of(c, width) if c.embedding_norm else None,
        dropout=c.dropout,
        project=c.d_model if c.d_model != width else None,
    )


def build(settings: TransformerConfig, vocab_size: int) -> Backbone:
    """The model of these settings, without a source encoder."""
    kinds: dict[str, Callable[[TransformerConfig, int], Backbone]] = {
        "encoder": Encoder,
        "decoder": Decoder,
        "encoder-decoder": EncoderDecoder,
    }
    return kinds[settings.kind](settings, vocab_size)
