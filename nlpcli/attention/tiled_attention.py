"""Local patterns really sparse: attention by the tiles of `nlpcli.attention.tiles`, and no (n, m) matrix.

Each tile is one call of PyTorch's flash kernel on slices of keys and values. So time and memory grow with the pairs
that attend.

There are two executors, equal but for rounding. The fast one calls the CPU's flash kernel and its backward pass, which
are private to PyTorch, and adds gradients in place; the other one goes through `F.scaled_dot_product_attention`, and
serves where the first can't: with dropout or a bias, values of another width than keys, on a GPU, and without the
private kernel. Two parts of one softmax, merged by the logarithms of their sums, the fast executor alone can do.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpcli.attention.core import ScoreBias, for_heads
from nlpcli.attention.key_value_cache import Positions
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.tiles import ByRemainder, Tile, Tiling

HALVES = (torch.bfloat16, torch.float16)

_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tiles: Tiling,
    mask: AttentionMask,
    *,
    bias: ScoreBias | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """As `softmax_attention` under `mask`, whose pattern's tiles are given: (rows, heads, n, d_value).

    The mask has no permutation.
    """
    if query.device.type == "cpu" and query.dtype in HALVES and query.requires_grad:
        # On a CPU the fused kernel's backward pass takes ten times longer in half precision than in float32.
        with torch.autocast("cpu", enabled=False):
            whole = (query.float(), key.float(), value.float())
            return tiled_attention(*whole, tiles, mask, bias=bias, scale=scale, dropout=dropout).to(query.dtype)
    key, value = for_heads(key, query.size(1)), for_heads(value, query.size(1))
    hidden = _Hidden(mask, tiles, query)
    if bias is not None or dropout or not can_merge(query, value):
        return _through_public(query, key, value, tiles, hidden, bias, scale, dropout)
    return _Tiled.apply(query, key, value, tiles, hidden, scale)


def can_merge(query: Tensor, value: Tensor) -> bool:
    """Whether the fast executor computes this, where there is no bias and no dropout."""
    return (
        _FLASH is not None
        and _FLASH_BACKWARD is not None
        and query.device.type == "cpu"
        and query.size(-1) == value.size(-1)
        and not torch.compiler.is_compiling()
    )


class _Hidden:
    """The mask of padding and documents, tile by tile, combined with the pattern's mask."""

    def __init__(self, mask: AttentionMask, tiles: Tiling, query: Tensor) -> None:
        self.keys, self.documents = mask.keys, mask.documents
        self.dtype, self.device = query.dtype, query.device
        # places before this one are tokens in all rows
        self.whole = 0 if self.keys is None else int(self.keys.all(dim=0).cumprod(0).sum())

    def ordered(self, order: Tensor) -> _Hidden:
        """The same for positions in this order."""
        new = copy.copy(self)
        new.whole = 0
        new.keys = None if self.keys is None else self.keys[:, order]
        new.documents = None if self.documents is None else self.documents[:, order]
        return new

    def of(self, tile: Tile) -> Tensor | None:
        """Added to the scores, broadcasting to (rows, heads, queries, keys)."""
        mask = None if tile.mask is None else tile.mask.to(self.device, self.dtype)
        seen = self._seen(tile)
        if seen is None:
            return mask
        found = torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill_(~seen, float("-inf"))
        return found if mask is None else found + mask

    def _seen(self, tile: Tile) -> Tensor | None:
        seen = None
        all_tokens = not isinstance(tile.keys, Tensor) and tile.keys[1] <= self.whole
        if self.keys is not None and not all_tokens:
            seen = self._at_keys(self.keys, tile)[:, None, None, :]
        if self.documents is not None:
            own = self.documents[:, tile.first : tile.last]
            others = self._at_keys(self.documents, tile)
            same = own[:, None, :, None] == others[:, None, None, :]
            seen = same if seen is None else seen & same
        return seen

    def _at_keys(self, x: Tensor, tile: Tile) -> Tensor:
        """The columns of x (rows, m) that belong to the keys of a tile."""
        return x[:, tile.keys.to(self.device)] if isinstance(tile.keys, Tensor) else x[:, slice(*tile.keys)]


def _through_public(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tiles: Tiling,
    hidden: _Hidden,
    bias: ScoreBias | None,
    scale: float | None,
    dropout: float,
) -> Tensor:
    before = tiles.m - tiles.n
    parts = []
    for tile in tiles.tiles:
        if not isinstance(tile.keys, Tensor) and tile.keys == (0, 0):
            parts.append(value.new_zeros(*query.shape[:2], tile.last - tile.first, value.size(-1)))
            continue
        added = hidden.of(tile)
        if bias is not None:
            added = _of_tile(bias, tile, query) if added is None else _of_tile(bias, tile, query) + added
        own = query[:, :, tile.first - before : tile.last - before]
        parts.append(
            F.scaled_dot_product_attention(
                own, tile.of(key), tile.of(value), attn_mask=added, scale=scale, dropout_p=dropout
            )
        )
    return torch.cat(parts, dim=2)


