"""Positions sorted by bucket, so that attention within buckets becomes a band beside the diagonal.

Buckets follow each other, and each begins with a new tile of `size` slots. So the place of a position within its tile
depends on the earlier positions of its bucket only, and a causal context can't depend on later ones, to the bit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = -1e9
"""Added to the score of a pair that is not visible: finite, so that a query without any key has a softmax."""
SELF = -1e5
"""Added to the score of a position and itself: the weight is 0 in float32 wherever another key is visible."""
_LARGEST = 64
_SMALLEST = 16
_ALIGNED = 16  # products are fastest at multiples


def ranks(buckets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """For each position (…, m) how many earlier ones are in its bucket, and the size of each bucket (…, count)."""
    sizes = buckets.new_zeros(*buckets.shape[:-1], count)
    sizes = sizes.scatter_add_(-1, buckets, torch.ones_like(buckets))
    ordered, order = buckets.sort(dim=-1, stable=True)
    within = torch.arange(buckets.size(-1), device=buckets.device) - (sizes.cumsum(-1) - sizes).gather(-1, ordered)
    return torch.empty_like(buckets).scatter_(-1, order, within), sizes


@dataclass(frozen=True)
class BucketLayout:
    """Where each position of some texts stands in each round, the m positions of all texts counted in one row.

    size: of a tile. before, after: slots that a tile's queries see besides those of the tile. tokens (m): False for
    padding, None: there is none.
    slots (rounds, m): the slot of each position; 0 for padding.
    sources (rounds, before + tiles · size + after): the position in each slot, the first tile's first slot at `before`;
    m where there is none.
    outside (rounds, tiles, before + size + after): 0 for the keys of a tile that are of its bucket, else `EMPTY`.
    codes (rounds, m + 1): numbers that differ by less than `window` for two positions that see each other in the round,
    one way or the other, and for no others.
    """

    size: int
    window: int
    causal: bool
    before: int
    after: int
    slots: Tensor
    sources: Tensor
    outside: Tensor
    codes: Tensor
    tokens: Tensor | None

    @property
    def tiles(self) -> int:
        return self.outside.size(1)

    @property
    def rounds(self) -> int:
        return self.slots.size(0)

    @property
    def width(self) -> int:
        """The number of keys of a tile."""
        return self.before + self.size + self.after

    def mask(self, number: int, tiles: slice, kind: torch.dtype) -> Tensor:
        """The mask of a round's tiles, added to their scores, (tiles, size, width).

        A pair that is visible in an earlier round, too, counts there only, so that the softmax over all rounds is one
        over the union of their keys. Kitaev et al. 2020 (eq. 6) count it in each round, divided by their number, which
        comes to the same.
        """
        band = _band(self.size, self.window, self.before, self.after, self.causal, number == 0, kind)
        found = band.to(self.slots.device) + self.outside[number, tiles, None]
        if number:
            start, stop = tiles.start * self.size, tiles.stop * self.size + self.before + self.after
            for codes in self.codes[:number, self.sources[number, start:stop]]:
                keys = codes.unfold(0, self.width, self.size)
                queries = codes[self.before : codes.size(0) - self.after].unflatten(0, (-1, self.size))
                apart = (queries[..., None] - keys[:, None]).abs_()
                found.masked_fill_(apart < self.window, EMPTY)
        return found


@functools.lru_cache(maxsize=32)
def _band(size: int, window: int, before: int, after: int, causal: bool, first: bool, kind: torch.dtype) -> Tensor:
    """The term added to the scores of the (size, before + size + after) pairs of a tile, all in one bucket.

    first: whether a position may see itself, in the first round. Layers share it: it must not be written to.
    """
    with torch.inference_mode(False), torch.device("cpu"):  # what was made while translating must serve training, too
        behind = torch.arange(size)[:, None] + before - torch.arange(before + size + after)
        visible = (behind < window) & ((behind > 0) if causal else (behind != 0) & (behind > -window))
        found = torch.full(visible.shape, EMPTY, dtype=kind).masked_fill_(visible, 0.0)
        return found.masked_fill_(behind == 0, SELF) if first else found


@torch.no_grad()
def bucket_layout(buckets: Tensor, count: int, window: int, *, causal: bool, tokens: Tensor | None) -> BucketLayout:
    """The layout of positions in their buckets (texts, rounds, m), numbers below `count`.

    window: a position sees those of its bucket that are fewer than `window` places away, counted within the bucket.
    tokens (texts, m): False for padding, which is in no bucket.
    """
    texts, _, m = buckets.shape
    size = tile_size(m, count, window)
    numbers = buckets if tokens is None else buckets.where(tokens[:, None], count)
    within, sizes = ranks(numbers, count + 1)
    # one row of texts for each round, and one of buckets; each text has buckets of its own
    within, own = (x.transpose(0, 1) for x in (within, buckets))
    own = (own + torch.arange(texts, device=own.device)[:, None] * count).flatten(1)
    tiles_of = (sizes[..., :count].transpose(0, 1).flatten(1) + size - 1) // size
    last = tiles_of.cumsum(-1)
    slots = (last - tiles_of).gather(-1, own) * size + within.flatten(1)
    codes = F.pad((slots + own * window).to(torch.int32), (0, 1))
    before = -(-max(window - 1, 1) // _ALIGNED) * _ALIGNED
    after = 0 if causal else before
    if tokens is not None:
        tokens = tokens.flatten()
        slots = slots.where(tokens, -before)
    tiles = (texts * m + texts * count * (size - 1)) // size  # at most
    if buckets.device.type == "cpu":
        tiles = max(int(last[:, -1].max()), 1)  # those behind are empty
    sources = slots.new_full((slots.size(0), before + tiles * size + after), texts * m)
    sources.scatter_(-1, slots + before, torch.arange(texts * m, device=slots.device).expand_as(slots))
    sources[:, 0] = texts * m  # of the padding
    owner = F.pad(own, (0, 1), value=-1).gather(-1, sources)
    of_tile = owner[:, before : before + tiles * size : size]
    outside = (owner.unfold(-1, before + size + after, size) != of_tile[..., None]) * EMPTY
    return BucketLayout(size, window, causal, before, after, slots.clamp_(min=0), sources, outside, codes, tokens)


def tile_size(m: int, count: int, window: int) -> int:
    """Large tiles make fast products, small ones lose less at the end of each bucket."""
    size = _SMALLEST
    while size < min(_LARGEST, window, m // count):
        size *= 2
    return size
