"""The observer of a training run; the terminal is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nlpcli.training.checkpoint import Progress


class Observer(Protocol):
    """Receives the events of the training loop.

    share: of the training that is done, 0 to 1. speed: tokens for each second.
    """

    def note(self, text: str) -> None: ...

    def started(self, progress: Progress, share: float) -> None: ...

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Progress, reason: str) -> None: ...
