"""The Transformer (Vaswani et al. 2017): encoder, decoder and both, out of one block."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlpcli.attention.multi_head import KeyValue
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.norms import make_norm
from nlpcli.models.heads import MaskedHead, Pooler
from nlpcli.models.stack import Stack


@dataclass
class Memory:
    """What the encoder hands over: states (batch, m, d_model), mask (batch, m) True where there is a token, or None."""

    states: Tensor
    mask: Tensor | None


@dataclass
class DecoderState:
    """What a decoder has read: per layer the keys and values of the target so far, and those of the source."""

    length: int
    past: list[KeyValue | None]
    memory: list[KeyValue] | None = None
    memory_allowed: Tensor | None = None  # (sources, 1, 1, m)
    width: int = 1  # consecutive rows that share one source

    def select(self, index: Tensor, width: int) -> DecoderState:
        past = [None if item is None else item.select(index) for item in self.past]
        memory, allowed = self.memory, self.memory_allowed
        if memory is not None:
            sources = torch.div(index[::width], self.width, rounding_mode="floor")
            unchanged = sources.numel() == memory[0].key.size(0) and bool(
                (sources == torch.arange(sources.numel(), device=sources.device)).all()
            )
            if not unchanged:
                memory = [item.select(sources) for item in memory]
                allowed = None if allowed is None else allowed.index_select(0, sources)
        return DecoderState(self.length, past, memory, allowed, width)


class _WithVocabulary(nn.Module):
    """What every model that predicts tokens has: a matrix from states to logits, tied to an embedding or its own."""

    output_weight_owner: nn.Module
    output_bias: nn.Parameter | None

    def _add_vocabulary(self, tokens: nn.Embedding, *, tied: bool, bias: bool) -> None:
        vocab_size, width = tokens.weight.shape
        self.output_weight_owner = tokens if tied else nn.Linear(width, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        return nn.functional.linear(hidden, self.output_weight, self.output_bias)

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns hidden states into logits: (vocab, d_model)."""
        return self.output_weight_owner.weight


class _WithDecoder(_WithVocabulary):
    """What the two models with a decoder share: reading a target in one go or token by token."""

    decoder: Stack
    decoder_embedding: Embedding
    max_length: int | None

    def _add_decoder(
        self,
        tokens: nn.Embedding,
        layers: int,
        embedding: dict[str, Any],
        stack: dict[str, Any],
        *,
        cross: bool,
        tie: str,
        output_bias: bool,
        scale_output: bool,
        max_length: int | None,
    ) -> None:
        self.decoder_embedding = embedding_of(tokens, embedding, stack)
        self.decoder = Stack(layers, cross=cross, causal=True, **stack)
        self._add_vocabulary(tokens, tied=tie in ("all", "target-output"), bias=output_bias)
        self.output_scale = tokens.embedding_dim**-0.5 if scale_output else 1.0
        self.max_length = max_length

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """See `Decodable.step`."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(
        self,
        tokens: Tensor,
        state: DecoderState,
        allowed: Tensor | None = None,
        kept: list[Tensor] | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_model).

        allowed: narrows what is seen of the tokens so far, broadcast to (rows, heads, n, length so far). kept: is given
        what enters each layer, and then what the last one gives.
        """
        x = self.decoder_embedding(tokens, state.length)
        bias = self.decoder.bias(tokens.size(1), state.length + tokens.size(1), state.length)
        past = []
        for i, layer in enumerate(self.decoder.layers):
            if kept is not None:
                kept.append(x)
            x, present = layer(
                x,
                allowed=allowed,
                bias=bias,
                past=state.past[i],
                start=state.length,
                memory=None if state.memory is None else state.memory[i],
                memory_allowed=state.memory_allowed,
                width=state.width,
            )
            past.append(present)
        state = DecoderState(state.length + tokens.size(1), past, state.memory, state.memory_allowed, state.width)
        x = self.decoder.finish(x)
        if kept is not None:
            kept.append(x)
        return x if self.output_scale == 1.0 else x * self.output_scale, state

    def reorder(self, state: DecoderState, index: Tensor, width: int = 1) -> DecoderState:
        """See `Decodable.reorder`."""
        return state.select(index, width)


