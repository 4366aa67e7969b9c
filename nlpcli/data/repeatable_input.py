"""Copies of standard input and pipes, so that a text can be read more than once."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from nlpcli.config.files import writing
from nlpcli.config.temporary_files import scratch_folder
from nlpcli.data.open_text import display_name, inner_suffix, open_bytes
from nlpcli.data.readers import find_files
from nlpcli.errors import NlpcliError


@contextmanager
def repeatable(paths: Iterable[Path | str] | Path | str) -> Iterator[list[Path]]:
    """Regular files with the contents of files, folders, globs and "-", which can be read repeatedly inside the `with`.

    Standard input and pipes are copied, decompressed, into temporary files (below `$TMPDIR`); other files stay where
    they are. An error raised inside names the original of a copy.

    Raises: NlpcliError as `find_files`, RunFailed when there is no room for a copy.
    """
    files = find_files(paths)
    with _room(files) as folder:
        copies: dict[int, Path] = {}
        for number, path in enumerate(files):
            if _is_read_once(path):
                assert folder is not None  # one of the files is to be copied
                copies[number] = Path(folder, f"input-{number}{inner_suffix(path)}")
                with open_bytes(path) as stream, writing(copies[number]), open(copies[number], "wb") as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
        try:
            yield [copies[number] if number in copies else Path(path) for number, path in enumerate(files)]
        except NlpcliError as error:
            message = error.message
            for number, copied in copies.items():
                message = message.replace(str(copied), display_name(files[number]))
            if message == error.message:
                raise
            raise type(error)(message, hint=error.hint) from error


def _room(files: Iterable[Path | str]) -> AbstractContextManager[Path | None]:
    """A folder for the copies, where some are needed."""
    return scratch_folder("nlpcli-input") if any(map(_is_read_once, files)) else nullcontext()


def _is_read_once(path: Path | str) -> bool:
    return isinstance(path, str) or not path.is_file()
