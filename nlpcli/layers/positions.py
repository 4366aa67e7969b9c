"""Position encodings: sinusoidal, learned, rotary and bucketed relative positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlpcli.layers.rope_scaling import RopeScaling


def sinusoids(length: int, width: int, *, start: int = 0, halves: bool = False) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(…) (Vaswani et al. 2017, section 3.5).

    halves: all sines, then all cosines, as in tensor2tensor, Marian and PEGASUS; a permutation of the columns.
    Returns: (length, width) float32 for the positions start … start + length - 1.
    """
    if torch.get_default_device().type == "meta":  # only the shape is needed
        return torch.empty(length, width)
    position = torch.arange(start, start + length, dtype=torch.float64)[:, None]
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = position * rate  # (length, width / 2)
    if halves:
        return torch.cat((angle.sin(), angle.cos()), dim=-1).float()
    return torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(length, width).float()


class SinusoidalPositions(nn.Module):
    """Fixed sinusoids; the table grows with the longest sequence seen and is not stored with the weights."""

    table: Tensor

    def __init__(self, width: int, *, halves: bool = False, initial_length: int = 256) -> None:
        super().__init__()
        self.width = width
        self.halves = halves
        self.register_buffer("table", sinusoids(initial_length, width, halves=halves), persistent=False)

    def forward(self, length: int, start: int = 0) -> Tensor:
        """(length, width) for the positions from `start` on."""
        if start + length > self.table.size(0):
            with torch.inference_mode(False):  # a table that grew while translating must serve training, too
                self.table = sinusoids(2 * (start + length), self.width, halves=self.halves).to(self.table)
        return self.table[start : start + length]


class LearnedPositions(nn.Module):
    """One trained vector a position (BERT, GPT). `offset` rows at the front are kept free (BART: 2)."""

    def __init__(self, max_length: int, width: int, *, offset: int = 0) -> None:
        super().__init__()
        self.max_length = max_length
        self.offset = offset
        self.weight = nn.Parameter(torch.empty(max_length + offset, width))

    def forward(self, length: int, start: int = 0) -> Tensor:
        """(length, width) for the positions from `start` on. Raises: ValueError beyond `max_length`."""
        if start + length > self.max_length:
            raise ValueError(f"a sequence of {start + length} tokens is longer than the {self.max_length} positions")
        return self.weight[self.offset + start : self.offset + start + length]


@dataclass(frozen=True)
class Rotary:
    """How rotary positions turn queries and keys.

    theta: the base of the angles. share: the part of each head, at its front, that is turned. scaling: how the angles
    are changed for texts longer than `max_length`, the longest in training; None: not at all.
    """

    theta: float = 10000.0
    share: float = 1.0
    scaling: RopeScaling | None = None
    max_length: int = 0


