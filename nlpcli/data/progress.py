"""Progress of long work: loops report their steps to an observer, if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Receiver = Callable[[str, int, int | None], None]
"""Gets what is done ("evaluating"), how many steps of it are done, and how many there are, if that is known."""

_Item = TypeVar("_Item")
_RECEIVER: ContextVar[Receiver | None] = ContextVar("receiver", default=None)


@contextmanager
def following(receiver: Receiver) -> Iterator[None]:
    """Inside, `receiver` gets the steps of all loops over `followed` items."""
    token = _RECEIVER.set(receiver)
    try:
        yield
    finally:
        _RECEIVER.reset(token)


def followed(items: Iterable[_Item], what: str, total: int | None = None) -> Iterator[_Item]:
    """The same items; when work on one is done, that is reported. total: how many they are."""
    receiver = _RECEIVER.get()
    if receiver is None:
        yield from items
        return
    receiver(what, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        receiver(what, done, total)
