"""Ctrl-C and SIGTERM as a wish, which is met where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from nlpcli.errors import Interruption


class Interrupted(Interruption):
    """The wish is met: the work stands between two steps, and can be saved."""


class InterruptsBetweenRuns:
    """Around runs that follow one another: a signal that came in a run which ended all the same ends the sequence.

    Inside the `with`, signals do what they did before; `number`: of the last one that an `Interrupts` inside noted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> InterruptsBetweenRuns:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._before:
            self._restore(number)

    def check(self) -> None:
        """Raises: Interrupted for a signal that came in a run."""
        if self.number is not None:
            raise Interrupted(self.number)

    def _restore(self, number: int) -> None:
        handler = self._before[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
        else:
            self._restore(number)
            signal.raise_signal(number)


class Interrupts:
    """Inside the `with`, the first Ctrl-C or SIGTERM is noted, and a second one raises Interruption at once.

    Signals reach the main thread only; in another one nothing is changed and nothing is ever noted.
    """

    def __init__(self) -> None:
        self.requested = False
        self._number = int(signal.SIGINT)  # of the first signal
        self._meet_at_once = False
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            around = getattr(handler, "__self__", None)
            if self.requested and isinstance(around, InterruptsBetweenRuns):
                around.number = self._number

    def check(self) -> None:
        """Raises: Interrupted when an interruption was requested."""
        if self.requested:
            raise Interrupted(self._number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, work that can be done again is given up for the first signal already. Raises: Interrupted."""
        self._meet_at_once = True
        try:
            self.check()
            yield
        finally:
            self._meet_at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again:
            raise Interruption(number)
        self._number = number
        if self._meet_at_once:
            raise Interrupted(number)
