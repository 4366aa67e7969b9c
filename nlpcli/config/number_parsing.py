"""Parses numbers in users' files and in option values.

Python's `float` and `int` take more than people write: `1_0` is 10 for them, `nan` and `Infinity` are numbers, and so
are the digits of every script. A number is here: a sign or none, the digits 0-9 with a point or none, and for
`parse_float` an exponent or none (`-2`, `0.5`, `.5`, `5.`, `1e-3`); white space may surround it.
"""

from __future__ import annotations

import math
import re

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def parse_float(text: str) -> float | None:
    """The finite number that `text` spells; None where it spells none, or one that is beyond the range of a float."""
    text = text.strip()
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def parse_int(text: str) -> int | None:
    """The whole number that `text` spells; None where it spells none, or one of more digits than Python converts."""
    text = text.strip()
    if not _INT.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:  # more than 4,300 digits
        return None
