"""Keys and values of what was read, for decoding: a cache that is preallocated and written in place.

The cache is a value: a step returns a new one and does not change the old one, though both share memory. A step writes
to the part of the buffer behind its own cache; if another step has already written there, the buffer is copied first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.attention.pattern_base import Horizon

_SHORT = 64  # positions that are copied in less time than they are written in place
_ROOM = 8
"""A buffer grows by so many positions, or by a part of its length: the kernel reads a half empty one more slowly."""


@dataclass
class KeyValue:
    """Projected keys (rows, heads, m, d_key) and values (rows, heads, m, d_value) of what is attended to."""

    key: Tensor
    value: Tensor

    def extended(self, key: Tensor, value: Tensor) -> KeyValue:
        return KeyValue(torch.cat((self.key, key), dim=2), torch.cat((self.value, value), dim=2))

    def select(self, index: Tensor) -> KeyValue:
        return KeyValue(self.key.index_select(0, index), self.value.index_select(0, index))

    def part(self, start: int, end: int) -> KeyValue:
        """The positions from `start` to before `end`, as a view."""
        if start == 0 and end == self.key.size(2):
            return self
        return KeyValue(self.key.narrow(2, start, end - start), self.value.narrow(2, start, end - start))

    @property
    def length(self) -> int:
        return self.key.size(2)

    def bytes(self) -> int:
        return self.key.nbytes + self.value.nbytes


@dataclass(frozen=True)
class Positions:
    """The first `first` positions of a text, and those from `start` to before `end`."""

    first: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.first + self.end - self.start

    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        newest = torch.arange(self.start, self.end, device=device)
        return torch.cat((torch.arange(self.first, device=device), newest)) if self.first else newest


class _Buffer:
    """Memory of `pair`, of whose positions the first `filled` are taken, by whichever cache.

    selected: its rows have just been chosen, as beam search does at each step. Room for more would be copied for
    nothing when they are chosen again, so that the next step makes none.
    """

    def __init__(self, pair: KeyValue, filled: int, *, selected: bool = False) -> None:
        self.pair, self.filled, self.selected = pair, filled, selected


class KeyValueCache:
    """The keys and values that a decoder with this horizon must remember.

    With an unbounded horizon the buffer grows by an eighth each time. With a bounded one it holds little more than the
    newest positions, and the first ones are kept apart once the newest have moved beyond them. Where gradients are
    recorded nothing is written in place, nor while there are few positions, which are copied in less time.
    """

    def __init__(self, horizon: Horizon | None = None) -> None:
        self.horizon = horizon or Horizon()
        self.length = 0
        self._buffer: _Buffer | None = None
        self._offset = 0  # the position of the buffer's first
        self._first: KeyValue | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[KeyValue, KeyValueCache]:
        """The keys and values for a step: the cached positions and the n new ones; and the cache after the step.

        key (rows, heads, n, d_key) and value: of the new ones.
        """
        new = self._copy()
        begin = new._begin()
        buffer = new._write(KeyValue(key, value), begin)
        newest = buffer.pair.part(begin - new._offset, new.length - new._offset)
        held = newest if new._first is None else new._first.extended(newest.key, newest.value)
        if self.horizon.last is not None:
            new._forget(buffer, self.horizon.last)
        return held, new

    def seen_after(self, n: int) -> Positions:
        """The places in the text of what a step of n more positions may attend to."""
        begin = self._begin()
        return Positions(self.horizon.first if begin else 0, begin, self.length + n)

    @property
    def held(self) -> int:
        """How many of the positions read the next step may attend to, where it attends to all that are remembered."""
        begin = self._begin()
        return self.length - begin + (self.horizon.first if begin else 0)

    def select(self, index: Tensor) -> KeyValueCache:
        new = self._copy()
        if self._buffer is not None:
            used = self.length - self._offset
            new._buffer = _Buffer(self._buffer.pair.part(0, used).select(index), used, selected=True)
            new._first = None if self._first is None else self._first.select(index)
        return new

    def bytes(self) -> int:
        parts = (None if self._buffer is None else self._buffer.pair, self._first)
        return sum(part.bytes() for part in parts if part is not None)

    def _copy(self) -> KeyValueCache:
        new = KeyValueCache(self.horizon)
        new.length, new._buffer, new._offset, new._first = self.length, self._buffer, self._offset, self._first
        return new

    def _begin(self) -> int:
        """Where the newest positions begin that the next query needs; 0 while the first ones are among them."""
        if self.horizon.last is None:
            return 0
        begin = self.length + 1 - max(self.horizon.last, 1)
        return begin if begin > self.horizon.first else 0

    def _write(self, pair: KeyValue, begin: int) -> _Buffer:
        """Puts n new positions into the buffer, or into another one, which begins at `begin`. Returns: that buffer."""
        used, n, buffer = self.length - self._offset, pair.length, self._buffer
        self.length += n
        if buffer is None:
            self._buffer = _Buffer(pair, n)
            return self._buffer
        if begin:
            self._keep_first(buffer)
        if used + n <= _SHORT or buffer.selected or torch.is_grad_enabled():
            held = buffer.pair.part(begin - self._offset, used).extended(pair.key, pair.value)
            self._buffer, self._offset = _Buffer(held, held.length), begin
            return self._buffer
        if buffer.filled != used or used + n > buffer.pair.length or not _writable(buffer.pair):
            held = buffer.pair.part(begin - self._offset, used)
            used = held.length
            buffer = self._buffer = _Buffer(_room(held, used + n), used)
            self._offset = begin
        buffer.pair.key.narrow(2, used, n).copy_(pair.key)
        buffer.pair.value.narrow(2, used, n).copy_(pair.value)
        buffer.filled = used + n
        return buffer

    def _keep_first(self, buffer: _Buffer) -> None:
        """Keeps the first positions of the horizon apart, before the buffer, which still has them, moves on."""
        if self._first is None and self.horizon.first:
            first = buffer.pair.part(0, self.horizon.first)
            self._first = KeyValue(first.key.clone(), first.value.clone())

    def _forget(self, buffer: _Buffer, last: int) -> None:
        """Lets go of a buffer that a long step has made larger than the horizon needs. last: of the horizon."""
        begin = self._begin()
        if not begin or buffer.pair.length <= self.horizon.first + 2 * max(last, 1) + _ROOM:
            return
        self._keep_first(buffer)
        held = buffer.pair.part(begin - self._offset, self.length - self._offset)
        self._buffer, self._offset = _Buffer(_room(held, held.length), held.length), begin


def _room(held: KeyValue, needed: int) -> KeyValue:
    """A copy of `held` with room for `needed` positions and some more."""
    capacity = needed + max(_ROOM, needed // _ROOM)
    found = []
    for x in (held.key, held.value):
        rows, heads, length, width = x.shape
        room = x.new_empty(rows, heads, capacity, width)
        room[:, :, :length] = x
        found.append(room)
    return KeyValue(*found)


def _writable(pair: KeyValue) -> bool:
    """Whether `pair` may be written to now: tensors made in inference mode may be written to in that mode only."""
    return torch.is_inference_mode_enabled() or not pair.key.is_inference()
