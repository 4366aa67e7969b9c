"""The block of the Transformer, and a stack of them: what encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.core import AttentionCore, DecodingState, ScoreBias
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.kinds import AttentionEntry, parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.patterns import Full
from nlpcli.attention.position_bias import PassBias
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm
from nlpcli.layers.positions import LinearBias, RelativeBias, Rotary
from nlpcli.layers.rope_scaling import RopeScaling
from nlpcli.models.reversible import Sublayer, reversible


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory when `cross` is set, and a feed-forward layer, each with a residual.

    post-norm: x = norm(x + dropout(f(x)));  pre-norm: x = x + dropout(f(norm(x))) (Xiong et al. 2020).
    parallel_residual: both sublayers of a pre-norm layer without cross-attention read the same x, and their sum is
    added to it (Wang and Komatsuzaki 2021).
    `attend` and `feed` are the sublayers of a pre-norm layer for reversible stacks.
    """

    def __init__(
        self,
        settings: TransformerConfig,
        *,
        self_attention: MultiHeadAttention,
        cross: bool = False,
    ) -> None:
        super().__init__()
        c = settings
        self.pre_norm = c.norm_position == "pre"
        self.parallel_residual = c.parallel_residual
        self.self_attention = self_attention
        self.self_attention_norm = norm_of(c)
        self.cross_attention = MultiHeadAttention(c.d_model, attention_of(c)) if cross else None
        self.cross_attention_norm = norm_of(c) if cross else None
        self.feed_forward = FeedForward(
            c.d_model, c.d_ff, activation=c.activation, bias=c.feed_forward_bias, dropout=c.activation_dropout
        )
        self.feed_forward_norm = norm_of(c)
        self.dropout = Dropout(c.dropout)

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask | None = None,
        *,
        bias: ScoreBias | None = None,
        memory: KeyValue | None = None,
        memory_mask: AttentionMask | None = None,
    ) -> Tensor:
        """A whole text x (rows, n, d_model) -> (rows, n, d_model). `mask` and `bias` are self-attention's."""
        y = self.self_attention_norm(x) if self.pre_norm else x
        y = self.self_attention(y, mask, bias=bias)
        if self.parallel_residual:
            return self._parallel(x, y)
        x = self._add(x, y, self.self_attention_norm)
        return self._above(x, memory, memory_mask, 1)

    def step(
        self,
        x: Tensor,
        state: DecodingState,
        *,
        bias: ScoreBias | None = None,
        memory: KeyValue | None = None,
        memory_mask: AttentionMask | None = None,
        width: int = 1,
    ) -> tuple[Tensor, DecodingState]:
        """The positions x (rows, n, d_model) after those of `state`, and the state after them.

        `width` consecutive rows of x share a row of `memory`.
        """
        y = self.self_attention_norm(x) if self.pre_norm else x
        y, state = self.self_attention.step(y, state, bias=bias)
        if self.parallel_residual:
            return self._parallel(x, y), state
        x = self._add(x, y, self.self_attention_norm)
        return self._above(x, memory, memory_mask, width), state

    def attend(self, x: Tensor, mask: AttentionMask | None = None, *, bias: ScoreBias | None = None) -> Tensor:
        """The output of a pre-norm layer's self-attention."""
        return self.dropout(self.self_attention(self.self_attention_norm(x), mask, bias=bias))

    def attend_step(
        self, x: Tensor, state: DecodingState, *, bias: ScoreBias | None = None
    ) -> tuple[Tensor, DecodingState]:
        """The same for the positions after those of `state`, and the state after them."""
        y, state = self.self_attention.step(self.self_attention_norm(x), state, bias=bias)
        return self.dropout(y), state

    def feed(self, x: Tensor) -> Tensor:
        """The output of a pre-norm layer's feed-forward layer."""
        return self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def _parallel(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + self.dropout(attended) + self.feed(x)

    def _above(self, x: Tensor, memory: KeyValue | None, memory_mask: AttentionMask | None, width: int) -> Tensor:
        """Cross-attention, where there is one, and the feed-forward layer."""
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            y = self.cross_attention_norm(x) if self.pre_norm else x
            y = self.cross_attention(y, memory_mask, memory=memory, width=width)
            x = self._add(x, y, self.cross_attention_norm)
        y = self.feed_forward_norm(x) if self.pre_norm else x
        return self._add(x, self.feed_forward(y), self.feed_forward_norm)

    def _add(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        x = x + self.dropout(y)
        return x if self.pre_norm else norm(x)


class Stack(nn.Module):
    """Layers one after the other, and a last norm where they are pre-norm.

    attention: an entry for each layer, repeated as often as needed, such as "full" or "window:W" for keys fewer than W
        positions away (Child et al. 2019; GPT-3 alternates both): see `nlpcli.attention.kinds`; None: the settings'.
    causal: positions attend to themselves and to earlier ones, as in a decoder. cross: layers also attend to a memory.
    Relative positions of T5 have one table for all layers. Without `first_norm` the first layer of a pre-norm stack
    does not normalize what its self-attention reads. Layers whose pattern is not full may have rotary positions of
    their own (`rope_local_theta`).
    global_tokens: so many learned vectors stand before each text (Ainslie et al. 2020); the layers read and change them
    as tokens, and the stack leaves out their states.
    """

    def __init__(
        self,
        count: int,
        settings: TransformerConfig,
        *,
        attention: Sequence[str] | None = None,
        cross: bool = False,
        causal: bool = False,
        global_tokens: int = 0,
    ) -> None:
        super().__init__()
        c = settings
        rotary = _rotary(c, c.rope_theta)
        local = _rotary(c, c.rope_local_theta) if c.rope_local_theta else rotary
        entries = [parse_attention(text) for text in attention or c.attention]
        layers: list[TransformerLayer] = []
        shared: dict[AttentionEntry, AttentionCore[Any]] = {}
        for number in range(count):
            entry = entries[number % len(entries)]
            turned = rotary if entry.pattern == Full() else local
            own = self_attention_of(
                c, entry, layer=number, length=c.max_length + global_tokens, causal=causal, rotary=turned
            )
            if entry.kind.one_core:
                own.core = shared.setdefault(entry, own.core)
            layers.append(TransformerLayer(c, self_attention=own, cross=cross))
        self.layers = cast("Sequence[TransformerLayer]", nn.ModuleList(layers))  # modules of this class alone
        if not c.first_norm:
            self.layers[0].self_attention_norm = nn.Identity()
        self.positions: RelativeBias | LinearBias | None = LinearBias(c.heads) if c.positions == "alibi" else None
        if c.relative:
            self.positions = RelativeBias(
                c.heads, buckets=c.relative_buckets, distance=c.relative_distance, causal=causal
            )
        self.norm = norm_of(c) if c.norm_position == "pre" else None
        self.dropout = Dropout(c.dropout if c.output_dropout else 0.0)
        self.reversible = c.reversible
        self.global_tokens = nn.Parameter(torch.zeros(global_tokens, c.d_model)) if global_tokens else None

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask | None = None,
        *,
        memory: Sequence[KeyValue] | None = None,
        memory_mask: AttentionMask | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Whole texts at once: (batch, n, d_model) -> (batch, n, d_model).

        memory: for each layer what its cross-attention looks at. hidden_states: gets what enters each layer, from the
        bottom to the top, and then what the stack gives.
        """
        if self.global_tokens is None:
            return self._through(x, mask, memory=memory, memory_mask=memory_mask, hidden_states=hidden_states)
        count = self.global_tokens.size(0)
        x = torch.cat([self.global_tokens.to(x.dtype).expand(x.size(0), -1, -1), x], dim=1)
        mask = None if mask is None else mask.behind(count)
        states: list[Tensor] | None = None if hidden_states is None else []
        x = self._through(x, mask, memory=memory, memory_mask=memory_mask, hidden_states=states)
        if hidden_states is not None and states is not None:
            hidden_states += [state[:, count:] for state in states]
        return x[:, count:]

    def _through(
        self,
        x: Tensor,
        mask: AttentionMask | None,
        *,
        memory: Sequence[KeyValue] | None,
        memory_mask: AttentionMask | None,
        hidden_states: list[Tensor] | None,
    ) -> Tensor:
        """As `forward`, for global tokens and text."""
        if self.reversible:
            return self._reversible(x, mask, hidden_states)
        bias = self._bias()
        for number, layer in enumerate(self.layers):
            if hidden_states is not None:
                hidden_states.append(x)
            own = None if memory is None else memory[number]
            x = layer(x, mask, bias=bias, memory=own, memory_mask=memory_mask)
        x = self.finish(x)
        if hidden_states is not None:
            hidden_states.append(x)
        return x

    def start(self) -> list[DecodingState]:
        """The state of each layer before the first position."""
        return [layer.self_attention.start() for layer in self.layers]

    def step(
        self,
        x: Tensor,
        states: Sequence[DecodingState],
        *,
        memory: Sequence[KeyValue] | None = None,
        memory_mask: AttentionMask | None = None,
        width: int = 1,
    ) -> tuple[Tensor, list[DecodingState]]:
        """The positions x (rows, n, d_model) after those of `states`, and the states after them.

        `width` consecutive rows of x share a row of `memory`.
        """
        bias = self._bias()
        after: list[DecodingState] = []
        if self.reversible:
            other = x
            for layer, state in zip(self.layers, states, strict=True):
                y, state = layer.attend_step(other, state, bias=bias)
                x = x + y
                other = other + layer.feed(x)
                after.append(state)
            return self.finish((x + other) / 2), after
        for number, layer in enumerate(self.layers):
            own = None if memory is None else memory[number]
            x, state = layer.step(x, states[number], bias=bias, memory=own, memory_mask=memory_mask, width=width)
            after.append(state)
        return self.finish(x), after

    def _reversible(self, x: Tensor, mask: AttentionMask | None, hidden_states: list[Tensor] | None) -> Tensor:
        """As `forward`. States are not kept for the backward pass, unless states or weights are recorded."""
        looked_at = hidden_states is not None or any(layer.self_attention.recorder is not None for layer in self.layers)
        if torch.is_grad_enabled() and not looked_at:
            first, second = reversible(x, x, [self._sublayers(layer, mask) for layer in self.layers])
            return self.finish((first + second) / 2)
        bias, other = self._bias(), x
        for layer in self.layers:
            if hidden_states is not None:
                hidden_states.append((x + other) / 2)
            x = x + layer.attend(other, mask, bias=bias)
            other = other + layer.feed(x)
        x = self.finish((x + other) / 2)
        if hidden_states is not None:
            hidden_states.append(x)
        return x

    def _sublayers(self, layer: TransformerLayer, mask: AttentionMask | None) -> tuple[Sublayer, Sublayer]:
        """Attention and feed-forward layer; each may be computed again: with a bias of its own."""
        of_attention = [*layer.self_attention.parameters(), *layer.self_attention_norm.parameters()]
        if self.positions is not None:
            of_attention += self.positions.parameters()
        of_feeding = [*layer.feed_forward.parameters(), *layer.feed_forward_norm.parameters()]
        return (
            Sublayer(lambda x: layer.attend(x, mask, bias=self._bias()), of_attention),
            Sublayer(layer.feed, of_feeding),
        )

    def _bias(self) -> ScoreBias | None:
        """The relative position bias of the scores, for one pass."""
        return None if self.positions is None else PassBias(self.positions)

    def finish(self, x: Tensor) -> Tensor:
        return self.dropout(x if self.norm is None else self.norm(x))


def attention_of(settings: TransformerConfig) -> AttentionSettings:
    """The settings of multi-head attention that self-attention and cross-attention share."""
    c = settings
    return AttentionSettings(
        c.heads, c.kv_heads, c.d_key, c.d_value, bias=c.attention_bias, dropout=c.attention_dropout,
        qk_norm=c.qk_norm, norm_eps=c.norm_eps, score=c.score, aggregation=c.head_aggregation,
    )  # fmt: skip


def self_attention_of(
    settings: TransformerConfig,
    entry: AttentionEntry,
    *,
    layer: int,
    length: int,
    causal: bool,
    rotary: Rotary | None,
) -> MultiHeadAttention:
    """The self-attention of layer number `layer`, from an entry of `model.attention`.

    length: the most positions it reads.
    """
    c = settings
    if entry.kind.layer:
        return entry.layer(d_model=c.d_model, settings=attention_of(c), rotary=rotary)
    width = c.d_key or c.d_model // c.heads
    core = entry.core(layer=layer, length=length, heads=c.heads, d_key=width, scale=c.score != "dot")
    return MultiHeadAttention(
        c.d_model,
        attention_of(c),
        rotary=rotary,
        pattern=entry.pattern_of(causal=causal),
        core=core,
        own_queries=entry.kind.own_queries,
        own_keys=entry.kind.own_keys,
        gates=entry.kind.gates,
    )


def norm_of(settings: TransformerConfig, width: int | None = None) -> nn.Module:
    """A norm of the model's kind over `width` numbers; None: d_model."""
    c = settings
    return make_norm(c.norm, width or c.d_model, eps=c.norm_eps, bias=c.norm_bias)


def _rotary(c: TransformerConfig, theta: float) -> Rotary | None:
    if c.positions != "rotary":
        return None
    scaling = None if c.rope_scaling.method == "none" else RopeScaling(**c.rope_scaling.model_dump())
    return Rotary(theta, c.rope_share, scaling, c.max_length)