class EncoderDecoder(_WithDecoder):
    """Source in, target out. `tie` says which of the three vocabulary matrices are one (Press and Wolf 2017).

    source_encoder: None, or what reads the source's ids in another vocabulary and gives the encoder's input in the
    place of token embeddings: see `nlpcli.models.source_encoder`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_layers: int,
        decoder_layers: int,
        embedding: dict[str, Any],
        stack: dict[str, Any],
        tie: str = "all",
        output_bias: bool = False,
        scale_output: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        source = nn.Embedding(vocab_size, stack["d_model"])
        target = source if tie in ("all", "source-target") else nn.Embedding(vocab_size, stack["d_model"])
        self.encoder_embedding = embedding_of(source, embedding, stack)
        self.encoder = Stack(encoder_layers, **stack)
        self.source_encoder: nn.Module | None = None
        self._add_decoder(
            target, decoder_layers, embedding, stack, cross=True, tie=tie, output_bias=output_bias,
            scale_output=scale_output, max_length=max_length,
        )  # fmt: skip

    def encode(self, source: Tensor, source_mask: Tensor | None = None, kept: list[Tensor] | None = None) -> Memory:
        """source (batch, m) ids, source_mask (batch, m) True where there is a token; None when there is no padding.

        kept: is given the states of all the encoder's layers, see `Stack`.
        """
        if source_mask is not None and source_mask.device.type == "cpu" and bool(source_mask.all()):
            source_mask = None  # asking a GPU would make every step wait for it
        allowed = None if source_mask is None else source_mask[:, None, None, :]
        if self.source_encoder is None:
            x = self.encoder_embedding(source)
        else:
            x = self.encoder_embedding.placed(self.source_encoder(source, allowed))
        return Memory(self.encoder(x, allowed=allowed, kept=kept), source_mask)

    def init_state(self, memory: Memory) -> DecoderState:
        """The state before the first target token; the source's keys and values are computed here, once."""
        projected = [layer.cross_attention.project_memory(memory.states) for layer in self.decoder.layers]
        allowed = None if memory.mask is None else memory.mask[:, None, None, :]
        return DecoderState(0, [None] * len(self.decoder.layers), projected, allowed)

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Hidden states (batch, n, d_model) that predict what follows each token of target (batch, n)."""
        return self.advance(target, self.init_state(self.encode(source, source_mask)))[0]

    def forward(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of target (batch, n)."""
        return self.logits(self.hidden(source, source_mask, target))


class Decoder(_WithDecoder):
    """A left-to-right language model (Radford et al. 2018)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        decoder_layers: int,
        embedding: dict[str, Any],
        stack: dict[str, Any],
        tie: str = "all",
        output_bias: bool = False,
        scale_output: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self._add_decoder(
            nn.Embedding(vocab_size, stack["d_model"]), decoder_layers, embedding, stack, cross=False, tie=tie,
            output_bias=output_bias, scale_output=scale_output, max_length=max_length,
        )  # fmt: skip

    def init_state(self, batch_size: int) -> DecoderState:
        """The state before the first token of `batch_size` sequences."""
        return DecoderState(0, [None] * len(self.decoder.layers))

    def hidden(self, tokens: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Hidden states (batch, n, d_model) that predict what follows each token of tokens (batch, n).

        allowed: boolean, broadcast to (batch, heads, n, n); False where a token must not be seen, as one of another
        document.
        """
        return self.advance(tokens, self.init_state(tokens.size(0)), allowed)[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of tokens (batch, n)."""
        return self.logits(self.hidden(tokens))


class Encoder(_WithVocabulary):
    """A bidirectional encoder with the heads its pretraining needs (Devlin et al. 2019).

    heads: "mlm" for the vocabulary, "pooler" for a state of the whole text, "pair" for two classes from it.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_layers: int,
        embedding: dict[str, Any],
        stack: dict[str, Any],
        heads: Collection[str] = (),
        tie: str = "all",
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        width = stack["d_model"]
        tokens = nn.Embedding(vocab_size, width)
        self.encoder_embedding = embedding_of(tokens, embedding, stack)
        self.encoder = Stack(encoder_layers, **stack)
        self.mlm_head = self.pooler = self.pair_head = None
        if "mlm" in heads:
            norm = make_norm(stack["norm"], width, eps=stack["norm_eps"], bias=stack["norm_bias"])
            self.mlm_head = MaskedHead(width, norm, activation=stack["activation"])
            self._add_vocabulary(tokens, tied=tie in ("all", "target-output"), bias=True)
        if "pooler" in heads:
            self.pooler = Pooler(width)
        if "pair" in heads:
            self.pair_head = nn.Linear(width, 2)
        self.max_length = max_length

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        kept: list[Tensor] | None = None,
    ) -> Tensor:
        """(batch, n) ids -> (batch, n, d_model) states.

        mask (batch, n): True where there is a token; None when there is no padding. segments (batch, n): kinds of
        segments, None for all 0. kept: is given the states of all layers, see `Stack`.
        """
        allowed = None if mask is None else mask[:, None, None, :]
        return self.encoder(self.encoder_embedding(tokens, segments=segments), allowed=allowed, kept=kept)

    def mlm_hidden(self, states: Tensor) -> Tensor:
        """(…, d_model) states -> (…, d_model), which `logits` turns into a distribution over the vocabulary."""
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


def embedding_of(tokens: nn.Embedding, embedding: dict[str, Any], stack: dict[str, Any]) -> Embedding:
    """The embeddings around `tokens` by a model's settings."""
    norm = None
    if embedding["norm"]:
        norm = make_norm(stack["norm"], stack["d_model"], eps=stack["norm_eps"], bias=stack["norm_bias"])
    return Embedding(tokens, **{**embedding, "norm": norm})
