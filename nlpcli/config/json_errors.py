"""The reason why a text is not valid JSON."""

from __future__ import annotations

import json


def json_reason(error: Exception) -> str:
    """The reason in an error of `json`. Its only other ValueError is Python's, for a number of thousands of digits."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
