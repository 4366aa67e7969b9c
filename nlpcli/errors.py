"""The one kind of error a user is meant to read, and the exit statuses of every command."""

from __future__ import annotations

import difflib
import functools
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import ParamSpec, TypeVar

from nlpcli.escaping import shortened

_P = ParamSpec("_P")
_R = TypeVar("_R")
_LONGEST_NAME = 200
_ALTERED = "the folder was changed or is damaged; copy or download it again"


class ExitStatus(IntEnum):
    """The exit status of a command."""

    OK = 0
    FAILED = 1  # the call was fine, the run was not
    BAD_INPUT = 2  # a wrong call, a wrong file, a wrong value
    INTERRUPTED = 130  # 128 + SIGINT
    TERMINATED = 143  # 128 + SIGTERM


class Interruption(KeyboardInterrupt):
    """A signal to end the process. number: of the signal."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def interrupt_status(error: BaseException) -> int:
    """The exit status of a command that `error` has interrupted: 128 + the number of the signal."""
    return 128 + (error.number if isinstance(error, Interruption) else signal.SIGINT)


class NlpcliError(Exception):
    """Something the user can mend: shown as one sentence, without a traceback.

    `message` names the value and the place (file and line), `hint` the remedy.
    """

    status = ExitStatus.BAD_INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(
        self,
    ) -> tuple[Callable[..., NlpcliError], tuple[object, ...]]:  # keeps the hint when a worker process raises
        return (_rebuild, (type(self), self.message, self.hint))


class RunFailed(NlpcliError):
    """The call was right, but the work could not be finished (disk full, loss not finite)."""

    status = ExitStatus.FAILED


_NO_MEMORY = re.compile(
    "can't allocate memory|bad_alloc|not enough memory|Cannot allocate memory|CUDA out of memory|ALLOC_FAILED"
    "|could not create a memory|could not create a primitive$"  # a primitive's descriptor fails for other reasons
)
"""The words of torch's allocators, of C++, of the system, and of the libraries cuBLAS, cuDNN and oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch or a library of it means that memory ran out."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None)


_DAMAGE = (TypeError, AttributeError, KeyError, ValueError, IndexError, OverflowError, RecursionError)


@contextmanager
def described_by(path: object) -> Iterator[None]:
    """Errors inside are attributed to the description in the folder or file `path`, whose values were not checked one
    by one.

    Raises: NlpcliError, naming `path`, for what Python raises about values of other kinds.
    """
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, RecursionError):
            raise NlpcliError(f"{path}: a description in it is nested too deeply to be read", hint=_ALTERED) from None
        why = " ".join(str(error).split()) or type(error).__name__
        raise NlpcliError(
            f"{path} contains a value of a wrong type ({shortened(why)})",
            hint=_ALTERED,
        ) from error


def reads_description(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """For functions whose first argument is the folder or file that they read, see `described_by`."""

    @functools.wraps(function)
    def guarded(*args: _P.args, **more: _P.kwargs) -> _R:
        with described_by(args[0] if args else more["path"]):
            return function(*args, **more)

    return guarded


def _rebuild(kind: type[NlpcliError], message: str, hint: str | None) -> NlpcliError:
    return kind(message, hint=hint)


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` may misspell, or None if none is near enough.

    Case, hyphens and the like don't count. Of the rest one character may be missing, too many, wrong or exchanged with
    its neighbor, two in a name of six or more; digits are not mistaken for others.
    """
    if len(name) > _LONGEST_NAME:  # nothing is near; the comparison would take long
        return None
    own = plain(name)
    slips = 1 if len(own) < 6 else 2
    found = []
    for choice in choices:
        other = plain(choice)
        same_digits = [c for c in own if c.isdigit()] == [c for c in other if c.isdigit()]
        distance = _distance(own, other, slips) if same_digits else None
        if distance is not None:
            found.append((distance, -difflib.SequenceMatcher(None, name, choice).ratio(), choice))
    return min(found)[2] if found else None


def missing_path_hint(path: Path) -> str | None:
    """A hint for a path that does not exist: a name that it may misspell, or the folder that is missing."""
    parent, part = path.parent, path
    while not parent.is_dir() and parent != parent.parent:
        part, parent = parent, parent.parent
    try:
        near = nearest(part.name, [entry.name for entry in parent.iterdir()])
    except OSError:
        return None
    if near is not None:
        whole = parent / near / path.relative_to(part)
        return f"did you mean '{whole if whole.exists() else parent / near}'?"
    return None if part == path else f"the folder {path.parent} does not exist"


def plain(name: str) -> str:
    """A name in small letters, without hyphens and the like."""
    return "".join(character for character in name.lower() if character not in "-_ .")


def _distance(one: str, other: str, most: int) -> int | None:
    """Insertions, deletions, replacements and swaps of neighbors between two words, None for more than `most`."""
    if abs(len(one) - len(other)) > most:
        return None
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[-1] = min(row[-1], before[j - 2] + 1)
        before, last = last, row
    return last[-1] if last[-1] <= most else None


def unknown(kind: str, name: str, choices: Iterable[str], absent: Iterable[str] = ()) -> NlpcliError:
    """The error for a name that is not in a table, with the correct spelling of a possible misspelling.

    absent: names that mean something elsewhere and have no near relation here, in small letters without hyphens.
    """
    choices = list(choices)
    if plain(name) in absent:
        return NlpcliError(f"the {kind} '{name}' is not supported", hint=f"choose one of: {', '.join(choices)}")
    near = nearest(name, choices)
    hint = f"did you mean '{near}'?" if near else f"choose one of: {', '.join(choices)}"
    return NlpcliError(f"unknown {kind} '{shortened(name)}'", hint=hint)


def is_absent(name: str, absent: Iterable[str]) -> bool:
    """Whether a name is one of those in `absent`, see `unknown`."""
    return plain(name) in absent
