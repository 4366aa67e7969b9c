"""The block of the Transformer, and a stack of them: what encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nlpcli.attention.core import AttentionCore, DecodingState, ScoreBias
from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import MultiHeadAttention
from nlpcli.attention.patterns import Full, Pattern
from nlpcli.attention.position_bias import PassBias
from nlpcli.attention.states import KeyValue
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm
from nlpcli.layers.positions import RelativeBias, Rotary


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory when `cross` is set, and a feed-forward layer, each with a residual.

    post-norm: x = norm(x + dropout(f(x)));  pre-norm: x = x + dropout(f(norm(x))) (Xiong et al. 2020).
    parallel_residual: both sublayers of a pre-norm layer without cross-attention read the same x, and their sum is
    added to it (Wang and Komatsuzaki 2021).
    """

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        d_ff: int,
        cross: bool = False,
        pattern: Pattern = Full(),
        core: AttentionCore | None = None,
        kv_heads: int | None = None,
        d_key: int | None = None,
        d_value: int | None = None,
        norm: str = "layernorm",
        norm_position: str = "post",
        norm_eps: float = 1e-5,
        norm_bias: bool = True,
        qk_norm: bool = False,
        activation: str = "relu",
        rotary: bool | Rotary | None = None,
        parallel_residual: bool = False,
        attention_bias: bool = False,
        attention_scale: bool = True,
        feed_forward_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        attention = {
            "kv_heads": kv_heads,
            "d_key": d_key,
            "d_value": d_value,
            "bias": attention_bias,
            "dropout": attention_dropout,
            "qk_norm": qk_norm,
            "norm_eps": norm_eps,
            "scale": attention_scale,
        }
        self.pre_norm = norm_position == "pre"
        self.parallel_residual = parallel_residual
        self.self_attention = MultiHeadAttention(d_model, heads, rotary=rotary, pattern=pattern, core=core, **attention)
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
        if self.cross_attention is not None:
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
        positions away (Child et al. 2019; GPT-3 alternates both): see `nlpcli.attention.kinds`.
    causal: positions look at themselves and at those before them, as in a decoder.
    relative: T5's relative positions, one table for all layers: the settings of `RelativeBias`.
    first_norm: whether the first layer of a pre-norm stack normalizes what its self-attention reads.
    local_rotary: the rotary positions of layers with another pattern than full; None: those of all layers.
    """

    def __init__(
        self,
        count: int,
        *,
        attention: Sequence[str] = ("full",),
        causal: bool = False,
        relative: dict[str, int] | None = None,
        output_dropout: float = 0.0,
        first_norm: bool = True,
        local_rotary: Rotary | None = None,
        **layer: Any,
    ) -> None:
        super().__init__()
        entries = [parse_attention(text) for text in attention]
        self.layers = nn.ModuleList()
        for number in range(count):
            entry = entries[number % len(entries)]
            core = entry.core(scale=layer.get("attention_scale", True))
            own = {"rotary": local_rotary} if local_rotary and entry.pattern != Full() else {}
            self.layers.append(TransformerLayer(pattern=entry.pattern_of(causal=causal), core=core, **{**layer, **own}))
        if not first_norm:
            self.layers[0].self_attention_norm = nn.Identity()
        self.positions = RelativeBias(layer["heads"], causal=causal, **relative) if relative else None
        self.norm: nn.Module | None = None
        if layer.get("norm_position") == "pre":
            self.norm = make_norm(
                layer.get("norm", "layernorm"),
                layer["d_model"],
                eps=layer.get("norm_eps", 1e-5),
                bias=layer.get("norm_bias", True),
            )
        self.dropout = Dropout(output_dropout)

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
        bias, after = self._bias(), []
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
