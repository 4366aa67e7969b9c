"""JSON objects in which one field is a text to work on and the others are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nlpcli.data.json_objects import begins_list, parse_object, read_objects, text_member
from nlpcli.data.open_text import display_name, inner_suffix
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError

_HINT = 'each line must look like {"text": "..."}'


class Input(NamedTuple):
    """One text of a filter's input, its place, and the JSON object it stood in; None for plain text and blank lines."""

    text: str
    place: str
    record: dict[str, Any] | None = None


def is_json(path: str, format: str, field: str | None) -> bool:
    """Whether a file holds JSON objects: as `format` states; auto: by its name, or because there is a `field`."""
    return format == "jsonl" or (
        format == "auto" and (field is not None or inner_suffix(path) in (".jsonl", ".ndjson", ".json"))
    )


def check_field(format: str, field: str | None) -> None:
    """Raises: NlpcliError for a JSON field if the format is plain lines."""
    if field is not None and format not in ("auto", "jsonl"):
        raise NlpcliError(f"--field and --format {format} can't be used together", hint="use only one of them")


def read_inputs(path: str, format: str, field: str | None, added: Sequence[str] = ()) -> Iterator[Input]:
    """The texts of a file, in order: lines, or one for each object of JSON lines or of a list of objects.

    field: the key of the text in an object, or a path to it; "text" if None. added: names of the fields that the output
    adds to an object. A blank line between JSON lines is a blank text without object.

    Raises: NlpcliError, naming file and line, for anything that is not an object or has no text in the field, and
        for an object that has one of the fields that would be added.
    """
    name = field or "text"
    lines = enumerate(read_lines(path), start=1)
    if not is_json(path, format, field):
        yield from (Input(line, f"{display_name(path)}:{number}") for number, line in lines)
        return
    begun = list(islice(lines, 1))
    if inner_suffix(path) == ".json" or (begun and begins_list(begun[0][1])):
        rows = read_objects((line for part in (begun, lines) for line in part), path, numbers=True, blank_lines=True)
        for record, place in rows:
            yield Input("", place) if record is None else _input(record, place, name, added)
        return
    for part in (begun, lines):
        for number, line in part:
            place = f"{display_name(path)}:{number}"
            if line.strip():
                yield _input(parse_object(line, place, numbers=True), place, name, added)
            else:
                yield Input(line, place)


def check_first(paths: Sequence[str], format: str, field: str | None, added: Sequence[str]) -> None:
    """Reads the first input of each file that can be read twice, so that what is wrong is reported before any work.

    Raises: NlpcliError as `read_inputs`.
    """
    for path in paths:
        if is_json(path, format, field) and Path(path).is_file():
            next(read_inputs(path, format, field, added), None)


def _input(record: dict[str, Any], place: str, name: str, added: Sequence[str]) -> Input:
    text = text_member(record, name, place, hint="; choose one with --field")
    for new in added:
        if new in record:
            raise NlpcliError(
                f"{place}: the object already has a field '{new}', and the output would overwrite it",
                hint="choose another field for the output with --output-field",
            )
    return Input(text, place, record)
