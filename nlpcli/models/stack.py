"""The block of the Transformer, and a stack of them: what encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nlpcli.attention.multi_head import KeyValue, MultiHeadAttention
from nlpcli.attention.softmax import window_mask
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.norms import make_norm
from nlpcli.layers.positions import RelativeBias


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
        window: int | None = None,
        attention_bias: bool = False,
        attention_scale: bool = True,
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
            "scale": attention_scale,
        }
        self.pre_norm = norm_position == "pre"
        self.causal = causal
        self.window = window
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
        bias: Tensor | None = None,
        past: KeyValue | None = None,
        start: int = 0,
        memory: KeyValue | None = None,
        memory_allowed: Tensor | None = None,
        width: int = 1,
    ) -> tuple[Tensor, KeyValue]:
        """x (rows, n, d_model), whose first position is `start`, after the `past` keys and values.

        `allowed` and `bias` are self-attention's; a window narrows what is allowed.
        Returns: the layer's output (rows, n, d_model), and the keys and values of past and x together.
        """
        y = self.self_attention_norm(x) if self.pre_norm else x
        present = self.self_attention.project_memory(y, start)
        if past is not None:
            present = past.extended(present.key, present.value)
        if self.window is not None:
            near = window_mask(x.size(1), present.key.size(2), self.window, device=x.device)
            allowed = near if allowed is None else allowed & near
        y = self.self_attention(y, present, allowed=allowed, causal=self.causal, bias=bias, start=start)
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
    """Layers one after the other, and a last norm where they are pre-norm.

    attention: a pattern for each layer, repeated as often as needed: "full", or "window:W" for keys fewer than W
        positions away (Child et al. 2019; GPT-3 alternates both).
    relative: T5's relative positions, one table for all layers: the settings of `RelativeBias`.
    """

    def __init__(
        self,
        count: int,
        *,
        attention: Sequence[str] = ("full",),
        relative: dict[str, int] | None = None,
        output_dropout: float = 0.0,
        **layer: Any,
    ) -> None:
        super().__init__()
        windows = [None if pattern == "full" else int(pattern.removeprefix("window:")) for pattern in attention]
        self.layers = nn.ModuleList(
            TransformerLayer(window=windows[number % len(windows)], **layer) for number in range(count)
        )
        self.positions = (
            RelativeBias(layer["heads"], causal=layer.get("causal", False), **relative) if relative else None
        )
        self.norm: nn.Module | None = None
        if layer.get("norm_position") == "pre":
            self.norm = make_norm(
                layer.get("norm", "layernorm"),
                layer["d_model"],
                eps=layer.get("norm_eps", 1e-5),
                bias=layer.get("norm_bias", True),
            )
        self.dropout = Dropout(output_dropout)

    def forward(self, x: Tensor, *, allowed: Tensor | None = None, kept: list[Tensor] | None = None) -> Tensor:
        """Whole sequences at once, without a memory: (batch, n, d_model) -> (batch, n, d_model).

        kept: is given what enters each layer, from the bottom to the top, and then what the stack gives.
        """
        bias = self.bias(x.size(1), x.size(1))
        for layer in self.layers:
            if kept is not None:
                kept.append(x)
            x, _ = layer(x, allowed=allowed, bias=bias)
        x = self.finish(x)
        if kept is not None:
            kept.append(x)
        return x

    def bias(self, n: int, m: int, start: int = 0) -> Tensor | None:
        """What relative positions add to the scores of n queries, the first at `start`, and m keys."""
        return None if self.positions is None else self.positions(n, m, start)

    def finish(self, x: Tensor) -> Tensor:
        return self.dropout(x if self.norm is None else self.norm(x))
