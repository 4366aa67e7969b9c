"""A lock on a folder that one process at a time may write to, and a watch over a folder that must stay in its place.

The lock is the system's (flock), held on a file in the folder. The system takes it back when its owner ends, however it
ends, so no lock is ever left behind. The file has a temporary name (see `nlpcli.config.temporary_files`); after a
killed owner it is removed as any temporary file. Nothing is locked on a disk without file locks.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from nlpcli.config.files import writing
from nlpcli.config.temporary_files import fcntl
from nlpcli.errors import NlpcliError, RunFailed

LOCK = ".lock.tmp-0"
_TRIES, _PAUSE = 5, 0.02  # a process that sweeps leftovers holds the lock for an instant
_OWNER_BYTES = 300


class FolderInUse(NlpcliError):
    """Another process writes to the folder."""


@contextmanager
def locked_folder(folder: Path, what: str = "run") -> Iterator[None]:
    """Nobody else can hold the lock on `folder` inside; the folder is made where it isn't there.

    what: what is made in the folder, for the message. Raises: FolderInUse while another process holds the lock;
    NlpcliError and RunFailed where nothing can be written.
    """
    folder = Path(folder)
    there = folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquired(folder, what)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if hasattr(os, "O_DIRECTORY") else None
    try:
        yield
    finally:
        with suppress(OSError):  # also where the folder has another name by now
            if os.path.samestat(os.fstat(handle), os.stat(_there(folder, place), dir_fd=place, follow_symlinks=False)):
                os.unlink(_there(folder, place), dir_fd=place)
        os.close(handle)
        if place is not None:
            os.close(place)
        if not there:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _there(folder: Path, place: int | None) -> Path:
    """The lock's file as seen from the open folder `place`."""
    return folder / LOCK if place is None else Path(LOCK)


def check_unlocked(folder: Path, what: str = "run") -> None:
    """Raises: FolderInUse while another process holds the lock on `folder`."""
    try:
        handle = os.open(Path(folder) / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return
    try:
        if not _lock(handle):
            raise _in_use(handle, Path(folder), what)
    finally:
        os.close(handle)


def _acquired(folder: Path, what: str) -> int:
    """The lock's file, locked and with its owner in it."""
    while True:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not _lock(handle):
                raise _in_use(handle, folder, what)
            if _is_at(handle, folder / LOCK):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} {socket.gethostname()}".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner ended, or it was swept, between its opening and the lock


def _lock(handle: int) -> bool:
    """Whether the lock could be had; a disk without locks gives it to everyone."""
    if fcntl is None:
        return True
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                time.sleep(_PAUSE)
        except OSError:
            return True
    return False


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _in_use(handle: int, folder: Path, what: str) -> FolderInUse:
    pid, _, host = os.pread(handle, _OWNER_BYTES, 0).decode("utf-8", "replace").partition(" ")
    known = pid.isdigit() and host
    owner = f"process {pid} on {host}" if known else "another process"
    return FolderInUse(
        f"{folder} is in use: {owner} is writing this {what}",
        hint="wait until it ends, or stop it with Ctrl-C or SIGTERM; or choose another --out",
    )


class FolderWatch:
    """Inside the `with`, `check` checks that the path still leads to the same folder as at the start."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._handle: int | None = None

    def __enter__(self) -> FolderWatch:
        if hasattr(os, "O_DIRECTORY"):  # held open, so that no other folder gets its number
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def check(self) -> None:
        """Raises: RunFailed when the folder was deleted, moved or replaced, or can't be reached any more."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise self._gone() from None
        except OSError as error:
            raise RunFailed(
                f"the folder {self.path} can't be reached any more ({(error.strerror or str(error)).lower()})",
                hint="make it reachable again, then resume the run",
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise self._gone()
        if self._handle is not None and not os.path.samestat(found, os.fstat(self._handle)):
            raise self._gone()

    def _gone(self) -> RunFailed:
        place = ""
        with suppress(OSError):  # on Linux, the folder's current path
            place = os.readlink(f"/proc/self/fd/{self._handle}")
        if not place or place.endswith(" (deleted)"):
            return RunFailed(
                f"the folder {self.path} was deleted or moved while the run wrote to it",
                hint="start the run again, or resume it where its folder is now",
            )
        return RunFailed(
            f"the folder {self.path} was moved to {place} while the run wrote to it",
            hint=f"resume the run there, with --resume --out {place}",
        )
