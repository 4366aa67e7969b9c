"""The data of kernel regression drawings: its points, and the curve and the attention weights of each fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlpcli.escaping import printable, shortened

FORMAT = "nlpcli-kernel-regression"
VERSION = 1
_LONGEST_NAME = 30


@dataclass(frozen=True)
class Fit:
    """One regression. name: "mean", "fixed" or "learned"; bandwidth: one width for each column of x, infinite for the
    mean; curve: (q,), f at each query; weights: (q, n), of the queries (rows) on the points (columns), each row sums to
    1; training_error, leave_one_out_error: mean squared errors, as `nlpcli.attention.kernel_regression` has them."""

    name: str
    bandwidth: tuple[float, ...]
    curve: np.ndarray
    weights: np.ndarray
    training_error: float
    leave_one_out_error: float

    @property
    def label(self) -> str:
        """`mean`, `fixed width 0.5`, `learned widths 0.06, 342`."""
        if self.name == "mean":
            return "mean"
        shown = [f"{width:.3g}" for width in self.bandwidth[:3]] + ["…"] * (len(self.bandwidth) > 3)
        return f"{self.name} {'width' if len(self.bandwidth) == 1 else 'widths'} {', '.join(shown)}"


@dataclass(frozen=True)
class Regression:
    """The fits of the same points x (n, d) and y (n,), in the order of x, or of y where x has several columns.

    data: where they come from; names: of the columns, the last is y. queries: (q, d); with one column of x even steps
    over its range, else points themselves, whose numbers are `query_points` (q,). truth: (q,), the function without its
    noise, where it is known.
    """

    data: str
    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    queries: np.ndarray
    fits: tuple[Fit, ...]
    query_points: np.ndarray | None = None
    truth: np.ndarray | None = None

    @property
    def query_places(self) -> np.ndarray:
        """(q,): where each query is drawn on the horizontal axis: its x, or y where x has several columns."""
        return self.queries[:, 0] if self.query_points is None else self.y[self.query_points]

    @property
    def axes(self) -> tuple[str, str]:
        """The labels of the horizontal and the vertical axis."""
        first, y = (shortened(printable(name), _LONGEST_NAME) for name in (self.names[0], self.names[-1]))
        return (first, y) if self.query_points is None else (y, f"prediction of {y}")


def as_json(regression: Regression) -> dict[str, Any]:
    """A dictionary for `json.dumps`; an infinite width is None."""
    optional = {"query_points": regression.query_points, "truth": regression.truth}
    return {
        "format": FORMAT,
        "version": VERSION,
        "data": regression.data,
        "columns": list(regression.names),
        "points": {"x": regression.x.tolist(), "y": regression.y.tolist()},
        "queries": regression.queries.tolist(),
        **{name: None if values is None else values.tolist() for name, values in optional.items()},
        "fits": [
            {
                "name": fit.name,
                "bandwidth": [None if math.isinf(width) else width for width in fit.bandwidth],
                "training_error": fit.training_error,
                "leave_one_out_error": fit.leave_one_out_error,
                "curve": fit.curve.tolist(),
                "weights": fit.weights.tolist(),
            }
            for fit in regression.fits
        ],
    }
