"""Tiles of local patterns: blocks of queries, each with the few keys it may attend to.

For each block of queries the pattern's `reach` gives ranges of keys. A tile has the (block, keys) mask of the pattern
where it does not allow all; blocks whose masks are alike share one. `nlpcli.attention.tiled_attention` computes them.

Where keys of a stride are seen, as in strided and dilated patterns, queries and keys are put in the order of their
remainders (`ByRemainder`), so that the keys of a block of queries stand together. What is left, such as a window, is a
second part of the same softmax.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlpcli.attention.key_ranges import Range, union
from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import Dilated, Strided, split_by_remainder, split_causal

LEAST = 256  # queries below which one large call is faster
_WORTHWHILE = 0.6  # of the pairs of full attention: with more, one large call is faster
_BLOCK = 128
_REORDERED = 0.7  # of the pairs without it, with which another order is worthwhile
_CLASS = 32  # keys of one remainder; with fewer there are too many small calls
_NEAR = 32  # ranges of keys that are nearer to each other are read as one


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
    """The tiles of the last n queries of m keys. by_remainder: those of further keys, of the same softmax."""

    n: int
    m: int
    tiles: tuple[Tile, ...]
    by_remainder: ByRemainder | None = None

    @property
    def looking(self) -> list[Tile]:
        """The tiles of queries that may see any key."""
        return [tile for tile in self.tiles if isinstance(tile.keys, Tensor) or tile.keys != (0, 0)]


@dataclass(frozen=True)
class ByRemainder:
    """Tiles of queries and keys that were put in this order: `order` (m,) are their positions, `places` (m,) is
    the place of each position in it."""

    order: Tensor
    places: Tensor
    tiling: Tiling


@functools.lru_cache(maxsize=64)
def tiling(pattern: Pattern, n: int, m: int, *, merges: bool = False) -> Tiling | None:
    """How to compute a pattern by tiles; None where one large call is as fast, as for short texts and wide patterns.

    merges: whether the executor can merge two parts of one softmax (`can_merge`).
    """
    if n < LEAST:
        return None
    blocks = list(_blocks(pattern, n, m))
    causal, _ = split_causal(pattern)
    most = _WORTHWHILE * n * (m - n / 2 if causal else m)
    found = tiling_by_remainder(pattern, n, min(most, _REORDERED * _pairs(blocks))) if merges and n == m else None
    if found is None and _pairs(blocks) <= most:
        return make_tiling(pattern, n, m, blocks)
    return found


def tiling_by_remainder(pattern: Pattern, n: int, most: float = float("inf")) -> Tiling | None:
    """The tiles of "strided:S+rest" and "dilated:W:S+rest" in two parts; None of other patterns, and where that is more
    than `most` pairs."""
    split = split_by_remainder(pattern)
    if split is None or n < _CLASS * split[1].divisor:
        return None
    near, far = split
    causal, _ = split_causal(pattern)
    classes = list(_classes(far, n, causal=causal))
    near_blocks = [] if near is None else list(_blocks(near, n, n))
    if _pairs(near_blocks) + _pairs(classes) > most:
        return None
    own = Tiling(n, n, ()) if near is None else make_tiling(near, n, n, near_blocks)
    return replace(own, by_remainder=_by_remainder(far, near, n, classes, causal=causal))


def _pairs(blocks: Iterable[tuple[int, int, list[Range]]]) -> int:
    return sum((last - first) * sum(end - start for start, end in ranges) for first, last, ranges in blocks)


def _classes(far: Strided | Dilated, n: int, *, causal: bool) -> Iterable[tuple[int, int, list[Range]]]:
    """Blocks of queries in the order of remainders, and the keys with the same remainder that they see."""
    start = 0
    for remainder in range(min(far.divisor, n)):
        end = start + len(range(remainder, n, far.divisor))
        away = far.places_away
        for first in range(start, end, _BLOCK):
            last = min(first + _BLOCK, end)
            begin = start if away is None else max(start, first - away)
            stop = last if causal else end if away is None else min(end, last + away)
            yield first, last, [(begin, stop)]
        start = end


def _by_remainder(
    far: Strided | Dilated,
    near: Pattern | None,
    n: int,
    classes: Iterable[tuple[int, int, list[Range]]],
    *,
    causal: bool,
) -> ByRemainder:
    """The tiles of what `far` allows and `near` does not."""
    with torch.inference_mode(False):
        remainders = range(min(far.divisor, n))
        order = torch.cat([torch.arange(remainder, n, far.divisor, device="cpu") for remainder in remainders])
        places = torch.empty_like(order)
        places[order] = torch.arange(n, device="cpu")

    def visible(query: Tensor, key: Tensor) -> Tensor:
        query, key = order[query], order[key]
        found = far.allows(query, key, n)
        if causal:
            found = found & (key <= query)
        return found if near is None else found & ~near.allows(query, key, n)

    return ByRemainder(order, places, _made(visible, n, n, classes))


def make_tiling(
    pattern: Pattern, n: int, m: int, blocks: Iterable[tuple[int, int, list[Range]]] | None = None
) -> Tiling:
    """The tiles of a pattern, whether it is worthwhile or not."""
    blocks = _blocks(pattern, n, m) if blocks is None else blocks
    return _made(lambda query, key: pattern.allows(query, key, m), n, m, blocks)


def _made(
    allows: Callable[[Tensor, Tensor], Tensor], n: int, m: int, blocks: Iterable[tuple[int, int, list[Range]]]
) -> Tiling:
    """The tiles of these blocks. allows: for queries (n, 1) and keys (1, m), True for the pairs that may attend."""
    shared: dict[tuple[object, ...], Tensor] = {}
    tiles = []
    with torch.inference_mode(False):  # what was made while translating must serve training, too
        for first, last, ranges in blocks:
            keys: Range | Tensor
            if len(ranges) == 1:
                keys, places = ranges[0], torch.arange(*ranges[0], device="cpu")
            else:
                keys = places = torch.tensor(_places(ranges), dtype=torch.long, device="cpu")
            visible = allows(torch.arange(first, last, device="cpu")[:, None], places[None, :])
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
    """Blocks of queries, and the ranges of keys of each; one empty range means no keys."""
    borders = {*range(m - n, m, _BLOCK), m, *(place for place in pattern.breaks(m) if m - n < place < m)}
    for first, last in itertools.pairwise(sorted(borders)):
        near = union((start, end + _NEAR) for start, end in pattern.reach(first, last, m))
        yield first, last, [(start, min(end - _NEAR, m)) for start, end in near] or [(0, 0)]


def _places(ranges: Sequence[Range]) -> list[int]:
    return [place for start, end in ranges for place in range(start, end)]
