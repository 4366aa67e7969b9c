"""Dropout whose random numbers don't cost more than the layer it stands on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """y = x · m / (1 - p) with m ~ Bernoulli(1 - p) for each number, in training only (Srivastava et al. 2014).

    On a CPU, torch draws its Bernoulli numbers one after the other, a tenth of a small Transformer's step. Here bytes
    are drawn in bulk and compared with p, which is rounded to a multiple of 1/65536. The bulk generator's seed comes
    from torch's random state, which so remains the only one.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.dropout(x, self.p)
        drop = min(round(self.p * 65536), 65535)
        bits = np.random.SFC64(int(torch.randint(1 << 62, ())))
        words = bits.random_raw((x.numel() + 3) // 4).view(np.uint16)[: x.numel()]
        kept = torch.from_numpy(words >= drop).view(x.shape)
        return x * kept.to(x.dtype).mul_(65536 / (65536 - drop))

    def extra_repr(self) -> str:
        return f"p={self.p}"
