"""Multi-head self-attention that computes a convolution.

A head whose scores are quadratic in the way δ from the query to the key,

    score_h(δ) = −α ‖δ − Δ_h‖² = −α (‖δ‖² − 2 δ · Δ_h) + a constant, which softmax ignores,

attends to the position at Δ_h from the query, and to its neighbors the less, the larger α is. A layer with one head for
each Δ_h of a kernel, and the kernel's matrices in its output projection, is a convolution in the limit of α.

Source: Cordonnier, Loukas and Jaggi 2020, theorem 1 and lemma 2.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpcli.attention.key_value_cache import Positions
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention


class QuadraticScores:
    """−α ‖δ − Δ_h‖² for the positions of a line (n,) or a plane (rows, columns) in their order: a `ScoreBias`.

    shifts: (heads, d), where each head looks, seen from the query.
    """

    def __init__(self, size: tuple[int, ...], shifts: Tensor, alpha: float) -> None:
        self.places = _grid([range(length) for length in size]).to(shifts)  # (positions, d)
        self.shifts, self.alpha = shifts, alpha

    def dense(self, n: int, m: int) -> Tensor:
        positions = torch.arange(m, device=self.shifts.device)
        return self.at(positions[m - n :], positions)

    def between(self, query: Positions, key: Positions) -> Tensor:
        return self.at(query.tensor(self.shifts.device), key.tensor(self.shifts.device))

    def at(self, query: Tensor, key: Tensor) -> Tensor:
        way = self.places[key][None, :] - self.places[query][:, None]  # (n, m, d)
        squares = (way[None] - self.shifts[:, None, None]).square().sum(dim=-1)  # (heads, n, m)
        return -self.alpha * squares[None]


class ConvolutionalAttention(nn.Module):
    """A layer of multi-head self-attention with quadratic relative scores that does what a convolution does.

    convolution: odd in width, as many channels out as in, stride 1, padding "same". alpha: how sharply heads attend.
    x (rows, channels, *size) -> the same shape. As in the convolution, there are zeros around x, at which heads look.
    """

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d, alpha: float) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        channels = weight.size(0)
        self.alpha = alpha
        self.reach = [width // 2 for width in weight.shape[2:]]
        shifts = _grid([range(-reach, reach + 1) for reach in self.reach]).to(weight)
        self.register_buffer("shifts", shifts)
        self.shifts: Tensor
        heads = len(shifts)
        layer = MultiHeadAttention(channels, AttentionSettings(heads, d_key=1, d_value=channels, bias=True)).to(weight)
        assert layer.output is not None  # as the settings have it
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()  # scores come from positions alone
            layer.value.weight.copy_(torch.eye(channels).repeat(heads, 1))
            layer.output.weight.copy_(weight.flatten(2).transpose(1, 2).flatten(1))  # (out, heads · in)
            if convolution.bias is not None:
                layer.output.bias.copy_(convolution.bias)
        self.attention = layer

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, [reach for reach in reversed(self.reach) for _ in range(2)])
        size = padded.shape[2:]
        bias = QuadraticScores(tuple(size), self.shifts, self.alpha)
        found = self.attention(padded.flatten(2).transpose(1, 2), bias=bias)
        found = found.transpose(1, 2).unflatten(2, size)
        for axis, reach in enumerate(self.reach, start=2):
            found = found.narrow(axis, reach, x.size(axis))
        return found


def _grid(ranges: list[range]) -> Tensor:
    """All combinations, the last range fastest: (combinations, ranges)."""
    return torch.tensor(list(itertools.product(*ranges)))
