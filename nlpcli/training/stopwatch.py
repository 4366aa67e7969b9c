"""Times that do not count what other programs took: how long the work would take on a machine of its own."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")


def waited() -> float:
    """Seconds in which this thread was ready but waited for a processor; 0 if the system does not report it.

    Linux counts them in /proc/thread-self/schedstat (kernel documentation, scheduler/sched-stats).
    """
    try:
        return int(_SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begun, self._waited = time.perf_counter(), waited()

    def elapsed(self) -> float:
        """Seconds on the clock."""
        return time.perf_counter() - self._begun

    def waited(self) -> float:
        """Those of them in which this thread waited for a processor."""
        return min(waited() - self._waited, self.elapsed())

    def worked(self) -> float:
        """Seconds on the clock without those of waiting; above 0."""
        return max(self.elapsed() - self.waited(), 1e-9)
