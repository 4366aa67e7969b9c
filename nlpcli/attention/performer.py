"""Performer (Choromanski et al. 2021): random features whose products are, on average, those of softmax attention.

    E[φ(q)ᵀ φ(k)] = exp(q·k)        φ(x) = exp(W x − |x|²/2) / √m                            (positive, lemma 1)
                                    φ(x) = exp(± W x − |x|²/2) / √m, two for each row of W   (hyperbolic)

q and k are divided by d^¼ each, so that their product is the scaled dot product. Rows of W are Gaussian; those of a
block of d are orthogonal (section 2.4), which makes the estimate better. W is the same for all texts: it depends
on the layer, the width, the number of features and the number of the sample only. That number is stored with the
weights, so that a loaded model has the features of its training. Training may resample W from time to time
(appendix B.3).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from nlpcli.attention.linear import LinearAttention

_SEED = 2021
_LARGEST = 50.0
"""The largest exponent of a key, so that sums stay finite; keys with about ten times the usual norm reach it."""


class PerformerAttention(LinearAttention, nn.Module):
    """Attention with m = `features` positive random features (FAVOR+): an `AttentionCore`.

    scale: whether scores are those of the scaled dot product. layer: number of the layer; each layer has its own
    W. draw: the number of the sample.
    """

    hyperbolic = False
    draw: Tensor

    def __init__(self, features: int, *, scale: bool = True, layer: int = 0) -> None:
        nn.Module.__init__(self)
        self.features = features
        self.scale = scale
        self.layer = layer
        self.register_buffer("draw", torch.zeros((), dtype=torch.long))

    def redraw(self, number: int) -> None:
        """Takes the features of the sample with this number; the first one is number 0."""
        self.draw.fill_(number)

    def query_features(self, query: Tensor) -> Tensor:
        exponents = self._exponents(query)
        return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()

    def key_features(self, key: Tensor) -> Tensor:
        return self._exponents(key).clamp(max=_LARGEST).exp()  # not less the greatest of all keys: it may come later

    def _exponents(self, x: Tensor) -> Tensor:
        width = x.size(-1)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.scale:
            x = x * width**-0.25
        rows = -(-self.features // 2) if self.hyperbolic else self.features
        draw = 0 if self.draw.is_meta else int(self.draw)
        projected = x @ projection(rows, width, self.layer, draw).to(x).T
        if self.hyperbolic:
            projected = torch.cat((projected, -projected), dim=-1)[..., : self.features]
        return projected - x.square().sum(-1, keepdim=True) / 2


class HyperbolicPerformerAttention(PerformerAttention):
    """The same with two features, exp(W x) and exp(−W x), for each row of W."""

    hyperbolic = True


@functools.lru_cache(maxsize=64)
def projection(rows: int, width: int, layer: int = 0, draw: int = 0) -> Tensor:
    """W (rows, width): Gaussian rows, orthogonal to each other within each block of `width` rows; float32.

    Layers share it: it must not be written to.
    """
    with torch.inference_mode(False), torch.device("cpu"):  # what was made while translating must serve training, too
        generator = torch.Generator().manual_seed((_SEED + draw * 10_000) * 10_000 + layer)
        blocks = []
        for start in range(0, rows, width):
            square, triangle = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
            square = square * triangle.diagonal().sign()  # uniform among rotations
            norms = torch.randn(width, width, generator=generator, dtype=torch.float64).norm(dim=1)
            blocks.append((square * norms[:, None])[: rows - start])
        return torch.cat(blocks).float()
