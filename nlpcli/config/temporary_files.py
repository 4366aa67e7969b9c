"""Temporary names beside what is written, and what killed processes left behind under them.

A file or folder NAME is filled under the name `.NAME.tmp-RANDOM` and then renamed; a folder that is replaced is called
`.NAME.old-RANDOM` for that moment. Nobody can guess such a name, and a link under it is never followed. The writer
holds a lock on what it fills. The system takes the lock back when the process ends, however it ends. So a temporary
name that nobody has locked is a leftover.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, TypeVar

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old)-([0-9a-f]{12}|[0-9]+)", re.DOTALL)
_LONGEST = 200  # bytes of NAME: with what is put around it, the temporary name has at most 255
_TRIES = 100
_Handle = TypeVar("_Handle", int, int | None)
_STALE_SECONDS = 24 * 3600
"""Age at which an unchanged temporary file counts as abandoned, on disks without file locks."""


def temporary_path(path: Path, kind: str = "tmp") -> Path:
    """A name beside `path` that nobody can guess. kind: `tmp` of what is filled, `old` of what is replaced."""
    name = path.name
    while len(os.fsencode(name)) > _LONGEST:
        name = name[:-1]
    return path.with_name(f".{name}.{kind}-{secrets.token_hex(6)}")


def is_temporary(path: Path | os.DirEntry[str]) -> bool:
    """Whether this is a file or folder under a temporary name; a link never is."""
    if not _TEMPORARY.fullmatch(path.name):
        return False
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def has_temporary_name(path: Path) -> bool:
    """Whether the name alone is a temporary one."""
    return _TEMPORARY.fullmatch(path.name) is not None


def find_finished(folder: Path, pattern: str) -> list[Path]:
    """The matches of `Path.glob` below a folder, without the contents of folders with temporary names."""
    found = Path(folder).glob(pattern)
    return [path for path in found if not any(map(_TEMPORARY.fullmatch, path.relative_to(folder).parts))]


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without files and folders with temporary names."""
    with os.scandir(folder) as found:
        return sorted(Path(entry.path) for entry in found if not is_temporary(entry))


def is_free(path: Path) -> bool:
    """Whether a folder can be made at `path`: nothing is there, or a folder that holds nothing but leftovers."""
    path = Path(path)
    if path.is_dir():
        return not entries(path)
    return not os.path.lexists(path)


@contextmanager
def temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new locked file beside `path`, and its name; removed afterwards unless the caller renames it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

    def create(aside: Path) -> int:
        return os.open(aside, flags, 0o666)

    handle, aside = _create(path, create)
    try:
        with open(handle, "w+b") as file:
            yield file, aside
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """A new locked folder beside `path`; removed afterwards unless the caller renames it."""

    def create(aside: Path) -> int | None:
        os.mkdir(aside, mode)
        if not hasattr(os, "O_DIRECTORY"):
            return None
        return os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    handle, aside = _create(path, create)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A new folder below `$TMPDIR` that only this user can read and that is gone afterwards.

    Folders that killed processes left under the same name are deleted.
    """
    place = Path(tempfile.gettempdir(), name)
    sweep(place.parent, name)
    with temporary_folder(place, 0o700) as folder:
        yield folder


def _create(path: Path, create: Callable[[Path], _Handle]) -> tuple[_Handle, Path]:
    """Makes something under a temporary name and locks it before anyone takes it for a leftover."""
    for _ in range(_TRIES):
        aside = temporary_path(path)
        try:
            handle = create(aside)
        except FileExistsError:
            continue
        if handle is None or _is_ours(handle, aside):
            return handle, aside
        os.close(handle)
    raise FileExistsError(f"no free temporary name beside {path}")


def _is_ours(handle: int, aside: Path) -> bool:
    """Locks what was made. False: it was swept between its making and the lock."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(aside))
    except FileNotFoundError:
        return False


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left in a folder under temporary names; what is being written stays.

    A folder that was set aside to be replaced, and never was, gets its name back. name: only what was left of this.
    """
    try:
        with os.scandir(folder) as found:
            left = [Path(entry.path) for entry in found if is_temporary(entry)]
    except OSError:
        return
    for path in left:
        parts = _TEMPORARY.fullmatch(path.name)
        if parts is not None and name in (None, parts["name"]):
            with suppress(OSError):
                if parts["kind"] == "old":
                    _put_back(path, path.with_name(parts["name"]))
                else:
                    _remove(path)


def _put_back(old: Path, path: Path) -> None:
    if os.path.lexists(path):
        shutil.rmtree(old)
    else:
        os.rename(old, path)


def _remove(path: Path) -> None:
    """Removes a leftover, unless someone has locked it."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        if _is_left(handle, path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(handle)


def _is_left(handle: int, path: Path) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # a disk without locks
            pass
    inside = path.iterdir() if path.is_dir() else ()
    return time.time() - max(entry.lstat().st_mtime for entry in (path, *inside)) > _STALE_SECONDS
