"""Multi-head attention: projections, one attention core, and the output projection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlpcli.attention.recording import Recorder, apart, recorded_attention
from nlpcli.attention.softmax import softmax_attention
from nlpcli.layers.norms import RMSNorm
from nlpcli.layers.positions import RotaryPositions


@dataclass
class KeyValue:
    """Projected keys (rows, heads, m, d_key) and values (rows, heads, m, d_value) of what is attended to."""

    key: Tensor
    value: Tensor

    def extended(self, key: Tensor, value: Tensor) -> KeyValue:
        return KeyValue(torch.cat((self.key, key), dim=2), torch.cat((self.value, value), dim=2))

    def select(self, index: Tensor) -> KeyValue:
        return KeyValue(self.key.index_select(0, index), self.value.index_select(0, index))


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 … head_h) W^O (Vaswani et al. 2017, section 3.2.2).

    `recorder` is None, or is given the weights (rows, heads, n, m) of each call, for looking at them.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        d_key: int | None = None,
        d_value: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        rotary: bool = False,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        scale: bool = True,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.d_key = d_key or d_model // heads
        self.d_value = d_value or d_model // heads
        self.query = nn.Linear(d_model, heads * self.d_key, bias=bias)
        self.key = nn.Linear(d_model, heads * self.d_key, bias=bias)
        self.value = nn.Linear(d_model, heads * self.d_value, bias=bias)
        self.output = nn.Linear(heads * self.d_value, d_model, bias=bias)
        self.rotary = RotaryPositions(self.d_key) if rotary else None
        self.query_norm = RMSNorm(self.d_key, eps=norm_eps) if qk_norm else None
        self.key_norm = RMSNorm(self.d_key, eps=norm_eps) if qk_norm else None
        self.dropout = dropout
        self.scale = None if scale else 1.0  # of the scores; None: by the square root of d_key
        self.recorder: Recorder | None = None

    def project_memory(self, memory: Tensor, start: int = 0) -> KeyValue:
        """Keys and values of `memory` (batch, m, d_model), whose first position is `start`."""
        key = self._split(self.key(memory))
        if self.key_norm is not None:
            key = self.key_norm(key)
        if self.rotary is not None:
            key = self.rotary(key, start)
        return KeyValue(key, self._split(self.value(memory)))

    def forward(
        self,
        x: Tensor,
        memory: KeyValue,
        *,
        allowed: Tensor | None = None,
        causal: bool = False,
        bias: Tensor | None = None,
        start: int = 0,
        width: int = 1,
    ) -> Tensor:
        """Queries from x (rows, n, d_model), first at position `start`, over `memory` -> (rows, n, d_model).

        `allowed` and `bias` (added to the scores) broadcast to (rows, heads, n, m). `width` consecutive rows of x share
        one row of `memory` (the beam of one source sentence); then `causal` does not apply and `allowed` broadcasts
        over queries.
        """
        query = self._split(self.query(x))
        if self.query_norm is not None:
            query = self.query_norm(query)
        if self.rotary is not None:
            query = self.rotary(query, start)
        rows, heads, n, d_key = query.shape
        if width > 1:
            query = query.view(rows // width, width, heads, n, d_key).transpose(1, 2)
            query = query.reshape(rows // width, heads, width * n, d_key)
        given = {"allowed": allowed, "causal": causal, "bias": bias, "scale": self.scale}
        dropout = self.dropout if self.training else 0.0
        if self.recorder is None:
            context = apart(softmax_attention(query, memory.key, memory.value, dropout=dropout, **given), width)
        else:
            context = recorded_attention(
                self.recorder, query, memory.key, memory.value, width=width, dropout=dropout, **given
            )
        context = context.transpose(1, 2).reshape(rows, n, heads * self.d_value)
        return self.output(context)

    def _split(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)  # (batch, heads, length, width)
