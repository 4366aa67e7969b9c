"""Normalisation layers by name."""

from __future__ import annotations

from torch import nn

from nlpcli.errors import unknown


def make_norm(name: str, width: int, *, eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over the last axis of `width` numbers."""
    if name == "layernorm":
        return nn.LayerNorm(width, eps=eps, bias=bias)
    if name == "rmsnorm":
        return nn.RMSNorm(width, eps=eps)
    raise unknown("norm", name, ("layernorm", "rmsnorm"))
