"""Selects modules or parameters of a model by patterns of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nlpcli.errors import NlpcliError, nearest


def fitting(names: Iterable[str], patterns: Sequence[str], what: str) -> list[str]:
    """Those of `names` that match one of `patterns`, in their order.

    A pattern is a regular expression for one or several whole steps of a dotted name: `query` and `encoder.layers.[01]`
    both fit `encoder.layers.1.self_attention.query.weight`, `quer` and `layer` don't. what: the noun for the named
    things in a message.

    Raises: NlpcliError for a pattern that is not a regular expression, or that matches no name.
    """
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        try:
            expression = re.compile(rf"(?:.*\.)?(?:{pattern})(?:\..*)?", re.DOTALL)
        except re.error as error:
            raise NlpcliError(f"{pattern!r} is not a valid regular expression ({error})") from None
        fits = {name for name in names if expression.fullmatch(name)}
        if not fits:
            raise NlpcliError(f"this model has no {what} that matches {pattern!r}", hint=_hint(pattern, names))
        found |= fits
    return [name for name in names if name in found]


def _hint(pattern: str, names: Sequence[str]) -> str | None:
    steps = list(dict.fromkeys(step for name in names for step in name.split(".") if not step.isdigit()))
    near = nearest(pattern, steps)
    if near:
        return f"did you mean '{near}'?"
    return f"choose one of: {', '.join(steps)}" if steps else None
