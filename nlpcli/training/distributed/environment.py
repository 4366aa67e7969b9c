"""The processes that run together, by the environment variables that torchrun sets; without torch."""

from __future__ import annotations

import os

from nlpcli.errors import NlpcliError


def process_count() -> int:
    """WORLD_SIZE: how many processes run this command together; 1 where it is not set. Raises: NlpcliError."""
    return _number("WORLD_SIZE", 1)


def process_rank() -> int:
    """RANK: the number of this process, from 0. Raises: NlpcliError."""
    return _number("RANK", 0) if process_count() > 1 else 0


def local_rank() -> int:
    """LOCAL_RANK: the number of this process among those on this machine, from 0. Raises: NlpcliError."""
    return _number("LOCAL_RANK", 0) if process_count() > 1 else 0


def restarts() -> int:
    """TORCHELASTIC_RESTART_COUNT: how often torchrun has started the processes again. Raises: NlpcliError."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def may_restart() -> bool:
    """TORCHELASTIC_MAX_RESTARTS: whether torchrun will start the processes again. Raises: NlpcliError."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


_connected = False


def is_connected() -> bool:
    """Whether this process is connected to the others."""
    return _connected


def mark_connected() -> None:
    """Called when this process is connected to the others."""
    global _connected
    _connected = True


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise NlpcliError(
            f"the environment variable {name} must be a whole number, not '{text}'", hint="start with torchrun"
        )
    return int(text)
