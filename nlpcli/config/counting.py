"""Numbers with the things they count, in singular or plural."""

from __future__ import annotations

from numbers import Integral


def counted(number: float, thing: str, things: str | None = None) -> str:
    """`1 step`, `2,000 steps`, `0.5 epochs`; things: the plural, where it is not `thing` with an s."""
    plural = things or f"{thing}s"
    shown = f"{number:,}" if isinstance(number, Integral) else f"{number:g}"
    return f"{shown} {thing if number == 1 else plural}"
