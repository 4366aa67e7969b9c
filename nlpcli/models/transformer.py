"""The Transformer (Vaswani et al. 2017): encoder, decoder and both, out of one block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlpcli.attention.multi_head import KeyValue, MultiHeadAttention
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory when `cross` is set, and a feed-forward layer, each with a residual.

    post-norm: x = norm(x + dropout(f(x)));  pre-norm: x = x + dropout(f(norm(x))) (Xiong et al. 2020).
    """

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        d_ff: int,
        cross: bool = False,
        causal: bool = False,
        d_key: int | None = None,
        d_value: int | None = None,
        norm: str = "layernorm",
        norm_position: str = "post",
        norm_eps: float = 1e-5,
        norm_bias: bool = True,
        qk_norm: bool = False,
        activation: str = "relu",
        rotary: bool = False,
        attention_bias: bool = False,
        feed_forward_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        attention = {
            "d_key": d_key,
            "d_value": d_value,
            "bias": attention_bias,
            "dropout": attention_dropout,
            "qk_norm": qk_norm,
            "norm_eps": norm_eps,
        }
        self.pre_norm = norm_position == "pre"
        self.causal = causal
        self.self_attention = MultiHeadAttention(d_model, heads, rotary=rotary, **attention)
        self.self_attention_norm = make_norm(norm, d_model, eps=norm_eps, bias=norm_bias)
        self.cross_attention = MultiHeadAttention(d_model, heads, **attention) if cross else None
        self.cross_attention_norm = make_norm(norm, d_model, eps=norm_eps, bias=norm_bias) if cross else None
        self.feed_forward = FeedForward(
            d_model, d_ff, activation=activation, bias=feed_forward_bias, dropout=activation_dropout
        )
        self.feed_forward_norm = make_norm(norm, d_model, eps=norm_eps, bias=norm_bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        allowed: Tensor | None = None,
        past: KeyValue | None = None,
        start: int = 0,
        memory: KeyValue | None = None,
        memory_allowed: Tensor | None = None,
        width: int = 1,
    ) -> tuple[Tensor, KeyValue]:
        """x (rows, n, d_model), whose first position is `start`, after the `past` keys and values.

        Returns: the layer's output (rows, n, d_model), and the keys and values of past and x together.
        """
        y = self.self_attention_norm(x) if self.pre_norm else x
        present = self.self_attention.project_memory(y, start)
        if past is not None:
            present = past.extended(present.key, present.value)
        y = self.self_attention(y, present, allowed=allowed, causal=self.causal, start=start)
        x = self._add(x, y, self.self_attention_norm)
        if self.cross_attention is not None:
            y = self.cross_attention_norm(x) if self.pre_norm else x
            y = self.cross_attention(y, memory, allowed=memory_allowed, width=width)
            x = self._add(x, y, self.cross_attention_norm)
        y = self.feed_forward_norm(x) if self.pre_norm else x
        x = self._add(x, self.feed_forward(y), self.feed_forward_norm)
        return x, present

    def _add(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        x = x + self.dropout(y)
        return x if self.pre_norm else norm(x)


class Stack(nn.Module):
    """Layers one after the other, and a last norm where they are pre-norm."""

    def __init__(self, count: int, **layer: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(**layer) for _ in range(count))
        self.norm: nn.Module | None = None
        if layer.get("norm_position") == "pre":
            self.norm = make_norm(
                layer.get("norm", "layernorm"),
                layer["d_model"],
                eps=layer.get("norm_eps", 1e-5),
                bias=layer.get("norm_bias", True),
            )

    def forward(self, x: Tensor, *, allowed: Tensor | None = None) -> Tensor:
        """Whole sequences at once, without a memory: (batch, n, d_model) -> (batch, n, d_model)."""
        for layer in self.layers:
            x, _ = layer(x, allowed=allowed)
        return self.finish(x)

    def finish(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


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


class _WithDecoder(nn.Module):
    """What the two models with a decoder share: reading a target in one go or token by token."""

    decoder: Stack
    decoder_embedding: Embedding
    output_weight_owner: nn.Module
    output_bias: nn.Parameter | None
    max_length: int | None

    def _add_decoder(
        self,
        tokens: nn.Embedding,
        layers: int,
        embedding: dict[str, Any],
        layer: dict[str, Any],
        *,
        cross: bool,
        tie: str,
        output_bias: bool,
        max_length: int | None,
    ) -> None:
        vocab_size, width = tokens.weight.shape
        self.decoder_embedding = _embedding(tokens, embedding, layer)
        self.decoder = Stack(layers, cross=cross, causal=True, **layer)
        tied = tie in ("all", "target-output")
        self.output_weight_owner = tokens if tied else nn.Linear(width, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if output_bias else None
        self.max_length = max_length

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        return nn.functional.linear(hidden, self.output_weight, self.output_bias)

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns hidden states into logits: (vocab, d_model)."""
        return self.output_weight_owner.weight

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """See `Decodable.step`."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_model)."""
        x = self.decoder_embedding(tokens, state.length)
        past = []
        for i, layer in enumerate(self.decoder.layers):
            x, present = layer(
                x,
                past=state.past[i],
                start=state.length,
                memory=None if state.memory is None else state.memory[i],
                memory_allowed=state.memory_allowed,
                width=state.width,
            )
            past.append(present)
        state = DecoderState(state.length + tokens.size(1), past, state.memory, state.memory_allowed, state.width)
        return self.decoder.finish(x), state

    def reorder(self, state: DecoderState, index: Tensor, width: int = 1) -> DecoderState:
        """See `Decodable.reorder`."""
        return state.select(index, width)


class EncoderDecoder(_WithDecoder):
    """Source in, target out. `tie` says which of the three vocabulary matrices are one (Press and Wolf 2017)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_layers: int,
        decoder_layers: int,
        embedding: dict[str, Any],
        layer: dict[str, Any],
        tie: str = "all",
        output_bias: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        source = nn.Embedding(vocab_size, layer["d_model"])
        target = source if tie in ("all", "source-target") else nn.Embedding(vocab_size, layer["d_model"])
        self.encoder_embedding = _embedding(source, embedding, layer)
        self.encoder = Stack(encoder_layers, **layer)
        self._add_decoder(
            target,
            decoder_layers,
            embedding,
            layer,
            cross=True,
            tie=tie,
            output_bias=output_bias,
            max_length=max_length,
        )

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Memory:
        """source (batch, m) ids, source_mask (batch, m) True where there is a token; None when there is no padding."""
        if source_mask is not None and source_mask.device.type == "cpu" and bool(source_mask.all()):
            source_mask = None  # asking a GPU would make every step wait for it
        allowed = None if source_mask is None else source_mask[:, None, None, :]
        return Memory(self.encoder(self.encoder_embedding(source), allowed=allowed), source_mask)

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
        layer: dict[str, Any],
        tie: str = "all",
        output_bias: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self._add_decoder(
            nn.Embedding(vocab_size, layer["d_model"]), decoder_layers, embedding, layer, cross=False, tie=tie,
            output_bias=output_bias, max_length=max_length,
        )  # fmt: skip

    def init_state(self, batch_size: int) -> DecoderState:
        """The state before the first token of `batch_size` sequences."""
        return DecoderState(0, [None] * len(self.decoder.layers))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states (batch, n, d_model) that predict what follows each token of tokens (batch, n)."""
        return self.advance(tokens, self.init_state(tokens.size(0)))[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of tokens (batch, n)."""
        return self.logits(self.hidden(tokens))


class Encoder(nn.Module):
    """A bidirectional encoder: (batch, n) ids -> (batch, n, d_model) states."""

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_layers: int,
        embedding: dict[str, Any],
        layer: dict[str, Any],
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        tokens = nn.Embedding(vocab_size, layer["d_model"])
        self.encoder_embedding = _embedding(tokens, embedding, layer)
        self.encoder = Stack(encoder_layers, **layer)
        self.max_length = max_length

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask (batch, n): True where there is a token; None when there is no padding."""
        allowed = None if mask is None else mask[:, None, None, :]
        return self.encoder(self.encoder_embedding(tokens), allowed=allowed)


def _embedding(tokens: nn.Embedding, embedding: dict[str, Any], layer: dict[str, Any]) -> Embedding:
    norm = None
    if embedding["norm"]:
        norm = make_norm(layer["norm"], layer["d_model"], eps=layer["norm_eps"], bias=layer["norm_bias"])
    return Embedding(tokens, **{**embedding, "norm": norm})


def initialise(model: nn.Module, *, scheme: str = "xavier", std: float = 0.02, layers: int = 1) -> None:
    """Fills the weights in place; biases become 0, norms 1.

    xavier: matrices uniform after Glorot and Bengio 2010, embeddings normal with deviation d_model^-½, as in the
    Transformer's lineage. normal: everything normal with deviation `std`, and the matrices that write into the
    residual stream divided by √(2 · layers) (Radford et al. 2019).
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if scheme == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                into_stream = name.endswith(("attention.output", "feed_forward.outer"))
                nn.init.normal_(module.weight, std=std / math.sqrt(2 * layers) if into_stream else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5 if scheme == "xavier" else std)
        elif hasattr(module, "max_length") and isinstance(getattr(module, "weight", None), nn.Parameter):
            nn.init.normal_(module.weight, std=std)  # learned positions
