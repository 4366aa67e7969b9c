"""Local patterns really sparse: blocks of queries, each with the few keys it may attend to, and no (n, m) matrix.

For each block of queries the pattern's `reach` gives ranges of keys. Each block is one call of PyTorch's flash kernel
on slices of keys and values, with the (block, keys) mask of the pattern where it does not allow all; blocks whose masks
are alike share one. So time and memory grow with the pairs that attend.

There are two executors, equal but for rounding. The fast one calls the CPU's flash kernel and its backward pass, which
are private to PyTorch, and adds gradients in place; the other one goes through `F.scaled_dot_product_attention`, and
serves where the first can't: with dropout or a bias, values of another width than keys, on a GPU, and without the
private kernel.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpcli.attention.core import ScoreBias, for_heads
from nlpcli.attention.key_ranges import Range, union
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import split_causal
from nlpcli.attention.states import Positions

LEAST = 256  # queries below which one large call is faster
_WORTHWHILE = 0.6  # of the pairs of full attention: with more, one large call is faster
_BLOCK = 128
_NEAR = 32  # ranges of keys that are nearer to each other are read as one

HALVES = (torch.bfloat16, torch.float16)

_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


@dataclass(frozen=True)
class Tile:
    """The queries from `first` to before `last` of all m positions, and the keys they attend to.

    keys: one range, or the positions of several. mask (queries, keys): 0 where visible, else -inf; None: all visible.
    """

    first: int
    last: int
    keys: Range | Tensor
    mask: Tensor | None

    @property
    def places(self) -> Tensor:
        """The places of the keys."""
        return self.keys if isinstance(self.keys, Tensor) else torch.arange(*self.keys, device="cpu")

    def of(self, x: Tensor) -> Tensor:
        """The keys' part of x (rows, heads, m, width): a view where they are one range."""
        if isinstance(self.keys, Tensor):
            return x.index_select(2, self.keys.to(x.device))
        return x[:, :, self.keys[0] : self.keys[1]]


@dataclass(frozen=True)
class Tiling:
    """The tiles of the last n queries of m keys."""

    n: int
    m: int
    tiles: tuple[Tile, ...]

    @property
    def looking(self) -> list[Tile]:
        """The tiles of queries that may see any key."""
        return [tile for tile in self.tiles if isinstance(tile.keys, Tensor) or tile.keys != (0, 0)]


@functools.lru_cache(maxsize=64)
def tiling(pattern: Pattern, n: int, m: int) -> Tiling | None:
    """How to compute a pattern by tiles; None where one large call is as fast, as for short texts and wide patterns."""
    if n < LEAST:
        return None
    blocks = list(_blocks(pattern, n, m))
    pairs = sum((last - first) * sum(end - start for start, end in ranges) for first, last, ranges in blocks)
    causal, _ = split_causal(pattern)
    if pairs > _WORTHWHILE * n * (m - n / 2 if causal else m):
        return None
    return make_tiling(pattern, n, m, blocks)


def make_tiling(
    pattern: Pattern, n: int, m: int, blocks: Iterable[tuple[int, int, list[Range]]] | None = None
) -> Tiling:
    """The tiles of a pattern, whether it is worthwhile or not."""
    shared: dict[tuple[object, ...], Tensor] = {}
    tiles = []
    with torch.inference_mode(False):  # what was made while translating must serve training, too
        for first, last, ranges in blocks if blocks is not None else _blocks(pattern, n, m):
            keys: Range | Tensor
            if len(ranges) == 1:
                keys, places = ranges[0], torch.arange(*ranges[0], device="cpu")
            else:
                keys = places = torch.tensor(_places(ranges), dtype=torch.long, device="cpu")
            visible = pattern.allows(torch.arange(first, last, device="cpu")[:, None], places[None, :], m)
            visible = visible.expand(last - first, len(places))
            mask = None
            if not bool(visible.all()):
                name = (*visible.shape, visible.numpy().tobytes())
                if name not in shared:
                    shared[name] = torch.zeros(visible.shape, device="cpu").masked_fill_(~visible, float("-inf"))
                mask = shared[name]
            tiles.append(Tile(first, last, keys, mask))
    return Tiling(n, m, tuple(tiles))


def _blocks(pattern: Pattern, n: int, m: int) -> Iterable[tuple[int, int, list[Range]]]:
    """Blocks of queries, and the ranges of keys of each; one empty range stands for no keys at all."""
    borders = {*range(m - n, m, _BLOCK), m, *(place for place in pattern.breaks(m) if m - n < place < m)}
    for first, last in itertools.pairwise(sorted(borders)):
        near = union((start, end + _NEAR) for start, end in pattern.reach(first, last, m))
        yield first, last, [(start, min(end - _NEAR, m)) for start, end in near] or [(0, 0)]


def _places(ranges: Sequence[Range]) -> list[int]:
    return [place for start, end in ranges for place in range(start, end)]


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
    if bias is not None or dropout or not _has_kernel(query, value):
        return _through_public(query, key, value, tiles, hidden, bias, scale, dropout)
    return _Tiled.apply(query, key, value, tiles, hidden, scale)


def _has_kernel(query: Tensor, value: Tensor) -> bool:
    return (
        _FLASH is not None
        and _FLASH_BACKWARD is not None
        and query.device.type == "cpu"
        and query.size(-1) == value.size(-1)
        and not torch.compiler.is_compiling()
    )


class _Hidden:
    """What padding and documents hide, tile by tile, together with the pattern's mask."""

    def __init__(self, mask: AttentionMask, tiles: Tiling, query: Tensor) -> None:
        self.keys, self.documents = mask.keys, mask.documents
        self.dtype, self.device = query.dtype, query.device
        # places before this one are tokens in all rows
        self.whole = 0 if self.keys is None else int(self.keys.all(dim=0).cumprod(0).sum())

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
        before = tiles.m - n
        for tile in tiles.looking:
            own = slice(tile.first - before, tile.last - before)
            context[:, :, own], sums[:, :, own] = _FLASH(
                query[:, :, own], tile.of(key), tile.of(value), 0.0, False, attn_mask=hidden.of(tile), scale=scale
            )
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
        before = ctx.tiles.m - ctx.tiles.n
        for tile in ctx.tiles.looking:
            own = slice(tile.first - before, tile.last - before)
            of_query[:, :, own], keys, values = _FLASH_BACKWARD(
                gradient[:, :, own], query[:, :, own], tile.of(key), tile.of(value), context[:, :, own],
                sums[:, :, own], 0.0, False, attn_mask=ctx.hidden.of(tile), scale=ctx.scale,
            )  # fmt: skip
            for whole, part in ((of_key, keys), (of_value, values)):
                if isinstance(tile.keys, Tensor):
                    whole.index_add_(2, tile.keys, part)
                else:
                    whole[:, :, tile.keys[0] : tile.keys[1]] += part
        return of_query, of_key, of_value, None, None, None
