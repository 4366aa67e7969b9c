"""Dropout whose random numbers don't cost more than the layer it stands on, in the forms that models use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """y = x · m / (1 - p) with m ~ Bernoulli(1 - p) for each number, in training only (Srivastava et al. 2014).

    On a CPU, torch samples its Bernoulli numbers one after the other, a tenth of a small Transformer's step. Here bytes
    are sampled in bulk and compared with p, which is rounded to a multiple of 1/65536. The bulk generator's seed comes
    from torch's random state, which so remains the only one.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if not _in_bulk(x):
            return nn.functional.dropout(x, self.p)
        return x * _mask(x.shape, self.p, x)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class VariationalDropout(Dropout):
    """y_t = x_t · m / (1 - p) with one mask m for all positions t of a sequence (Gal and Ghahramani 2016).

    (rows, n, d) -> (rows, n, d), the mask (rows, 1, d).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return x * _mask((x.size(0), 1, x.size(2)), self.p, x)


class TokenDropout(Dropout):
    """The embedding of a token is 0 wherever it occurs in a batch, with probability p, or else divided by 1 - p.

    Equal to dropout on whole rows of the embedding matrix (Gal and Ghahramani 2016; Merity et al. 2018, section 4.3).
    """

    def __init__(self, vocab_size: int, p: float = 0.0) -> None:
        super().__init__(p)
        self.vocab_size = vocab_size

    def of(self, x: Tensor, ids: Tensor) -> Tensor:
        """x (rows, n, d), the embeddings of ids (rows, n)."""
        if not self.training or self.p == 0.0:
            return x
        return x * _mask((self.vocab_size, 1), self.p, x)[ids]


def _in_bulk(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _mask(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """m / (1 - p) of the given shape, of the type and on the device of `like`."""
    if not _in_bulk(like):
        return nn.functional.dropout(like.new_ones(shape), p)
    count = int(np.prod(shape))
    drop = min(round(p * 65536), 65535)
    bits = np.random.SFC64(int(torch.randint(1 << 62, ())))
    words = bits.random_raw((count + 3) // 4).view(np.uint16)[:count]
    kept = torch.from_numpy(words >= drop).view(*shape)
    return kept.to(like.dtype).mul_(65536 / (65536 - drop))
