"""Shared by the functions: parsing their arguments, and reporting messages."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nlpcli.errors import NlpcliError

_Item = TypeVar("_Item")
PathLike = str | os.PathLike[str]
"""A file or folder."""

_LOG = logging.getLogger("nlpcli")
_LOG.addHandler(logging.NullHandler())  # silent unless the importing program adds a handler
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
_NAMES = {"set": "settings", "as": "part", "ref": "references"}


def notify(text: str) -> None:
    """A message, such as which default is taken, for the logger `nlpcli`."""
    _LOG.info("%s", text)


def warn(text: str) -> None:
    """A message about something that is not as the caller may expect, for the logger `nlpcli`."""
    _LOG.warning("%s", text)


@contextmanager
def python_names() -> Iterator[None]:
    """Errors inside use Python's names of arguments: `max_length` instead of `--max-length`."""
    try:
        yield
    except NlpcliError as error:
        error.message = _renamed(error.message)
        error.hint = None if error.hint is None else _renamed(error.hint)
        error.args = (error.message,)
        raise


def _renamed(text: str) -> str:
    """The text with options as arguments, unless it shows a command."""
    if re.search(r"\bnlpcli [a-z]", text):
        return text
    return _OPTION.sub(lambda found: _NAMES.get(found[1], found[1].replace("-", "_")), text)


def given(**values: object) -> dict[str, Any]:
    """Those of the values that are not None: the defaults of the others stand where the command has them."""
    return {name: value for name, value in values.items() if value is not None}


def exclusive(**values: object) -> None:
    """Raises: NlpcliError when more than one of the values is given: neither None nor False."""
    named = [name for name, value in values.items() if value is not None and value is not False]
    if len(named) > 1:
        raise NlpcliError(f"{named[0]} and {named[1]} can't be used together", hint="leave out one of them")


def needs(option: str, options: Mapping[str, object], *names: str) -> None:
    """Raises: NlpcliError when one of the names is given, which have no effect without `option`."""
    for name in names:
        if options.get(name) is not None and not options.get(option):
            raise NlpcliError(f"{name} has no effect without {option}", hint=f"add {option}=True")


def paths(value: PathLike | Iterable[PathLike] | None) -> list[str] | None:
    """The names of one file, or of several."""
    if value is None:
        return None
    return [os.fspath(value)] if isinstance(value, (str, os.PathLike)) else [os.fspath(one) for one in value]


def path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)


def assignments(settings: Mapping[str, object] | None) -> list[str]:
    """Settings as `--set` takes them. Raises: NlpcliError for a name that is not a string."""
    import json

    for name in settings or {}:
        if not isinstance(name, str):
            raise NlpcliError(f"the name of a setting must be a string such as 'training.lr', not {name!r}")
    return [f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in (settings or {}).items()]


def strings(texts: str | Iterable[str]) -> Iterator[str]:
    """The texts one by one; a lone string is one text. Raises: NlpcliError for anything that is not a string."""
    if isinstance(texts, str):
        yield texts
        return
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise NlpcliError(f"text {number} is of the type {type(text).__name__}, not a string")
        yield text


def lines(texts: str | Iterable[str]) -> Iterator[str]:
    """As `strings`, without the line end that the lines of a file have."""
    for text in strings(texts):
        yield text.removesuffix("\n").removesuffix("\r")


def like(texts: object, results: Iterator[_Item]) -> list[_Item] | Iterator[_Item]:
    """The results one by one as they are ready where the texts come from an iterator, else as a list."""
    return results if isinstance(texts, Iterator) else list(results)
