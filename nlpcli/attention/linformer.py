"""Linformer (Wang et al. 2020): keys and values of a text are projected to K of each, along its length.

    context = softmax(Q (E K)ᵀ / √d) F V        E, F (K, length), trained

Heads of a layer share E and F, or each has its own, or all layers share one E, which is F as well (section 4).

Every slot mixes all positions, so that it can't be a decoder's attention, and E and F have a column for each position,
so that no text can be longer than `length`. Padding adds nothing to a slot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpcli.attention.core import DecodingState, ScoreBias
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Full
from nlpcli.attention.softmax import softmax_attention, softmax_weights


class LinformerAttention(nn.Module):
    """An `AttentionCore` that attends to `slots` mixtures of keys, the same mixtures in all heads of a layer.

    length: the longest text. Its weights are those of the slots times F: they give the context, but may be negative and
    need not sum to 1.
    """

    def __init__(self, slots: int, *, scale: bool = True, length: int = 512) -> None:
        super().__init__()
        self.scale = None if scale else 1.0
        self.length = length
        self.make_maps(slots, length)

    def make_maps(self, *shape: int) -> None:
        """E and F of this shape; its last number is the length."""
        self.key_map = nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5)
        self.value_map = nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        keys, values = (_projected(by, x, mask) for by, x in ((self.key_map, key), (self.value_map, value)))
        return softmax_attention(query, keys, values, scale=self.scale, dropout=dropout)

    def start(self, mask: AttentionMask) -> DecodingState:
        """Raises: NotImplementedError, always: it mixes all positions."""
        raise NotImplementedError("Linformer mixes all positions, so that a text can't be read step by step")

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: DecodingState,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, DecodingState]:
        """Raises: NotImplementedError, always."""
        raise NotImplementedError("Linformer mixes all positions, so that a text can't be read step by step")

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: DecodingState | None = None,
    ) -> Tensor:
        slots = softmax_weights(query, _projected(self.key_map, key, mask), scale=self.scale)
        found = slots @ self.value_map[..., : key.size(2)].to(slots.dtype)
        return found if mask.keys is None else found * mask.keys[:, None, None]


class HeadsLinformerAttention(LinformerAttention):
    """The same with mixtures of its own for each head."""

    def __init__(self, slots: int, *, heads: int, d_key: int, scale: bool = True, length: int = 512) -> None:
        self.heads = heads
        super().__init__(slots, scale=scale, length=length)

    def make_maps(self, *shape: int) -> None:
        super().make_maps(self.heads, *shape)


class OneMapLinformerAttention(LinformerAttention):
    """The same mixtures of keys and of values; a stack has one core of this kind for all layers."""

    def make_maps(self, *shape: int) -> None:
        super().make_maps(*shape)
        self.value_map = self.key_map


def _projected(by: Tensor, x: Tensor, mask: AttentionMask) -> Tensor:
    """(rows, heads, m, width) -> (rows, heads, slots, width). Raises: ValueError for a text that is too long, and for a
    mask that slots can't keep to."""
    if mask.pattern != Full() or mask.documents is not None or mask.permutation is not None:
        raise ValueError("Linformer does not support patterns, document masks or permutations")
    m = x.size(2)
    if m > by.size(-1):
        raise ValueError(f"the text has {m} tokens, but Linformer has projections for {by.size(-1)}")
    if mask.keys is not None:
        x = torch.where(mask.keys[:, None, :, None], x, torch.zeros((), dtype=x.dtype, device=x.device))
    return by[..., :m].to(x.dtype) @ x
