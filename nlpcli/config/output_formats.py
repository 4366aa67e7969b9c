"""The ending of a file's name against the format that is written to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nlpcli.errors import NlpcliError

BINARY = ("png", "pdf", "npz")


def check_ending(format: str, out: Path | None, endings: Mapping[str, str]) -> None:
    """Refuses a file whose name promises another format than it would hold.

    endings: the format that each ending means, in small letters with the dot. An ending without a format is
    free, and one for the terminal may hold whatever is text.
    Raises: NlpcliError for another format than that of the ending.
    """
    named = endings.get(out.suffix.lower(), format) if out is not None else format
    if named == format or (named == "terminal" and format not in BINARY):
        return
    raise NlpcliError(
        f"{out}: the file name is for the format {named}, but --format is {format}",
        hint=f"use --format {named} or another file name",
    )