class RotaryPositions(nn.Module):
    """Turns each pair (x_i, x_{i + d/2}) of a query or key by the angle pos / theta^(2i/d) (Su et al. 2021).

    d: the width, or that part of it that is turned.
    """

    table: Tensor  # (2, length, width / 2)

    def __init__(self, width: int, settings: Rotary = Rotary(), *, initial_length: int = 256) -> None:
        super().__init__()
        self.settings = settings
        self.width = int(width * settings.share)
        scaling = settings.scaling
        self.fixed = math.inf if scaling is None else scaling.fixed_until(settings.max_length)
        self.register_buffer("table", self._make(initial_length), persistent=False)

    def _make(self, length: int, within: int | None = None) -> Tensor:
        """(2, length, width / 2) of the positions of a text of `within` tokens; None: of any text."""
        if torch.get_default_device().type == "meta":
            return torch.empty(2, length, len(range(0, self.width, 2)))
        theta, scaling, factor = self.settings.theta, self.settings.scaling, 1.0
        longest = self.settings.max_length
        if scaling is not None:
            theta = scaling.theta(theta, self.width, within or 0, longest)
        rate = theta ** (-torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        if scaling is not None:
            rate, factor = scaling.rates(rate, theta, longest), scaling.factor_of_scores()
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
        return (torch.stack((angle.cos(), angle.sin())) * factor).float()

    def extended(self, length: int) -> Tensor:
        """The table (2, length, width / 2) for texts of up to `length` tokens."""
        return self._make(length).to(self.table)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(batch, heads, length, width) -> the same shape, turned by the positions from `start` on."""
        end = start + x.size(-2)
        if end > self.fixed:
            table = self._make(end, end).to(self.table)  # the angles depend on how long the text is
        else:
            if end > self.table.size(1):
                with torch.inference_mode(False):  # as above
                    self.table = self._make(2 * end).to(self.table)
            table = self.table
        cos, sin = table[:, start:end].to(x.dtype)
        if self.width == x.size(-1):
            left, right = x.chunk(2, dim=-1)
            return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
        turned, rest = x.split((self.width, x.size(-1) - self.width), dim=-1)
        left, right = turned.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin, rest), dim=-1)


class RelativeBias(nn.Module):
    """T5's positions: a trained number for each head and bucket of distances, added to the scores of attention.

    Half of the buckets (of each direction) hold one distance each, the others ever larger ranges, on a logarithmic
    scale up to `distance`; all that is farther shares the last bucket (Raffel et al. 2020, section 2.1). With
    `causal`, keys after the query share the bucket of distance 0: they are not seen anyway.
    """

    def __init__(self, heads: int, *, buckets: int = 32, distance: int = 128, causal: bool = False) -> None:
        super().__init__()
        self.buckets = buckets
        self.distance = distance
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(buckets, heads))

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def forward(self, n: int, m: int, start: int = 0) -> Tensor:
        """(1, heads, n, m) for queries at the positions from `start` on and keys at those from 0 on."""
        return self.between(*_positions(n, m, start, self.device))

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        """(1, heads, n, m) for queries at the positions (n,) and keys at the positions (m,)."""
        bucket = self.bucket(key[None, :] - query[:, None])  # (n, m)
        return self.weight[bucket].permute(2, 0, 1).unsqueeze(0)

    def bucket(self, offset: Tensor) -> Tensor:
        """The bucket of key position - query position, element by element."""
        buckets, base = self.buckets, torch.zeros_like(offset)
        if self.causal:
            away = (-offset).clamp(min=0)
        else:
            buckets //= 2
            base = (offset > 0).long() * buckets
            away = offset.abs()
        exact = buckets // 2
        ratio = torch.log(away.clamp(min=1).float() / exact) / math.log(self.distance / exact)
        far = exact + (ratio * (buckets - exact)).long()
        return base + torch.where(away < exact, away, far.clamp(max=buckets - 1))


class LinearBias(nn.Module):
    """ALiBi (Press et al. 2022): scores fall with the distance, −slope · |i − j|, by a slope for each head.

    The slopes are 2^(−8/H), 2^(−16/H), … 2^(−8) for H heads; where H is not a power of two, those of the next smaller
    power and every second one of the next greater, as in the authors' code. Nothing is trained.
    """

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes(heads)), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.slopes.device

    def forward(self, n: int, m: int, start: int = 0) -> Tensor:
        """(1, heads, n, m) for queries at the positions from `start` on and keys at those from 0 on."""
        return self.between(*_positions(n, m, start, self.device))

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        """(1, heads, n, m) for queries at the positions (n,) and keys at the positions (m,)."""
        distance = (key[None, :] - query[:, None]).abs()
        return (-self.slopes[:, None, None] * distance)[None]


def slopes(heads: int) -> list[float]:
    """The slopes of ALiBi, steepest first where `heads` is a power of two."""
    power: int = 1 << (heads.bit_length() - 1)
    own = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2.0 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return own + between[: heads - power]


def _positions(n: int, m: int, start: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Those of n queries from `start` on, and of m keys."""
    return torch.arange(start, start + n, device=device), torch.arange(m, device=device)
