"""Long texts in chunks: features of positions are computed and held for one chunk at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_LENGTH = 1024
"""Positions of a chunk; the features of a longer one do not fit into a processor's caches."""


def chunks(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Tensors (rows, heads, n, width), and tokens (rows, n), cut along n."""
    parts = [itertools.repeat(None) if x is None else x.split(CHUNK_LENGTH, dim=min(x.dim() - 1, 2)) for x in tensors]
    return zip(*parts, strict=False)


def checkpointed(length: int, function: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """function(*tensors). For a text of several chunks, the backward pass recomputes the function's inner values."""
    if length <= CHUNK_LENGTH or not torch.is_grad_enabled():
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