def _of_tile(bias: ScoreBias, tile: Tile, query: Tensor) -> Tensor:
    own = Positions(0, tile.first, tile.last)
    if isinstance(tile.keys, Tensor):
        return bias.at(own.tensor(query.device), tile.keys.to(query.device)).to(query.dtype)
    return bias.between(own, Positions(0, *tile.keys)).to(query.dtype)


class _Tiled(torch.autograd.Function):
    """One call of the flash kernel a tile, and of its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tiles: Tiling,
        hidden: _Hidden,
        scale: float | None,
    ) -> Tensor:
        rows, heads, n, width = query.shape
        context = query.new_zeros(rows, n, heads, width).transpose(1, 2)  # as the kernel lays it out
        sums = query.new_zeros(rows, n, heads, dtype=torch.promote_types(query.dtype, torch.float32)).transpose(1, 2)
        _fill(context, sums, query, key, value, tiles, hidden, scale)
        if tiles.by_remainder is not None:
            context, sums = _merged(context, sums, query, key, value, tiles.by_remainder, hidden, scale)
        ctx.save_for_backward(query, key, value, context, sums)
        ctx.tiles, ctx.hidden, ctx.scale = tiles, hidden, scale
        return context

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        gradient: Tensor,
    ) -> tuple[Tensor | None, ...]:
        query, key, value, context, sums = ctx.saved_tensors
        of_query, of_key, of_value = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        saved, found = (gradient, query, key, value, context, sums), (of_query, of_key, of_value)
        _add_gradients(found, saved, ctx.tiles, ctx.hidden, ctx.scale)
        ordered = ctx.tiles.by_remainder
        if ordered is not None:
            own = tuple(x.index_select(2, ordered.order) for x in saved)
            further = tuple(torch.zeros_like(x) for x in own[1:4])
            _add_gradients(further, own, ordered.tiling, ctx.hidden.ordered(ordered.order), ctx.scale)
            for whole, part in zip(found, further, strict=True):
                whole += part.index_select(2, ordered.places)
        return of_query, of_key, of_value, None, None, None


def _fill(
    context: Tensor,
    sums: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tiles: Tiling,
    hidden: _Hidden,
    scale: float | None,
) -> None:
    """Writes the contexts and the logarithms of the sums of queries that may see any key."""
    before = tiles.m - tiles.n
    for tile in tiles.looking:
        own = slice(tile.first - before, tile.last - before)
        context[:, :, own], sums[:, :, own] = _FLASH(
            query[:, :, own], tile.of(key), tile.of(value), 0.0, False, attn_mask=hidden.of(tile), scale=scale
        )


def _merged(
    context: Tensor,
    sums: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ordered: ByRemainder,
    hidden: _Hidden,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """The contexts and logarithms of one softmax over the keys of two parts: these, and those of `ordered`."""
    part, logs = torch.zeros_like(context), torch.zeros_like(sums)
    query, key, value = (x.index_select(2, ordered.order) for x in (query, key, value))
    _fill(part, logs, query, key, value, ordered.tiling, hidden.ordered(ordered.order), scale)
    part, logs = part.index_select(2, ordered.places), logs.index_select(2, ordered.places)
    # The kernel gives the logarithm 0 where nothing is seen, which is also what keys with this sum would give.
    logs = logs.masked_fill((logs == 0) & (part == 0).all(-1), float("-inf"))
    sums = sums.masked_fill((sums == 0) & (context == 0).all(-1), float("-inf"))
    both = torch.logaddexp(sums, logs)
    both = both.masked_fill(both == float("-inf"), 0.0)
    shares = ((x - both).exp()[..., None].to(context.dtype) for x in (sums, logs))
    found = context * next(shares) + part * next(shares)
    return found, both


def _add_gradients(
    found: Sequence[Tensor], saved: Sequence[Tensor], tiles: Tiling, hidden: _Hidden, scale: float | None
) -> None:
    """Adds to the gradients of query, key and value what the tiles give. saved: the gradient of the context, query,
    key, value, context and logarithms of the sums."""
    gradient, query, key, value, context, sums = saved
    of_query, of_key, of_value = found
    before = tiles.m - tiles.n
    for tile in tiles.looking:
        own = slice(tile.first - before, tile.last - before)
        of_query[:, :, own], keys, values = _FLASH_BACKWARD(
            gradient[:, :, own], query[:, :, own], tile.of(key), tile.of(value), context[:, :, own],
            sums[:, :, own], 0.0, False, attn_mask=hidden.of(tile), scale=scale,
        )  # fmt: skip
        for whole, part in ((of_key, keys), (of_value, values)):
            if isinstance(tile.keys, Tensor):
                whole.index_add_(2, tile.keys, part)
            else:
                whole[:, :, tile.keys[0] : tile.keys[1]] += part
