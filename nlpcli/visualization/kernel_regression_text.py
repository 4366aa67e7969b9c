"""A kernel regression in a terminal: its errors, its curves over the points, and one matrix of attention weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlpcli.data.even_sample import evenly_spaced
from nlpcli.escaping import printable
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.charts import Line as Curve
from nlpcli.visualization.charts import Panel, short_number
from nlpcli.visualization.heat_map import BOLD, FAINT, Line, TerminalAbilities, scale_of, written
from nlpcli.visualization.kernel_regression_data import Fit, Regression
from nlpcli.visualization.terminal_attention import flowing
from nlpcli.visualization.terminal_matrix import matrix
from nlpcli.visualization.text_charts import ASCII_POINT, LETTERS, POINT, plot
from nlpcli.visualization.text_width import to_left, wrapped

_HEIGHT = 16
_ROWS, _COLUMNS = 26, 50
_EQUATION = ("f(x) = Σ α(x, x_i) y_i with α = softmax(−‖(x − x_i) / h‖² / 2)",
             "f(x) = sum of a(x, x_i) y_i with a = softmax(-|(x - x_i) / h|^2 / 2)")  # fmt: skip


def draw(regression: Regression, *, width: int, color: bool, unicode: bool = True) -> str:
    """Lines of at most `width` columns: the errors of all fits, one plot of all curves, the weights of the last fit."""
    ink = TerminalAbilities(color, unicode)
    lines: list[Line] = [[(line, BOLD)] for line in wrapped(printable(regression.data), width)]
    lines += [[(line, FAINT)] for line in wrapped(_EQUATION[not unicode], width)]
    lines += [[], *([(line, "")] for line in _errors(regression, width))]
    lines += [[], *([(line, "")] for line in plot(_panel(regression), width, _HEIGHT, unicode=unicode))]
    lines += [[(line, FAINT)] for line in wrapped(_key(regression, POINT if unicode else ASCII_POINT), width)]
    return written([*lines, [], *_weights(regression, regression.fits[-1], ink, width)], ink)


def _errors(regression: Regression, width: int) -> Iterator[str]:
    """A table of the mean squared errors, or sentences where it does not fit."""
    room = max(len(fit.label) for fit in regression.fits) + 5
    if room + 30 > width:
        for fit in regression.fits:
            errors = f"training points {fit.training_error:.4g}, leave one out {fit.leave_one_out_error:.4g}"
            yield from wrapped(f"{fit.label}, mean squared error: {errors}", width)
        return
    yield to_left("mean squared error", room) + "training points  leave one out"
    for letter, fit in zip(LETTERS, regression.fits, strict=False):
        errors = f"{fit.training_error:.4g}".rjust(15) + f"{fit.leave_one_out_error:.4g}".rjust(15)
        yield to_left(f"{letter}  {fit.label}", room) + errors


def _panel(regression: Regression) -> Panel:
    """All curves over the points; where x has several columns, the last fit's predictions over y, and the diagonal."""
    x_label, y_label = regression.axes
    places = tuple(regression.query_places.tolist())
    if regression.query_points is None:
        points = Curve("points", -1, tuple(regression.x[:, 0].tolist()), tuple(regression.y.tolist()), "points")
        curves = [Curve(fit.label, run, places, tuple(fit.curve.tolist())) for run, fit in enumerate(regression.fits)]
        return Panel(y_label, x_label, (points, *curves))
    points = Curve("points", -1, places, tuple(regression.fits[-1].curve.tolist()), "points")
    return Panel(y_label, x_label, (points, Curve("equal", 0, places, places)))


def _key(regression: Regression, point: str) -> str:
    """The legend of the plot."""
    if regression.query_points is not None:
        return f"{point} {regression.fits[-1].label}; vertical: {regression.axes[1]}; a: the prediction equals y"
    names = [f"{letter} {fit.label}" for letter, fit in zip(LETTERS, regression.fits, strict=False)]
    return f"{point} points; {'; '.join(names)}; * several"


def _weights(regression: Regression, fit: Fit, ink: TerminalAbilities, width: int) -> Iterator[Line]:
    """The weights of one fit; of many queries and keys some that are evenly spread."""
    rows, columns = (evenly_spaced(size, most) for size, most in zip(fit.weights.shape, (_ROWS, _COLUMNS), strict=True))
    keys = regression.x[:, 0] if regression.query_points is None else regression.y
    some = ["", ""]
    for place, (chosen, size) in enumerate(((rows, fit.weights.shape[0]), (columns, fit.weights.shape[1]))):
        some[place] = f"{len(chosen)} of {size:,} " if len(chosen) < size else ""
    by = regression.axes[0]
    title = f"Attention weights, {fit.label}: {some[0]}queries (rows), {some[1]}points as keys (columns), by {by}"
    values = fit.weights[np.ix_(rows, columns)].astype(np.float32)
    scale = scale_of([values], ink)
    yield from ([(line, BOLD)] for line in wrapped(title, width))
    yield []
    yield from matrix(values, _side(regression.query_places[rows]), _side(keys[columns]), scale, width, samples=True)
    yield []
    yield from flowing(scale.legend(), width)


def _side(numbers: np.ndarray) -> Side:
    return Side(tuple(short_number(float(f"{number:.3g}")) for number in numbers))
