"""The data of drawings of attention as a convolution: the weights of each head, and the error of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FORMAT = "nlpcli-convolution"
VERSION = 1


@dataclass(frozen=True)
class Sharpness:
    """One value of α: the error of the layer, and its weights (heads, *window) around one query in the middle.

    error: the largest difference from the convolution, divided by the largest number of its result.
    """

    alpha: float
    error: float
    weights: np.ndarray


@dataclass(frozen=True)
class ConvolutionComparison:
    """A convolution beside attention. kernel_size: (5,) or (3, 3); channels, size: of the input; shifts: (heads, d),
    where each head looks, seen from the query; levels: in the order of α."""

    kernel_size: tuple[int, ...]
    channels: int
    size: tuple[int, ...]
    shifts: tuple[tuple[int, ...], ...]
    levels: tuple[Sharpness, ...]

    @property
    def title(self) -> str:
        """`Convolution 3 × 3 as attention with 9 heads`."""
        return f"Convolution {' × '.join(map(str, self.kernel_size))} as attention with {len(self.shifts)} heads"

    @property
    def window(self) -> tuple[int, ...]:
        """The positions that are drawn around the query, odd in each direction."""
        return self.levels[0].weights.shape[1:]

    def sample_levels(self, count: int) -> list[Sharpness]:
        """`count` of the levels, from the bluntest to the sharpest, evenly spread."""
        places = np.linspace(0, len(self.levels) - 1, count).round().astype(int)
        return [self.levels[place] for place in places]

    def mosaic(self, level: Sharpness) -> np.ndarray:
        """The weights of all heads in one picture, float32: over a line a row for each head; over a plane the maps of
        the heads, each where its shift is in the kernel, with lines of NaN between them."""
        if len(self.kernel_size) == 1:
            return level.weights.astype(np.float32)
        (rows, columns), (high, wide) = self.kernel_size, self.window
        picture = np.full((rows * (high + 1) - 1, columns * (wide + 1) - 1), np.nan, dtype=np.float32)
        for head, weights in enumerate(level.weights):
            top, left = head // columns * (high + 1), head % columns * (wide + 1)
            picture[top : top + high, left : left + wide] = weights
        return picture


def as_json(comparison: ConvolutionComparison) -> dict[str, Any]:
    """A dictionary for `json.dumps`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kernel_size": list(comparison.kernel_size),
        "channels": comparison.channels,
        "size": list(comparison.size),
        "shifts": [list(shift) for shift in comparison.shifts],
        "levels": [
            {"alpha": level.alpha, "error": level.error, "weights": level.weights.tolist()}
            for level in comparison.levels
        ],
    }
