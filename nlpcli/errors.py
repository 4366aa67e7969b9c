"""The one kind of error a user is meant to read, and the exit statuses of every command."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ParamSpec, TypeVar

from nlpcli.escaping import shortened

_P, _R = ParamSpec("_P"), TypeVar("_R")
_LONGEST_NAME = 200


class ExitStatus(IntEnum):
    """What a command tells the shell."""

    OK = 0
    FAILED = 1  # the call was fine, the run was not
    BAD_INPUT = 2  # a wrong call, a wrong file, a wrong value
    INTERRUPTED = 130  # 128 + SIGINT


class NlpcliError(Exception):
    """Something the user can mend: shown as one sentence, without a traceback.

    `message` names the value and the place (file and line), `hint` the remedy.
    """

    status = ExitStatus.BAD_INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self):  # keeps the hint when a worker process raises
        return (_rebuild, (type(self), self.message, self.hint))


class RunFailed(NlpcliError):
    """The call was right, but the work could not be finished (disk full, loss not finite)."""

    status = ExitStatus.FAILED


_DAMAGE = (TypeError, AttributeError, KeyError, ValueError, IndexError, OverflowError, RecursionError)


@contextmanager
def described_by(path: object) -> Iterator[None]:
    """What goes wrong inside is due to a description in the folder or file `path` that nobody checked value by value.

    Raises: NlpcliError, naming `path`, for what Python raises about values of other kinds.
    """
    try:
        yield
    except _DAMAGE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise NlpcliError(
            f"{path}: a value in its description is not of the kind that belongs there ({shortened(why)})",
            hint="the folder was changed or is damaged; take it again from where it came from",
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
    """The choice most like `name`, or None when nothing is near."""
    if len(name) > _LONGEST_NAME:  # nothing is near; the comparison would take long
        return None
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(kind: str, name: str, choices: Iterable[str]) -> NlpcliError:
    """The error for a name that is not in a table, with the nearest right spelling."""
    choices = list(choices)
    near = nearest(name, choices)
    hint = f"did you mean '{near}'?" if near else f"choose one of: {', '.join(choices)}"
    return NlpcliError(f"unknown {kind} '{shortened(name)}'", hint=hint)
