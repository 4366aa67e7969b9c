"""Reading the labelled examples of a task's file, to learn from or to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError


def read_labelled(
    kind: Any, path: str, columns: Any, tell: Callable[[str], None], *, learnt: bool = True
) -> Iterator[Any]:
    """The examples in a file. kind: a task, or its class. learnt: whether they are for training, or else to measure on.

    Training questions whose answers are not in their contexts are left out; `tell` hears how many at the end, and of
    the first. Every question is measured on, for only the texts of its answers count there.

    Raises: NlpcliError with file and line for what can't be read.
    """
    if kind.name != "span":
        yield from kind.read(path, columns)
        return
    if not learnt:
        yield from kind.read(path, columns, spans=False)
        return
    bad: list[NlpcliError] = []
    yield from kind.read(path, columns, on_bad=bad.append)
    if bad:
        tell(f"{counted(len(bad), 'question')} left out: {bad[0].message}" + (", …" if len(bad) > 1 else ""))
