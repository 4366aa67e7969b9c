"""Normalisation layers by name."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nlpcli.errors import unknown


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + eps) · w over the last axis (Zhang and Sennrich 2019).

    The weight follows the numbers' type: in bfloat16, torch's fused kernel takes no float32 weight.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def make_norm(name: str, width: int, *, eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over the last axis of `width` numbers."""
    if name == "layernorm":
        return nn.LayerNorm(width, eps=eps, bias=bias)
    if name == "rmsnorm":
        return RMSNorm(width, eps=eps)
    raise unknown("norm", name, ("layernorm", "rmsnorm"))
