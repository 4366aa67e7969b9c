"""Objects for all processes but the first, which neither write nor report; and signals that reach all processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import FrameType

from nlpcli.training.checkpoint import Progress
from nlpcli.training.interrupts import Interrupts
from nlpcli.training.observer import Observer

_TOGETHER = 2.0  # seconds in which several signals count as one: the terminal and the launcher both send it


class NoFolderWatch:
    """Replaces `FolderWatch`."""

    def check(self) -> None: ...


class NoLog:
    """Replaces `MetricsLog`."""

    last_train = 0

    def write(self, kind: str, step: int, **values: object) -> None: ...

    def show(self, kind: str, step: int, items: object) -> None: ...

    def close(self) -> None: ...


class SilentObserver(Observer):
    """Reports nothing."""

    def note(self, text: str) -> None: ...

    def started(self, progress: Progress, share: float) -> None: ...

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Progress, reason: str) -> None: ...


SILENT = SilentObserver()


class GroupInterrupts(Interrupts):
    """As `Interrupts`, of one of several processes, to which the terminal and the launcher may both send a signal:
    those that come together are one."""

    def __init__(self) -> None:
        super().__init__()
        self._since: float | None = None

    def check(self) -> None:
        self._begin()
        super().check()

    def _begin(self) -> None:
        if self.requested and self._since is None:
            self._since = time.monotonic()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._begin()
        if self._since is None or time.monotonic() - self._since > _TOGETHER:
            super()._handle(number, frame)
