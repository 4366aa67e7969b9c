"""The block of the Transformer, and a stack of them: what encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from nlpcli.attention.core import AttentionCore, DecodingState, ScoreBias
from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import Full
from nlpcli.attention.position_bias import PassBias
from nlpcli.attention.states import KeyValue
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm
from nlpcli.layers.positions import RelativeBias, Rotary
from nlpcli.layers.rope_scaling import RopeScaling


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory when `cross` is set, and a feed-forward layer, each with a residual.

    post-norm: x = norm(x + dropout(f(x)));  pre-norm: x = x + dropout(f(norm(x))) (Xiong et al. 2020).
    parallel_residual: both sublayers of a pre-norm layer without cross-attention read the same x, and their sum is
    added to it (Wang and Komatsuzaki 2021).
    """

    def __init__(
        self,
        settings: TransformerConfig,
        *,
        cross: bool = False,
        pattern: Pattern = Full(),
        core: AttentionCore | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        c = settings
        attention = AttentionSettings(
            c.heads, c.kv_heads, c.d_key, c.d_value, bias=c.attention_bias, dropout=c.attention_dropout,
            qk_norm=c.qk_norm, norm_eps=c.norm_eps, score=c.score, aggregation=c.head_aggregation,
        )  # fmt: skip
        self.pre_norm = c.norm_position == "pre"
        self.parallel_residual = c.parallel_residual
        self.self_attention = MultiHeadAttention(c.d_model, attention, rotary=rotary, pattern=pattern, core=core)
        self.self_attention_norm = norm_of(c)
        self.cross_attention = MultiHeadAttention(c.d_model, attention) if cross else None
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

    def _parallel(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + self.dropout(attended) + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

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
    causal: positions look at themselves and at those before them, as in a decoder. cross: layers also look at a memory.
    Relative positions of T5 have one table for all layers. Without `first_norm` the first layer of a pre-norm stack
    does not normalize what its self-attention reads. Layers whose pattern is not full may have rotary positions of
    their own (`rope_local_theta`).
    """

    def __init__(
        self,
        count: int,
        settings: TransformerConfig,
        *,
        attention: Sequence[str] | None = None,
        cross: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        c = settings
        rotary = _rotary(c, c.rope_theta)
        local = _rotary(c, c.rope_local_theta) if c.rope_local_theta else rotary
        entries = [parse_attention(text) for text in attention or c.attention]
        layers: list[TransformerLayer] = []
        for number in range(count):
            entry = entries[number % len(entries)]
            layers.append(
                TransformerLayer(
                    c,
                    cross=cross,
                    pattern=entry.pattern_of(causal=causal),
                    core=entry.core(scale=c.score != "dot"),
                    rotary=rotary if entry.pattern == Full() else local,
                )
            )
        self.layers = cast("Sequence[TransformerLayer]", nn.ModuleList(layers))  # modules of this class alone
        if not c.first_norm:
            self.layers[0].self_attention_norm = nn.Identity()
        self.positions: RelativeBias | None = None
        if c.relative:
            self.positions = RelativeBias(
                c.heads, buckets=c.relative_buckets, distance=c.relative_distance, causal=causal
            )
        self.norm = norm_of(c) if c.norm_position == "pre" else None
        self.dropout = Dropout(c.dropout if c.output_dropout else 0.0)

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask | None = None,
        *,
        memory: Sequence[KeyValue] | None = None,
        memory_mask: AttentionMask | None = None,
        kept: list[Tensor] | None = None,
    ) -> Tensor:
        """Whole texts at once: (batch, n, d_model) -> (batch, n, d_model).

        memory: for each layer what its cross-attention looks at. kept: is given what enters each layer, from the bottom
        to the top, and then what the stack gives.
        """
        bias = self._bias()
        for number, layer in enumerate(self.layers):
            if kept is not None:
                kept.append(x)
            own = None if memory is None else memory[number]
            x = layer(x, mask, bias=bias, memory=own, memory_mask=memory_mask)
        x = self.finish(x)
        if kept is not None:
            kept.append(x)
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
        for number, layer in enumerate(self.layers):
            own = None if memory is None else memory[number]
            x, state = layer.step(x, states[number], bias=bias, memory=own, memory_mask=memory_mask, width=width)
            after.append(state)
        return self.finish(x), after

    def _bias(self) -> ScoreBias | None:
        """What relative positions add to the scores, for one pass."""
        return None if self.positions is None else PassBias(self.positions)

    def finish(self, x: Tensor) -> Tensor:
        return self.dropout(x if self.norm is None else self.norm(x))


def norm_of(settings: TransformerConfig, width: int | None = None) -> nn.Module:
    """A norm of the model's kind over `width` numbers; None: d_model."""
    c = settings
    return make_norm(c.norm, width or c.d_model, eps=c.norm_eps, bias=c.norm_bias)


def _rotary(c: TransformerConfig, theta: float) -> Rotary | None:
    if c.positions != "rotary":
        return None
    scaling = None if c.rope_scaling.method == "none" else RopeScaling(**c.rope_scaling.model_dump())
    return Rotary(theta, c.rope_share, scaling, c.max_length)
