"""Discrete choices of a layer, such as a token's bucket, that the recomputation of the layer repeats.

Reversible layers recompute their inputs from their outputs, with rounding errors. Without the repeated choice, a token
near a border could get another bucket, and everything computed from it would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_MADE: ContextVar[list[Tensor] | None] = ContextVar("made", default=None)
_TO_REPEAT: ContextVar[Iterator[Tensor] | None] = ContextVar("to_repeat", default=None)


def choice(make: Callable[[], Tensor]) -> Tensor:
    """The result of `make`; inside `repeated_choices`, the next recorded choice."""
    earlier = _TO_REPEAT.get()
    if earlier is not None:
        return next(earlier)
    found = make()
    made = _MADE.get()
    if made is not None:
        made.append(found)
    return found


@contextmanager
def recorded_choices() -> Iterator[list[Tensor]]:
    """Records the choices that are made inside, in their order."""
    made: list[Tensor] = []
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


@contextmanager
def repeated_choices(made: list[Tensor]) -> Iterator[None]:
    """Inside, `choice` returns these choices in their order."""
    token = _TO_REPEAT.set(iter(made))
    try:
        yield
    finally:
        _TO_REPEAT.reset(token)
