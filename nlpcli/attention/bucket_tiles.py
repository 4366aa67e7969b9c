"""Softmax attention within buckets, tile by tile of a `BucketLayout`, and no (n, n) matrix.

Some tiles are computed at a time, and again in the backward pass, so that memory grows with the text alone. The rounds
of a layout are parts of one softmax: the contexts of their disjoint keys are merged by the logarithms of their sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nlpcli.attention.bucket_layout import BucketLayout, bucket_layout

_LOG2_E = math.log2(math.e)
"""Scores are multiplied by it: powers of 2 are fast also where they are 0, which those of e are not on a CPU."""
_MOST_SCORES = 1 << 17
"""Scores that are computed at a time: as many as stay in a processor's cache."""
_POSITIONS = 1 << 12
"""Positions of several texts that are computed together."""


def bucket_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    buckets: Tensor,
    count: int,
    window: int,
    *,
    causal: bool = False,
    tokens: Tensor | None = None,
) -> Tensor:
    """softmax(Q Kᵀ) V over the keys that are visible in any round.

    query, key (texts, m, d_key), value (texts, m, d_value), in float32 at least; buckets (texts, rounds, m), numbers
    below `count`; window, tokens: see `bucket_layout`. Returns: (texts, m, d_value), of padding 0. It has first
    derivatives only.
    """
    at_once = max(_POSITIONS // query.size(1), 1)
    layouts = []
    for start in range(0, query.size(0), at_once):
        some = slice(start, start + at_once)
        own = None if tokens is None else tokens[some]
        layouts.append((some, bucket_layout(buckets[some], count, window, causal=causal, tokens=own)))
    found: Tensor = _BucketAttention.apply(query, key, value, layouts)
    return found


class _BucketAttention(torch.autograd.Function):
    """Some texts after the others, so that sorted copies of all of them are never in memory at once."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layouts: Sequence[tuple[slice, BucketLayout]],
    ) -> Tensor:
        context, sums = torch.empty_like(value), query.new_empty(*query.shape[:2], 1)
        for texts, layout in layouts:
            inputs = (x[texts].flatten(0, 1) for x in (query, key, value))
            for whole, part in zip((context, sums), _context(*inputs, layout=layout), strict=True):
                whole[texts] = part.view_as(whole[texts])
        ctx.save_for_backward(query, key, value, context, sums)
        ctx.layouts = layouts
        return context

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        gradient: Tensor,
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        found = [torch.empty_like(x) for x in saved[:3]]
        for texts, layout in ctx.layouts:
            own = _gradients([x[texts].flatten(0, 1) for x in (*saved, gradient)], layout)
            for whole, part in zip(found, own, strict=True):
                whole[texts] = part.view_as(whole[texts])
        return *found, None


def _context(query: Tensor, key: Tensor, value: Tensor, *, layout: BucketLayout) -> tuple[Tensor, Tensor]:
    """The contexts (m, d_value), and the binary logarithms (m, 1) of the sums of powers."""
    parts = (query.size(-1), key.size(-1), value.size(-1))
    inputs = _with_zeros(query * _LOG2_E, key, value)
    context, sums = value, value  # of the first round
    for number in range(layout.rounds):
        found = value.new_empty(layout.tiles * layout.size, value.size(-1) + 1)
        for tiles in _tile_ranges(layout):
            q, k, v = _sorted(inputs, layout, number, tiles).split(parts, dim=-1)
            mask = layout.mask(number, tiles, query.dtype)
            scores = torch.baddbmm(mask, _queries(q, layout), _keys(k, layout).transpose(1, 2))
            top = scores.amax(-1, keepdim=True)
            total = scores.sub_(top).exp2_().sum(-1, keepdim=True)
            own = torch.bmm(scores, _keys(v, layout)).div_(total)
            place = found[tiles.start * layout.size : tiles.stop * layout.size]
            place.copy_(torch.cat((own, total.log2_().add_(top)), dim=-1).flatten(0, 1))
        part, logs = found[layout.slots[number]].split((value.size(-1), 1), dim=-1)
        if number:
            both = torch.logaddexp2(sums, logs)
            context = context * (sums - both).exp2_() + part * (logs - both).exp2_()
            sums = both
        else:
            context, sums = part, logs
    return (context if layout.tokens is None else context * layout.tokens[:, None]), sums


def _gradients(saved: Sequence[Tensor], layout: BucketLayout) -> Sequence[Tensor]:
    """The gradients of query, key and value. saved: these, the results of `_context`, and the context's gradient."""
    query, key, value, context, sums, gradient = saved
    parts = (query.size(-1), key.size(-1), value.size(-1))
    inputs = _with_zeros(query * _LOG2_E, key, value, gradient)
    rows = _with_zeros(sums, (gradient * context).sum(-1, keepdim=True))
    totals: Tensor | None = None
    for number in range(layout.rounds):
        found = query.new_zeros(layout.sources.size(-1), sum(parts))
        of_query, of_key, of_value = found.split(parts, dim=-1)
        for tiles in _tile_ranges(layout):
            q, k, v, slope = _sorted(inputs, layout, number, tiles).split((*parts, parts[2]), dim=-1)
            q, slope, k, v = _queries(q, layout), _queries(slope, layout), _keys(k, layout), _keys(v, layout)
            logs, level = _queries(_sorted(rows, layout, number, tiles), layout).split(1, dim=-1)
            mask = layout.mask(number, tiles, query.dtype)
            weights = torch.baddbmm(mask, q, k.transpose(1, 2)).sub_(logs).exp2_()
            of_scores = torch.bmm(slope, v.transpose(1, 2)).sub_(level).mul_(weights)
            own = of_query[layout.before + tiles.start * layout.size : layout.before + tiles.stop * layout.size]
            own.copy_(torch.bmm(of_scores, k).flatten(0, 1))
            _add_overlapping(of_key, torch.bmm(of_scores.transpose(1, 2), q), tiles, layout)
            _add_overlapping(of_value, torch.bmm(weights.transpose(1, 2), slope), tiles, layout)
        found = found.index_select(0, layout.slots[number] + layout.before)
        totals = found if totals is None else totals.add_(found)
    assert totals is not None
    if layout.tokens is not None:
        totals.mul_(layout.tokens[:, None])
    of_query, of_key, of_value = totals.split(parts, dim=-1)
    return of_query, of_key.mul_(1 / _LOG2_E), of_value


def _with_zeros(*parts: Tensor) -> Tensor:
    """Parts (m, width) side by side, and a row of zeros below them, for slots without a position."""
    found = parts[0].new_empty(parts[0].size(0) + 1, sum(x.size(-1) for x in parts))
    found[-1] = 0
    for own, part in zip(found[:-1].split([x.size(-1) for x in parts], dim=-1), parts, strict=True):
        own.copy_(part)
    return found


def _tile_ranges(layout: BucketLayout) -> Iterator[slice]:
    """Ranges of tiles, each as many as are computed at a time."""
    at_once = max(_MOST_SCORES // (layout.size * layout.width), 1)
    for start in range(0, layout.tiles, at_once):
        yield slice(start, min(start + at_once, layout.tiles))


def _sorted(x: Tensor, layout: BucketLayout, number: int, tiles: slice) -> Tensor:
    """The rows of x (m + 1, width) in the slots that the tiles read: (slots, width)."""
    start, stop = tiles.start * layout.size, tiles.stop * layout.size + layout.before + layout.after
    return x.index_select(0, layout.sources[number, start:stop])


def _queries(x: Tensor, layout: BucketLayout) -> Tensor:
    """The tiles (tiles, size, width) of what `_sorted` gives."""
    return x[layout.before : x.size(0) - layout.after].unflatten(0, (-1, layout.size))


def _keys(x: Tensor, layout: BucketLayout) -> Tensor:
    """The keys of tiles (tiles, layout.width, width) of what `_sorted` gives: a view whose tiles overlap."""
    return x.unfold(0, layout.width, layout.size).transpose(1, 2)


def _add_overlapping(total: Tensor, parts: Tensor, tiles: slice, layout: BucketLayout) -> None:
    """Adds parts (tiles, layout.width, d) of the keys of tiles to total (slots, d)."""
    size, count = layout.size, parts.size(0)
    for start in range(0, layout.width, size):
        part = parts[:, start : start + size]
        begin = tiles.start * size + start
        if part.size(1) == size:
            total[begin : begin + count * size].unflatten(0, (count, size)).add_(part)
            continue
        whole = (count - 1) * size  # the rest of the last tile's keys may reach to the end
        total[begin : begin + whole].unflatten(0, (count - 1, size))[:, : part.size(1)].add_(part[:-1])
        total[begin + whole : begin + whole + part.size(1)].add_(part[-1])
