"""Why a text is not JSON."""

from __future__ import annotations

import json


def json_reason(error: Exception) -> str:
    """Why a text is no JSON, of what `json` raises. Its only other ValueError is Python's of thousands of digits."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
