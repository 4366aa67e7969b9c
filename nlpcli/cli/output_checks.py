"""Checks before a command starts its work: its output path and the requested device."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nlpcli.errors import NlpcliError

_USUAL_DEVICES = (None, "auto", "cpu")
_BLOCK = 1 << 20  # characters


def check_file(path: Path, option: str) -> None:
    """Raises: NlpcliError when no file can be written at `path`, the value of `option`; its folder must exist."""
    if path.is_dir():
        raise NlpcliError(f"{option} needs a file, but {path} is a folder", hint=f"{option} {path}/FILE")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise NlpcliError(f"{option} needs a regular file, but {path} is not one", hint=f"give {option} another path")
    folder = path.parent
    if not folder.exists():
        raise NlpcliError(
            f"{path} can't be written because the folder {folder} does not exist", hint=f"mkdir -p {folder}"
        )
    if not folder.is_dir():
        raise NlpcliError(
            f"{path} can't be written because {folder} is a file, not a folder", hint=f"give {option} another path"
        )
    _check_writable(path, folder, option)


def check_folder(path: Path, option: str) -> None:
    """Raises: NlpcliError when no folder can be written at `path`, the value of `option`.

    Folders above it that do not exist yet are not an error: they are created with it.
    """
    if path.exists() and not path.is_dir():
        raise NlpcliError(f"{option} needs a folder, but {path} is a file", hint=f"give {option} another path")
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise NlpcliError(
            f"the folder {path} can't be created because {there} is a file", hint=f"give {option} another path"
        )
    _check_writable(path, there, option)


def _check_writable(path: Path, folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NlpcliError(
            f"{path} can't be written because the folder {folder} is not writable", hint=f"give {option} another path"
        )


def check_device(name: str | None) -> None:
    """Raises: NlpcliError for a device that is unknown or that this machine does not have."""
    if name not in _USUAL_DEVICES:
        from nlpcli.training.device import choose_device

        choose_device(name)


@contextmanager
def redirected(path: Path | None) -> Iterator[None]:
    """Standard output goes to the file `path`, all of it or, after an error, nothing; None changes nothing."""
    if path is None:
        yield
        return
    from nlpcli.config.files import write_atomic, writing

    with ExitStack() as stack:
        with writing(path):
            file = stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="\n", dir=path.parent)
            )
        terminal, sys.stdout = sys.stdout, file
        try:
            yield
        finally:
            sys.stdout = terminal
        file.seek(0)
        write_atomic(path, iter(lambda: file.read(_BLOCK), ""))
