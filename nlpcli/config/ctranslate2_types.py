"""The types of numbers in which CTranslate2 keeps weights."""

from __future__ import annotations

from nlpcli.errors import unknown

QUANTIZATIONS = (
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32",
)  # fmt: skip


def check_quantization(name: str | None) -> None:
    """Raises: NlpcliError for a name that is none; None means numbers of 32 bits."""
    if name is not None and name not in QUANTIZATIONS:
        raise unknown("value of --quantization", name, QUANTIZATIONS)
