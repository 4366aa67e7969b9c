"""Plain matrices that are drawn beside attention: what encodes positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matrix:
    """A rectangle of numbers with a meaning for each axis.

    values: (rows, columns) float; rows, columns: what they count, from 0 ("position", "dimension"); low, high: the ends
    of the scale, low = -high where the sign matters.
    """

    title: str
    values: np.ndarray
    rows: str
    columns: str
    low: float
    high: float

    @property
    def signed(self) -> bool:
        return self.low < 0 < self.high
