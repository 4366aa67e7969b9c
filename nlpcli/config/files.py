"""All writing of results: aside first, flushed to the disk, then renamed, so that no half file is ever seen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nlpcli.config.temporary_files import (
    has_temporary_name,
    is_free,
    sweep,
    temporary_file,
    temporary_folder,
    temporary_path,
)
from nlpcli.errors import NlpcliError, RunFailed

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
_TRIES = 10
_LONGEST_NAME = 255  # bytes


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns system errors while `path` is written into a sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise RunFailed(
                f"{path} can't be written, because no space is left on the disk",
                hint="free some disk space, then run the command again",
            ) from error
        if error.errno == errno.ELOOP:
            raise NlpcliError(
                f"{path} is a symbolic link, which is not followed here", hint="remove the link"
            ) from error
        if isinstance(error, PermissionError):
            raise NlpcliError(f"{path} can't be written, because you have no permission to write there") from error
        if isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
            raise NlpcliError(f"{path} can't be written ({error.strerror})") from error
        if has_temporary_name(Path(str(error.filename))):
            raise NlpcliError(f"{path} can't be written ({error.strerror})") from error
        raise


def plain_name(name: object, place: str) -> str:
    """`name` where it can only be that of a file or folder directly in another folder.

    place: where it was read, for the message. Raises: NlpcliError for a path, for what no file can be called, and for
    a temporary name.
    """
    if (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(character in "/\\\x7f" or character < " " for character in name)
        and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
        and not has_temporary_name(Path(name))
    ):
        return name
    quoted = json.dumps(name, ensure_ascii=True, default=str)
    quoted = quoted if len(quoted) <= 80 else f"{quoted[:80]}…"
    raise NlpcliError(
        f"{place}: {quoted} can't be the name of a file or folder",
        hint="use a short name without slashes, backslashes and control characters",
    )


Content = bytes | str | Iterable[str]
"""The content of a file: bytes, text, or parts of text that are written one by one."""


class AlreadyThere(NlpcliError):
    """Something is where something new was to be made."""


def _already_there(path: Path) -> AlreadyThere:
    return AlreadyThere(f"{path} already exists")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears at `path` whole or not at all, when the block has ended; it can be written anywhere in it.

    Raises: as `write_atomic`.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as (file, aside):
            yield file
            _to_disk(file)
            os.replace(aside, path)
        sync_directory(path.parent)


def write_atomic(path: Path, content: Content) -> None:
    """Writes `path` whole or not at all; what stood there before stays until the new content is on the disk.

    Raises: RunFailed when the disk is full, NlpcliError when the place can't be written.
    """
    write_together({path: content})


def write_new(path: Path, content: Content) -> None:
    """Writes `path` whole or not at all, where nothing is: of several processes that try, one succeeds.

    Raises: AlreadyThere when something is there, and as `write_atomic`.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as (file, aside):
            _fill(file, content)
            _to_disk(file)
            if os.path.lexists(path):
                raise _already_there(path)
            try:
                os.link(aside, path)
            except FileExistsError:
                raise _already_there(path) from None
            except OSError:  # a disk without links
                os.replace(aside, path)
        sync_directory(path.parent)


def write_together(contents: Mapping[Path, Content]) -> None:
    """Writes several files that belong together: the first is put in place when the last is on the disk.

    Raises: as `write_atomic`; none of the files has changed then.
    """
    asides: dict[Path, Path] = {}
    with ExitStack() as stack:
        for path, content in contents.items():
            path = Path(path)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file, asides[path] = stack.enter_context(temporary_file(path))
                _fill(file, content)
                _to_disk(file)
        for path, aside in asides.items():
            with writing(path):
                os.replace(aside, path)
    for folder in dict.fromkeys(path.parent for path in asides):
        with writing(folder):
            sync_directory(folder)


def _fill(file: BinaryIO, content: Content) -> None:
    for part in [content] if isinstance(content, (bytes, str)) else content:
        file.write(part if isinstance(part, bytes) else part.encode("utf-8"))


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    if os.name == "nt":  # which renames no file that is open
        file.close()


