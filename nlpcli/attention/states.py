"""Keys and values of what was read, for decoding: a cache that is preallocated and written in place.

The cache is a value: a step gives a new one and leaves the old one as it was, though both share memory. A part of the
buffer that an older cache does not know of is written to; where another step has written there already, the buffer is
copied first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.attention.patterns import Horizon

_LEAST = 32


@dataclass(frozen=True)
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
        return KeyValue(self.key[:, :, start:end], self.value[:, :, start:end])

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
    """Memory of `pair`, of whose positions the first `filled` are taken, by whichever cache."""

    def __init__(self, pair: KeyValue, filled: int) -> None:
        self.pair, self.filled = pair, filled


class KeyValueCache:
    """The keys and values that a decoder with this horizon must remember.

    With an unbounded horizon the buffer doubles. With a bounded one it holds at most twice the newest positions, and
    the first ones are kept apart once the newest have moved beyond them. Where gradients are recorded nothing is
    written in place.
    """

    def __init__(self, horizon: Horizon | None = None) -> None:
        self.horizon = horizon or Horizon()
        self.length = 0
        self._buffer: _Buffer | None = None
        self._offset = 0  # the position of the buffer's first
        self._first: KeyValue | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[KeyValue, Positions, KeyValueCache]:
        """What a step may look at: the positions remembered and the n new ones, key (rows, heads, n, d_key) and value;
        their places in the text; and the cache after the step."""
        new = self._copy()
        begin = new._begin()
        new._write(KeyValue(key, value), begin)
        newest = new._buffer.pair.part(begin - new._offset, new.length - new._offset)
        held = newest if new._first is None else new._first.extended(newest.key, newest.value)
        first = 0 if new._first is None else new._first.length
        new._forget()
        return held, Positions(first, begin, new.length), new

    @property
    def held(self) -> int:
        """How many of the positions read the next step may look at, where it looks at all that are remembered."""
        begin = self._begin()
        return self.length - begin + (self.horizon.first if begin else 0)

    def select(self, index: Tensor) -> KeyValueCache:
        new = self._copy()
        if self._buffer is not None:
            new._buffer = _Buffer(self._buffer.pair.select(index), self.length - self._offset)
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

    def _write(self, pair: KeyValue, begin: int) -> None:
        """Puts n new positions into the buffer, or into another one, which begins at `begin`."""
        used, n, buffer = self.length - self._offset, pair.length, self._buffer
        self.length += n
        if buffer is None:
            self._buffer = _Buffer(pair, n)
            return
        if begin:
            self._keep_first()
        if torch.is_grad_enabled():
            held = buffer.pair.part(begin - self._offset, used).extended(pair.key, pair.value)
            self._buffer, self._offset = _Buffer(held, held.length), begin
            return
        if buffer.filled != used or used + n > buffer.pair.length or not _writable(buffer.pair):
            held = buffer.pair.part(begin - self._offset, used)
            used = held.length
            buffer = self._buffer = _Buffer(_room(held, self._capacity(used + n)), used)
            self._offset = begin
        buffer.pair.key[:, :, used : used + n] = pair.key
        buffer.pair.value[:, :, used : used + n] = pair.value
        buffer.filled = used + n

    def _capacity(self, needed: int) -> int:
        room = max(2 * needed, _LEAST)
        return room if self.horizon.last is None else max(needed, min(room, self._most()))

    def _most(self) -> int:
        """Positions in the largest buffer of a bounded horizon."""
        return self.horizon.first + 2 * max(self.horizon.last, 1)

    def _keep_first(self) -> None:
        """Keeps the first positions of the horizon apart, before the buffer, which still has them, moves on."""
        if self._first is None and self.horizon.first:
            first = self._buffer.pair.part(0, self.horizon.first)
            self._first = KeyValue(first.key.clone(), first.value.clone())

    def _forget(self) -> None:
        """Lets go of a buffer that a long step has made larger than the horizon needs."""
        begin = self._begin()
        if self.horizon.last is None or not begin or self._buffer.pair.length <= self._most():
            return
        self._keep_first()
        held = self._buffer.pair.part(begin - self._offset, self.length - self._offset)
        self._buffer, self._offset = _Buffer(_room(held, self._capacity(held.length + 1)), held.length), begin


def _room(held: KeyValue, capacity: int) -> KeyValue:
    """A copy of `held` with room for `capacity` positions."""
    found = []
    for x in (held.key, held.value):
        rows, heads, length, width = x.shape
        room = x.new_empty(rows, heads, capacity, width)
        room[:, :, :length] = x
        found.append(room)
    return KeyValue(*found)


def _writable(pair: KeyValue) -> bool:
    """What was made in inference mode may be written to there only."""
    return torch.is_inference_mode_enabled() or not pair.key.is_inference()
