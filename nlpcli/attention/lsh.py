"""LSH attention (Reformer; Kitaev et al. 2020): a position sees those whose vectors point in about the same direction.

    bucket(x) = argmax([x R; −x R])        R (d_key, buckets / 2): random, another one for each head and round

Vectors with a large product fall into one bucket in most rounds (locality-sensitive hashing; Andoni et al. 2015).
Several rounds find what one misses; the keys of all rounds share one softmax. The random matrices depend on the layer
only, so that a model that is loaded has the buckets of its training.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from nlpcli.attention.bucket_attention import BucketAttention

_SEED = 2020


class LSHAttention(BucketAttention):
    """An `AttentionCore` with `rounds` rounds of hashing into `buckets` buckets.

    scale: has no meaning here, since keys have length 1. layer: number of the layer, each layer has matrices of its
    own.
    """

    def __init__(self, buckets: int, rounds: int, window: int, *, scale: bool = True, layer: int = 0) -> None:
        super().__init__(buckets, window)
        del scale
        self.rounds = rounds
        self.layer = layer

    def buckets(self, key: Tensor) -> Tensor:
        columns = -(-self.count // 2)
        matrices = rotations(key.size(1), key.size(-1), self.rounds, columns, self.layer)
        turned = (key @ matrices.to(key)).unflatten(-1, (self.rounds, columns))
        return torch.cat((turned, -turned[..., : self.count - columns]), dim=-1).argmax(-1).transpose(2, 3)


@functools.lru_cache(maxsize=64)
def rotations(heads: int, width: int, rounds: int, columns: int, layer: int = 0) -> Tensor:
    """The random matrices of all heads and rounds, (heads, width, rounds · columns), float32.

    Layers share it: it must not be written to.
    """
    with torch.inference_mode(False), torch.device("cpu"):  # what was made while translating must serve training, too
        generator = torch.Generator().manual_seed(_SEED * 10_000 + layer)
        return torch.randn(heads, width, rounds * columns, generator=generator)
