"""The paths of the small, freely licensed texts that come with the project."""

from __future__ import annotations

from pathlib import Path

import nlpcli
from nlpcli.errors import NlpcliError, unknown


def sample_folder() -> Path:
    """The folder `sample_data`: inside the installed package, or beside it in a checkout.

    Raises: NlpcliError when the installation lacks it.
    """
    package = Path(nlpcli.__file__).parent
    for folder in (package / "sample_data", package.parent / "sample_data"):
        if folder.is_dir():
            return folder
    raise NlpcliError("the sample data is not installed", hint="install nlpcli from its wheel or from a checkout")


def sample_files() -> list[str]:
    """The names of all sample files, such as `tatoeba-en-de/train.en.gz`."""
    folder = sample_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sample_file(name: str) -> Path:
    """The path of a sample file. Raises: NlpcliError for a name that is none, with the nearest one."""
    if name not in (names := sample_files()):
        raise unknown("sample file", name, names)
    return sample_folder() / name
