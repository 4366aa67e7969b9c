"""Long texts piece by piece: what is made for each position, such as features, is held of one piece only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PIECE = 1024
"""Positions of a piece: the features of more no longer fit into a processor's caches."""


def pieces(*given: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Tensors (rows, heads, n, width), and tokens (rows, n), cut along n."""
    parts = [itertools.repeat(None) if x is None else x.split(PIECE, dim=min(x.dim() - 1, 2)) for x in given]
    return zip(*parts, strict=False)


def called(length: int, function: Callable[..., Any], *given: Tensor | None) -> Any:
    """function(*given). Of a text of several pieces the backward pass makes again what the function has made inside."""
    if length <= PIECE or not torch.is_grad_enabled():
        return function(*given)
    return checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
