"""The decoding state of attention within buckets: the last keys of each bucket in each round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.attention.bucket_layout import SELF, ranks


@dataclass(frozen=True)
class BucketState:
    """The last `window` keys of each bucket and round, of whatever length the text is: a value, which no step changes.

    sizes (rows, heads, rounds, buckets): positions read. The key of rank r in its bucket is in place r % window of
    the bucket. keys (rows, heads, places + 1, d_key), values, positions (rows, heads, places + 1): of the places of
    all buckets of all rounds, and one more, into which goes what is not kept.
    """

    length: int = 0
    window: int = 1
    sizes: Tensor | None = None
    positions: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    def select(self, index: Tensor) -> BucketState:
        if self.sizes is None or self.positions is None or self.keys is None or self.values is None:
            return self
        parts = (x.index_select(0, index) for x in (self.sizes, self.positions, self.keys, self.values))
        return BucketState(self.length, self.window, *parts)

    def bytes(self) -> int:
        return sum(x.nbytes for x in (self.sizes, self.positions, self.keys, self.values) if x is not None)

    def with_room(self, count: int, buckets: Tensor, key: Tensor, value: Tensor) -> BucketState:
        """The same, with places for keys such as these, in `count` buckets a round, if it has none yet."""
        if self.sizes is not None:
            return self
        rows, heads, rounds, _ = buckets.shape
        places = rounds * count * self.window + 1
        return BucketState(
            self.length,
            self.window,
            buckets.new_zeros(rows, heads, rounds, count),
            buckets.new_full((rows, heads, places), -1),
            key.new_zeros(rows, heads, places, key.size(-1)),
            value.new_zeros(rows, heads, places, value.size(-1)),
        )

    def append(self, buckets: Tensor, key: Tensor, value: Tensor) -> BucketState:
        """The state after n more positions in these buckets (rows, heads, rounds, n), key (rows, heads, n, d_key)."""
        sizes, positions, keys, values = self._parts()
        rows, heads, rounds, n = buckets.shape
        within, new = ranks(buckets, sizes.size(-1))
        within = within + sizes.gather(-1, buckets)
        sizes = sizes + new
        kept = within >= sizes.gather(-1, buckets) - self.window
        places = self._first_places(buckets) + within % self.window
        places = places.where(kept, positions.size(-1) - 1).flatten(2)
        own = torch.arange(self.length, self.length + n, device=buckets.device).expand(rows, heads, rounds, n)
        found = [
            x.scatter(2, places[..., None].expand(-1, -1, -1, x.size(-1)), new.repeat(1, 1, rounds, 1).to(x.dtype))
            for x, new in ((keys, key), (values, value))
        ]
        positions = positions.scatter(2, places, own.flatten(2))
        return BucketState(self.length + n, self.window, sizes, positions, *found)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, buckets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of n new positions, whose keys are given, and what they are weights of.

        Returns: weights (rows, heads, n, rounds · window) of what is remembered, its values (…, d_value) and positions,
        and weights (rows, heads, n, n) of the new positions.
        """
        sizes, positions, keys, values = self._parts()
        n, window = query.size(2), self.window
        within = ranks(buckets, sizes.size(-1))[0] + sizes.gather(-1, buckets)
        steps = torch.arange(window, device=buckets.device)
        places = self._first_places(buckets)[..., None] + steps  # (rows, heads, rounds, n, window)
        newest = sizes.gather(-1, buckets)[..., None] - 1
        rank = newest - (newest - steps) % window
        visible = (rank >= 0) & (within[..., None] - rank < window)
        places, visible = (x.transpose(2, 3).flatten(3) for x in (places, visible))  # (rows, heads, n, rounds · window)
        held = positions.gather(2, places.flatten(2)).view_as(places)
        visible = visible & ~_seen_before(held, visible, window)
        flat = places.flatten(2)[..., None]
        old_keys, old_values = (
            x.gather(2, flat.expand(-1, -1, -1, x.size(-1))).unflatten(2, places.shape[2:]) for x in (keys, values)
        )
        scores = (query[..., None, :] @ old_keys.transpose(3, 4)).squeeze(3).masked_fill(~visible, float("-inf"))
        together = visible_within(buckets, within, window, causal=True)
        own = torch.where(torch.eye(n, dtype=torch.bool, device=query.device), SELF, 0.0).to(query.dtype)
        among = (query @ key.transpose(2, 3) + own).masked_fill(~together, float("-inf"))
        weights = torch.cat((scores, among), dim=-1).softmax(-1)
        return weights[..., :-n], old_values, held, weights[..., -n:]

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert self.sizes is not None and self.positions is not None
        assert self.keys is not None and self.values is not None
        return self.sizes, self.positions, self.keys, self.values

    def _first_places(self, buckets: Tensor) -> Tensor:
        """The first place of each bucket (rows, heads, rounds, n)."""
        rounds, count = buckets.size(2), self._parts()[0].size(-1)
        return (torch.arange(rounds, device=buckets.device)[:, None] * count + buckets) * self.window


def visible_within(buckets: Tensor, within: Tensor, window: int, *, causal: bool) -> Tensor:
    """Which of m positions in buckets (rows, heads, rounds, m), with these ranks, see each other in any round:
    (rows, heads, m, m)."""
    m = buckets.size(-1)
    found = buckets.new_zeros(*buckets.shape[:2], m, m, dtype=torch.bool)
    for bucket, rank in zip(buckets.unbind(2), within.unbind(2), strict=True):
        near = (rank[..., :, None] - rank[..., None, :]).abs() < window
        found |= near & (bucket[..., :, None] == bucket[..., None, :])
    return found.tril() if causal else found


def _seen_before(positions: Tensor, visible: Tensor, window: int) -> Tensor:
    """Whether a remembered key (rows, heads, n, rounds · window) is visible in an earlier round, too."""
    found = torch.zeros_like(visible)
    for start in range(window, positions.size(-1), window):
        own = positions[..., start : start + window, None] == positions[..., None, :start]
        found[..., start : start + window] = (own & visible[..., None, :start]).any(-1)
    return found
