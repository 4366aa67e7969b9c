"""Numbers with limits, as the types of settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nlpcli.errors import NlpcliError

MOST_THREADS = 1024
"""More threads or processes than any machine runs well; a hundred thousand end a process or a machine."""

Positive = Annotated[int, Field(ge=1)]
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
SizeOrNone = Annotated[int, Field(ge=0, lt=2**31)]
Layers = Annotated[int, Field(ge=1, le=2000)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def check_threads(threads: int | None) -> None:
    """Raises: NlpcliError for more threads of the CPU than any machine has use for."""
    if threads is not None and threads > MOST_THREADS:
        raise NlpcliError(f"{threads:,} CPU threads are too many", hint=f"choose at most {MOST_THREADS:,}")
