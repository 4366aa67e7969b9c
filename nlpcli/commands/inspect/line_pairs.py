"""Both sides of a parallel text, each scanned once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlpcli.commands.inspect.line_scan import Scan

SIDES = ("source", "target")
_MIX = np.int64(0x5851F42D4C957F2D)


@dataclass
class Pairs:
    """Both sides of a pair of files, read once. names: how the user calls them."""

    names: Sequence[str]
    sides: Sequence[Scan]
    guesses: Sequence[tuple[str, float] | None]
    evidence: Sequence[np.ndarray] = ()

    @property
    def paired(self) -> bool:
        return len(self.sides[0]) == len(self.sides[1])

    def hashes(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`exact` or `near` of both sides, and of the pairs."""
        source, target = (getattr(side, name) for side in self.sides)
        return source, target, source * _MIX ^ target
