"""A kernel regression as a figure: a column for each fit, its curve above its attention weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nlpcli.data.even_sample import evenly_spaced
from nlpcli.visualization.charts import COLORS, short_number
from nlpcli.visualization.figure_style import (
    Theme,
    as_bytes,
    color_map,
    needed,
    new_figure,
    place_axes,
    plain_settings,
    theme_named,
)
from nlpcli.visualization.kernel_regression_data import Fit, Regression
from nlpcli.visualization.token_labels import TokenLabels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Inches.
_WIDE, _CURVE, _MATRIX = 3.0, 2.3, 2.3
_LEFT, _GAP, _RIGHT = 0.72, 0.25, 0.85
_HEAD, _TITLE, _BETWEEN, _BOTTOM = 0.78, 0.34, 0.72, 0.52
# Points (1/72 inch).
_TITLE_SIZE, _HEADING, _NOTE, _LETTERS = 12.0, 10.5, 8.0, 9.0
_TICKS = 5


def draw(
    regression: Regression,
    *,
    format: str = "png",
    theme: str = "light",
    dpi: int = 150,
    title: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> bytes:
    """The file of the figure, in which all matrices share one scale.

    Raises: as `nlpcli.visualization.attention_figures.draw`.
    """
    colors = theme_named(theme)
    labels = TokenLabels((), [regression.data, *regression.names, *regression.axes, title or ""], warn)
    with plain_settings(colors, labels.families):
        count = len(regression.fits)
        top = _HEAD + (_TITLE if title else 0.0)
        width = _LEFT + count * _WIDE + (count - 1) * _GAP + _RIGHT
        height = top + _CURVE + _BETWEEN + _MATRIX + _BOTTOM
        figure = new_figure(width, height)
        largest = max(float(fit.weights.max()) for fit in regression.fits)
        first: Axes | None = None
        for number, fit in enumerate(regression.fits):
            left = _LEFT + number * (_WIDE + _GAP)
            axes = place_axes(figure, left, top, _WIDE, _CURVE)
            if first is not None:
                axes.sharey(first)
            first = first or axes
            _draw_curve(axes, regression, fit, colors, theme, labels, number)
            axes = place_axes(figure, left, top + _CURVE + _BETWEEN, _WIDE, _MATRIX)
            image = _draw_weights(axes, regression, fit, colors, labels, number, largest)
        scale = place_axes(figure, width - _RIGHT + 0.12, top + _CURVE + _BETWEEN, 0.12, _MATRIX)
        bar = figure.colorbar(image, cax=scale)
        bar.outline.set_visible(False)
        bar.locator = needed("matplotlib.ticker").MaxNLocator(4)
        bar.update_ticks()
        scale.tick_params(labelsize=7.5, length=2)
        left = _LEFT / width
        if title:
            figure.text(left, 1 - 0.12 / height, labels.line(title), size=_TITLE_SIZE, va="top")
        note = f"{labels.line(regression.data)}; errors are mean squared errors{_dashed(regression)}"
        figure.text(left, 1 - (top - _HEAD + 0.14) / height, note, size=_NOTE, color=colors.muted, va="top")
        return as_bytes(figure, format, dpi)


def _dashed(regression: Regression) -> str:
    """The legend of the dashed line, if there is one."""
    if regression.query_points is not None:
        return "; dashed: the prediction equals y"
    return "" if regression.truth is None else "; dashed: the function without noise"


def _draw_curve(
    axes: Axes, regression: Regression, fit: Fit, colors: Theme, theme: str, labels: TokenLabels, number: int
) -> None:
    """The points and f(x); where x has several columns, f(x) over y."""
    color = COLORS[theme][number]
    places = regression.query_places
    if regression.query_points is None:
        axes.scatter(regression.x[:, 0], regression.y, s=11, color=colors.muted, linewidths=0, zorder=2)
        if regression.truth is not None:
            axes.plot(places, regression.truth, color=colors.muted, linewidth=1.0, dashes=(4, 2.5), zorder=1)
        axes.plot(places, fit.curve, color=color, linewidth=2.0, zorder=3, solid_capstyle="round")
    else:
        axes.axline((places[0], places[0]), slope=1, color=colors.muted, linewidth=1.0, dashes=(4, 2.5), zorder=1)
        axes.scatter(places, fit.curve, s=13, color=color, linewidths=0, alpha=0.8, zorder=2)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    axes.grid(True, color=colors.line, linewidth=0.6)
    axes.set_axisbelow(True)
    ticker = needed("matplotlib.ticker")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.MaxNLocator(_TICKS, steps=(1, 2, 5, 10)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_number(value)))
    axes.tick_params(labelsize=8, length=2.5, labelleft=number == 0)
    axes.set_xlabel(labels.line(regression.axes[0]), size=_LETTERS, labelpad=2)
    if number == 0:
        axes.set_ylabel(labels.line(regression.axes[1]), size=_LETTERS)
    errors = f"training points {fit.training_error:.3g}, leave one out {fit.leave_one_out_error:.3g}"
    axes.set_title(errors, size=_NOTE, color=colors.muted, loc="left", pad=5)
    axes.annotate(
        fit.label, (0, 1), xytext=(0, 17), xycoords="axes fraction", textcoords="offset points", size=_HEADING,
    )  # fmt: skip


def _draw_weights(
    axes: Axes, regression: Regression, fit: Fit, colors: Theme, labels: TokenLabels, number: int, largest: float
) -> AxesImage:
    """The queries in rows, the points as keys in columns, both in order; the ticks are their places on the curve."""
    keys = regression.x[:, 0] if regression.query_points is None else regression.y
    image = axes.imshow(
        fit.weights, vmin=0, vmax=largest, cmap=color_map(colors, signed=False), aspect="auto",
        interpolation="nearest" if max(fit.weights.shape) < _WIDE * 72 else "auto",
    )  # fmt: skip
    for axis, values in ((axes.xaxis, keys), (axes.yaxis, regression.query_places)):
        chosen = evenly_spaced(len(values), _TICKS)
        axis.set_ticks(chosen, [_tick(values[place]) for place in chosen])
    axes.tick_params(labelsize=8, length=2.5, labelleft=number == 0)
    name = regression.axes[0]
    axes.set_xlabel(labels.line(name) + " of the points (keys)", size=_LETTERS, labelpad=2)
    if number == 0:
        axes.set_ylabel(labels.line(name) + " of the query", size=_LETTERS)
        axes.set_title("attention weights", size=_LETTERS, loc="left", pad=5)
    return image


def _tick(value: np.floating) -> str:
    return short_number(float(f"{value:.2g}"))
