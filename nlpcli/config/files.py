"""All writing of results: aside first, flushed to the disk, then renamed, so that no half file is ever seen."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nlpcli.errors import NlpcliError, RunFailed

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says while `path` is written into a sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise RunFailed(f"{path}: no space left on the disk", hint="free some room, then run it again") from error
        if isinstance(error, PermissionError):
            raise NlpcliError(f"{path}: no permission to write here") from error
        if isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
            raise NlpcliError(f"{path}: can't be written ({error.strerror})") from error
        if Path(str(error.filename)).name.startswith(f".{Path(path).name}.tmp-"):
            raise NlpcliError(f"{path}: can't be written ({error.strerror})") from error
        raise


Content = bytes | str | Iterable[str]
"""What a file is to hold: bytes, text, or stretches of text that are written as they come."""


def write_atomic(path: Path, content: Content) -> None:
    """Writes `path` whole or not at all; what stood there before stays until the new content is on the disk.

    Raises: RunFailed when the disk is full, NlpcliError when the place can't be written.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, Content]) -> None:
    """Writes several files that belong together: the first is put in place when the last is on the disk.

    Raises: as `write_atomic`; none of the files has changed then.
    """
    asides: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            path = Path(path)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                asides[path] = aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
                with open(aside, "wb") as file:
                    for part in [content] if isinstance(content, (bytes, str)) else content:
                        file.write(part if isinstance(part, bytes) else part.encode("utf-8"))
                    file.flush()
                    os.fsync(file.fileno())
        for path, aside in asides.items():
            with writing(path):
                os.replace(aside, path)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)
    for folder in dict.fromkeys(path.parent for path in asides):
        with writing(folder):
            sync_directory(folder)


def write_again(source: Path, path: Path) -> None:
    """Gives `path` the content of `source`, whole or not at all, and without a copy of it where the disk allows that.

    Raises: as `write_atomic`.
    """
    source, path = Path(source), Path(path)
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with writing(path):
            aside.unlink(missing_ok=True)
            try:
                os.link(source, aside)
            except OSError:  # a disk without links
                shutil.copyfile(source, aside)
                sync_file(aside)
            os.replace(aside, path)
            sync_directory(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` complete or not at all: fill the one that is given, it is renamed at the end.

    Raises: NlpcliError when `path` exists and `replace` is not set, or is a file; RunFailed when the disk is full.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise NlpcliError(f"{path}: already exists")
    if path.exists() and not path.is_dir():
        raise NlpcliError(f"{path}: is a file, not a folder")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.tmp-", dir=path.parent))
    try:
        with writing(path):
            aside.chmod(0o777 & ~_umask())
            yield aside
            for entry in sorted(aside.rglob("*")):
                if entry.is_file():
                    sync_file(entry)
                elif entry.is_dir():
                    sync_directory(entry)
            sync_directory(aside)
            if path.exists():
                old = aside.with_name(aside.name.replace(".tmp-", ".old-"))
                try:
                    os.replace(path, old)
                    os.replace(aside, path)
                except BaseException:
                    if not path.exists():
                        os.rename(old, path)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(aside, path)
            sync_directory(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_file(path: Path) -> None:
    """Asks the system to bring a file's content onto the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Asks the system to bring a folder's entries onto the disk, where it knows how."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
