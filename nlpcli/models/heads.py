"""Heads on top of a stack: from states to predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nlpcli.layers.dropout import Dropout
from nlpcli.layers.feed_forward import activation_function
from nlpcli.layers.linear import Linear
from nlpcli.layers.norms import make_norm
from nlpcli.models.padded_batch import Rows


class MaskedHead(nn.Module):
    """norm(f(W x + b)): what masked language modelling puts before the vocabulary (BERT, RoBERTa).

    (…, d_model) -> (…, d_embedding)
    """

    def __init__(
        self, width: int, norm: nn.Module, *, out: int | None = None, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.dense = Linear(width, out or width, bias=bias)
        self.activation = activation_function(activation)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class Pooler(nn.Module):
    """tanh(W x_0 + b) of the first token's state x_0 (Devlin et al. 2019): (batch, n, d_model) -> (batch, d_model)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        return self.dense(states[:, 0]).tanh()


def prediction_layer(
    width: int, *, activation: str, norm_eps: float, norm_bias: bool = False, bias: bool = False
) -> MaskedHead:
    """A layer as before the vocabulary under a task's output (Warner et al. 2024): norm(f(W x))."""
    norm = make_norm("layernorm", width, eps=norm_eps, bias=norm_bias)
    return MaskedHead(width, norm, activation=activation, bias=bias)


class TextHead(nn.Module):
    """One vector of outputs for a text: W₂ f(W₁ p + b₁) + b₂ of its pooled state p, or W p + b without `dense`.

    (rows, n, width) -> (rows, outputs). With `first` the inner layer is BERT's pooler. activation: f. Sources: `first`
    Devlin et al. 2019, section 4.1; `last` Radford et al. 2018, section 3.2, and Lewis et al. 2020, section 3.1.
    prediction: the settings of `prediction_layer`, which p goes through first; None: nothing.
    """

    output_of: ClassVar[str] = "text"

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        pooling: str,
        dense: bool = False,
        activation: str = "tanh",
        dropout: float = 0.0,
        prediction: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.prediction = prediction_layer(width, **prediction) if prediction else None
        self.dense = Linear(width, width) if dense else None
        self.activation = torch.tanh if activation == "tanh" else activation_function(activation)
        self.dropout = Dropout(dropout)
        self.output = Linear(width, outputs)

    def forward(self, states: Tensor, rows: Rows) -> Tensor:
        x = pooled(states, rows, self.pooling)
        if self.prediction is not None:
            x = self.prediction(x)
        if self.dense is not None:
            x = self.activation(self.dense(x))
        return self.output(self.dropout(x))


class TokenHead(nn.Module):
    """A vector of outputs for every token: W x_i + b, where an LSTM that reads both ways may stand before.

    (rows, n, width) -> (rows, n, outputs). recurrent: the width of each direction of its two layers (Devlin et al.
    2019, section 5.3), 0 for none. prediction: as of `TextHead`.
    """

    output_of: ClassVar[str] = "tokens"

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        dropout: float = 0.0,
        recurrent: int = 0,
        prediction: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.prediction = prediction_layer(width, **prediction) if prediction else None
        self.recurrent = None
        if recurrent:
            self.recurrent = nn.LSTM(width, recurrent, num_layers=2, batch_first=True, bidirectional=True)
        self.dropout = Dropout(dropout)
        self.output = Linear(2 * recurrent if recurrent else width, outputs)

    def forward(self, states: Tensor, rows: Rows) -> Tensor:
        x = self.dropout(states if self.prediction is None else self.prediction(states))
        if self.recurrent is not None:
            packed = nn.utils.rnn.pack_padded_sequence(x, (rows.ends + 1).cpu(), batch_first=True, enforce_sorted=False)
            x, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
            x = self.dropout(x)
        return self.output(x)


class VectorHead(nn.Module):
    """A text's vector: its pooled state, of length 1 if `normalize` (Reimers and Gurevych 2019, section 3).

    (rows, n, width) -> (rows, width). classes: of pairs of texts, which `compare` distinguishes; 0 for none. product:
    by u * v, too (Conneau et al. 2017, figure 1).
    """

    output_of: ClassVar[str] = "vector"

    def __init__(
        self, width: int, *, pooling: str, normalize: bool = False, classes: int = 0, product: bool = False
    ) -> None:
        super().__init__()
        self.width = width
        self.pooling = pooling
        self.normalize = normalize
        self.product = product
        self.classes = Linear((3 + product) * width, classes) if classes else None

    def forward(self, states: Tensor, rows: Rows) -> Tensor:
        x = pooled(states, rows, self.pooling)
        return nn.functional.normalize(x, dim=-1) if self.normalize else x

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        """W [u; v; |u - v|] + b, or W [u; v; |u - v|; u * v] + b: vectors (n, width) of two texts -> (n, classes)."""
        assert self.classes is not None
        features = (u, v, (u - v).abs(), *([u * v] if self.product else []))
        return self.classes(torch.cat(features, dim=-1))


def pooled(states: Tensor, rows: Rows, pooling: str) -> Tensor:
    """(rows, n, width) -> (rows, width): the state of the first or the last token, or the mean or greatest of all."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(states.size(0), device=states.device), rows.ends]
    if pooling == "max":
        return greatest(states, rows.mask)
    assert pooling == "mean"
    return mean(states, rows.mask)


def mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """(rows, n, width) -> (rows, width): of the states where mask (rows, n) is True."""
    if mask is None:
        return states.mean(dim=1)
    counted = mask[..., None].to(states.dtype)
    return (states * counted).sum(dim=1) / counted.sum(dim=1)


def greatest(states: Tensor, mask: Tensor | None) -> Tensor:
    """(rows, n, width) -> (rows, width): the greatest number of each feature where mask (rows, n) is True."""
    if mask is not None:
        states = states.masked_fill(~mask[..., None], -torch.inf)
    return states.amax(dim=1)
