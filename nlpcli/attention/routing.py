"""Routing attention (Roy et al. 2021): a position sees those whose vectors are nearest to the same centroid.

    cluster(x) = argmax_c x · μ_c / |μ_c|        μ (clusters, d_key): trained, other ones for each head

Queries and keys are one projection, as in the paper's causal layers. The paper moves a centroid towards the mean of
its vectors in each forward pass (online k-means). Here a centroid is a parameter. The choice of a cluster has no
gradient of the loss; in its place the backward pass gives each centroid the gradient of ½ |μ_c − mean_c|², times a
small factor. So the optimizer moves it to the same mean, and it is saved, averaged and resumed as all parameters are; a
forward pass changes nothing, and may be computed twice. The factor keeps the norm of all gradients, by which they are
clipped, near that of the loss; AdamW's steps do not depend on it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nlpcli.attention.bucket_attention import BucketAttention, normalized
from nlpcli.attention.masks import AttentionMask

_FACTOR = 0.01


class RoutingAttention(BucketAttention, nn.Module):
    """An `AttentionCore` with `clusters` clusters in each of `heads` heads, whose keys are d_key wide.

    scale: has no meaning here, since keys have length 1.
    """

    def __init__(self, clusters: int, window: int, *, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(clusters, window)
        del scale
        self.centroids = nn.Parameter(normalized(torch.randn(heads, clusters, d_key)))

    def buckets(self, key: Tensor) -> Tensor:
        nearness = key @ normalized(self.centroids).to(key).transpose(1, 2)
        return nearness.argmax(-1)[:, :, None]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, buckets: Tensor) -> Tensor:
        context = super().attend(query, key, value, mask, buckets)
        if not self.training or not torch.is_grad_enabled():
            return context
        found: Tensor = _WithPull.apply(context, self.centroids, self._pull(key, buckets, mask.keys))
        return found

    @torch.no_grad()
    def _pull(self, key: Tensor, buckets: Tensor, tokens: Tensor | None) -> Tensor:
        """μ_c − mean_c of the vectors of each cluster, times a factor, (heads, clusters, d_key); 0 for an empty one."""
        heads, width = key.size(1), key.size(-1)
        own = buckets[:, :, 0] + torch.arange(heads, device=key.device)[:, None] * self.count  # (rows, heads, m)
        counted = torch.ones_like(own) if tokens is None else tokens[:, None].expand_as(own)
        keys = normalized(key) * counted[..., None]
        sizes = keys.new_zeros(heads * self.count).index_add_(0, own.flatten(), counted.flatten().to(keys.dtype))
        sums = keys.new_zeros(heads * self.count, width).index_add_(0, own.flatten(), keys.flatten(0, 2))
        means = (sums / sizes.clamp(min=1)[:, None]).view(heads, self.count, width)
        sizes = sizes.view(heads, self.count, 1)
        return (self.centroids - means) * (sizes > 0) * _FACTOR


class _WithPull(torch.autograd.Function):
    """The context as it is; in the backward pass the centroids get a gradient that is given."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        context: Tensor,
        centroids: Tensor,
        pull: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(pull.to(centroids.dtype))
        return context.view_as(context)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, None]:
        return gradient, *ctx.saved_tensors, None
