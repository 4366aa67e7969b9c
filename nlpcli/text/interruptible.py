"""Long calls into libraries that don't look for Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_GLANCE = 0.1  # seconds


def interruptible(work: Callable[[], Any]) -> Any:
    """The result of `work`, done in a thread beside, so that Ctrl-C is answered while a library computes.

    After Ctrl-C the thread goes on until the process ends; `work` must not write anything.
    """
    result: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_GLANCE)
    if raised:
        raise raised[0]
    return result[0]