def write_again(source: Path, path: Path) -> None:
    """Gives `path` the content of `source`, whole or not at all, and without a copy of it where the disk allows that.

    Raises: as `write_atomic`.
    """
    source, path = Path(source), Path(path)
    with writing(path), temporary_folder(path) as folder:
        aside = folder / path.name
        try:
            os.link(source, aside)
        except OSError:  # a disk without links
            shutil.copyfile(source, aside)
            sync_file(aside)
        os.replace(aside, path)
        sync_directory(path.parent)


@contextmanager
def new_directory(path: Path, *, replace: bool | Callable[[], bool] = False) -> Iterator[Path]:
    """A folder that appears at `path` complete or not at all: fill the one that is given, it is renamed at the end.

    replace: whether what is at `path` gives way; a function is called before the folder is filled, and again when
    something is found there afterwards. A folder that holds nothing but leftovers always gives way.

    Raises: AlreadyThere when something is at `path` and stays, also when another process put it there meanwhile;
    NlpcliError for a file; RunFailed when the disk is full.
    """
    path = Path(path)

    def may_replace() -> bool:
        return is_free(path) or (replace() if callable(replace) else replace)

    if not may_replace():
        raise _already_there(path)
    if path.exists() and not path.is_dir():
        raise NlpcliError(f"{path} is a file, not a folder")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        with temporary_folder(path) as aside:
            yield aside
            for entry in sorted(aside.rglob("*")):
                if entry.is_file():
                    sync_file(entry)
                elif entry.is_dir():
                    sync_directory(entry)
            sync_directory(aside)
            _put_in_place(aside, real_path(path) if path.is_symlink() else path, may_replace)
        sync_directory(path.parent)


def _put_in_place(aside: Path, path: Path, may_replace: Callable[[], bool]) -> None:
    """Renames `aside` to `path`. At any moment another process may put its own folder there, or take it away."""
    for _ in range(_TRIES):
        try:
            os.replace(aside, path)  # in the place of nothing, or of an empty folder
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if not may_replace():
            raise _already_there(path)
        old = temporary_path(path, "old")
        try:
            os.replace(path, old)
        except FileNotFoundError:
            continue
        try:
            os.replace(aside, path)
        except BaseException as error:
            with suppress(OSError):
                os.rename(old, path)
            if not (isinstance(error, OSError) and error.errno in _TAKEN):
                raise
        else:
            shutil.rmtree(old, ignore_errors=True)
            return
        shutil.rmtree(old, ignore_errors=True)
    raise _already_there(path)


def sync_file(path: Path) -> None:
    """Flushes a file's content to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flushes a folder's entries to the disk, if the system supports it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_regular(path: Path) -> None:
    """Raises: NlpcliError for a pipe or a device, which would be read forever, where a file with content belongs."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise NlpcliError(f"{path}: this is a pipe or a device, but a regular file is needed here")


_LARGEST = 2**30  # bytes of a file that is read as a whole; the largest vocabularies have some ten million


def read_regular(path: Path) -> bytes:
    """The content of a file that belongs to a folder of a model or a run.

    Raises: NlpcliError for a pipe, a device and a file of more than 1 GiB, OSError for what can't be read.
    """
    check_regular(path)
    size = os.stat(path).st_size
    if size > _LARGEST:
        raise NlpcliError(f"{path}: the file has {size:,} bytes, but a file of this kind can have at most {_LARGEST:,}")
    with open(path, "rb") as file:
        return file.read()


def real_path(path: Path) -> Path:
    """`path` as an absolute one without links; links in a circle stay, for which `Path.resolve` may raise."""
    return Path(os.path.realpath(path))


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits. Raises: NlpcliError for a pipe or a device."""
    check_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a whole file of lines, or leaves what stood there."""
    write_atomic(path, (f"{line}\n" for line in lines))
