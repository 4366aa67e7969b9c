"""JSON lines in which one field is a text to work on and the others are kept."""

from __future__ import annotations

import json
from typing import Any

from nlpcli.data.opening import inner_suffix
from nlpcli.errors import NlpcliError


def is_json(path: str, format: str, field: str | None) -> bool:
    """Whether the lines of a file are JSON: as `format` says; auto goes by its name, or by a field being asked for."""
    return format == "jsonl" or (
        format == "auto" and (field is not None or inner_suffix(path) in (".jsonl", ".ndjson"))
    )


def check_field(format: str, field: str | None) -> None:
    """Raises: NlpcliError for a field of JSON where the format says that lines are plain."""
    if field is not None and format not in ("auto", "jsonl"):
        raise NlpcliError(f"--field and --format {format} exclude each other", hint="leave out one of them")


def read_record(line: str, place: str, name: str) -> dict[str, Any] | None:
    """The JSON object of a line, None for a blank one.

    Raises: NlpcliError, naming `place`, for what is no object, or has no text in the field `name`.
    """
    if not line.strip():
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise NlpcliError(f"{place}: not valid JSON ({reason})", hint="each line must be one JSON object") from error
    if not isinstance(record, dict):
        raise NlpcliError(f"{place}: not a JSON object", hint='each line must look like {"text": "..."}')
    if name not in record:
        raise NlpcliError(
            f"{place}: no field '{name}'", hint=f"its fields are: {', '.join(record) or 'none'}; see --field"
        )
    text = record[name]
    if not isinstance(text, str):
        raise NlpcliError(f"{place}: field '{name}' holds {json.dumps(text)[:40]}, not a text")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise NlpcliError(f"{place}: field '{name}' holds half of a surrogate pair, which is no Unicode text")
    return record
