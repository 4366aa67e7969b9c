"""Choices of a layer that rounding could turn, such as a bucket, made once where the layer is computed twice.

Reversible layers compute their inputs again from their outputs, with errors of rounding. A token near a border would
then be in another bucket than before, and all that is computed from it would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_MADE: ContextVar[list[Tensor] | None] = ContextVar("made", default=None)
_TO_REPEAT: ContextVar[Iterator[Tensor] | None] = ContextVar("to_repeat", default=None)


def choice(make: Callable[[], Tensor]) -> Tensor:
    """A choice that `make` makes, or, inside of `repeated_choices`, the next one that is repeated."""
    earlier = _TO_REPEAT.get()
    if earlier is not None:
        return next(earlier)
    found = make()
    made = _MADE.get()
    if made is not None:
        made.append(found)
    return found


@contextmanager
def kept_choices() -> Iterator[list[Tensor]]:
    """The list of the choices that are made inside, in their order."""
    made: list[Tensor] = []
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


@contextmanager
def repeated_choices(made: list[Tensor]) -> Iterator[None]:
    """Inside, these choices are repeated in their order."""
    token = _TO_REPEAT.set(iter(made))
    try:
        yield
    finally:
        _TO_REPEAT.reset(token)
