"""Position terms of attention scores, computed once for all layers that share them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nlpcli.attention.key_value_cache import Positions


class PositionBias(Protocol):
    """A module that gives a number to each pair of positions, such as `RelativeBias`."""

    def __call__(self, n: int, m: int, start: int = 0) -> Tensor:
        """(1, heads, n, m) for the queries from `start` on and all m keys."""
        ...

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        """(1, heads, n, m) for the positions of n queries and m keys."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its numbers are."""
        ...


class PassBias:
    """A `ScoreBias` out of a module that depends on distances only, for one pass.

    Each bias is computed once; the layers after the first one receive the same tensor.
    """

    def __init__(self, module: PositionBias) -> None:
        self.module = module
        self._known: dict[object, Tensor] = {}

    def dense(self, n: int, m: int) -> Tensor:
        if (n, m) not in self._known:
            self._known[n, m] = self.module(n, m, m - n)
        return self._known[n, m]

    def between(self, query: Positions, key: Positions) -> Tensor:
        name = (
            (query.start - key.start, len(query), len(key)) if key.first == 0 else (query, key)
        )  # only distances count
        if name not in self._known:
            device = self.module.device
            self._known[name] = self.at(query.tensor(device), key.tensor(device))
        return self._known[name]

    def at(self, query: Tensor, key: Tensor) -> Tensor:
        return self.module.between(query, key)
