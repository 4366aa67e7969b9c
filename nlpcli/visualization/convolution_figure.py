"""Attention that computes a convolution, as a figure: the weights of all heads for some α, and the error over α."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlpcli.visualization.charts import COLORS, short_number
from nlpcli.visualization.convolution_data import ConvolutionComparison, Sharpness
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = 4
# Inches.
_SIDE, _CHART = 2.2, 2.9
_LEFT, _GAP, _TOP, _BOTTOM, _RIGHT, _TITLE = 0.65, 0.22, 0.72, 0.62, 0.2, 0.34
# Points (1/72 inch).
_TITLE_SIZE, _HEADING, _NOTE, _LETTERS = 12.0, 10.5, 8.0, 9.0


def draw(
    comparison: ConvolutionComparison, *, format: str = "png", theme: str = "light", dpi: int = 150,
    title: str | None = None,
) -> bytes:  # fmt: skip
    """The file of the figure. Raises: as `nlpcli.visualization.attention_figures.draw`."""
    colors = theme_named(theme)
    with plain_settings(colors):
        top = _TOP + (_TITLE if title else 0.0)
        width = _LEFT + _LEVELS * (_SIDE + _GAP) + 0.65 + _CHART + _RIGHT
        height = top + _SIDE + _BOTTOM
        figure = new_figure(width, height)
        for number, level in enumerate(comparison.sample_levels(_LEVELS)):
            axes = place_axes(figure, _LEFT + number * (_SIDE + _GAP), top, _SIDE, _SIDE)
            _draw_heads(axes, comparison, level, colors, first=number == 0)
        axes = place_axes(figure, width - _RIGHT - _CHART, top, _CHART, _SIDE)
        _draw_errors(axes, comparison, colors, COLORS[theme][0])
        left = _LEFT / width
        if title:
            figure.text(left, 1 - 0.12 / height, title, size=_TITLE_SIZE, va="top")
        caption = f"{comparison.title}; attention weights around one query, from 0 (light) to 1 (dark)"
        if theme == "dark":
            caption = caption.replace("0 (light) to 1 (dark)", "0 (dark) to 1 (bright)")
        figure.text(left, 1 - (top - _TOP + 0.14) / height, caption, size=_NOTE, color=colors.muted, va="top")
        return as_bytes(figure, format, dpi)


def _draw_heads(axes: Axes, comparison: ConvolutionComparison, level: Sharpness, colors: Theme, *, first: bool) -> None:
    """A row for each head over a line; over a plane a small map for each head, where its shift is in the kernel."""
    mapped = color_map(colors, signed=False).with_extremes(bad=colors.line)
    axes.imshow(comparison.mosaic(level), vmin=0, vmax=1, cmap=mapped, interpolation="nearest", aspect="auto")
    axes.set_title(f"α = {level.alpha:g}", size=_HEADING, loc="left", pad=5)
    axes.tick_params(labelsize=8, length=2.5, labelleft=first)
    plane = len(comparison.kernel_size) == 2
    axes.set_xlabel("shift of the head, columns" if plane else "from the query to the key", size=_LETTERS, labelpad=2)
    if first:
        axes.set_ylabel("shift of the head, rows" if plane else "shift of the head", size=_LETTERS)
    for axis, ticks in zip((axes.yaxis, axes.xaxis), _ticks(comparison), strict=True):
        axis.set_ticks(list(ticks), [f"{step:+d}" if step else "0" for step in ticks.values()])


def _ticks(comparison: ConvolutionComparison) -> tuple[dict[float, int], dict[float, int]]:
    """The shifts that are written on the vertical and on the horizontal axis of a mosaic, by their places."""
    if len(comparison.kernel_size) == 1:
        reach = comparison.window[0] // 2
        heads = {float(head): shift for head, (shift,) in enumerate(comparison.shifts)}
        return heads, {float(place): place - reach for place in range(comparison.window[0])}

    def of_maps(count: int, wide: int) -> dict[float, int]:
        return {place * (wide + 1) + (wide - 1) / 2: place - count // 2 for place in range(count)}

    rows, columns = map(of_maps, comparison.kernel_size, comparison.window)
    return rows, columns


def _draw_errors(axes: Axes, comparison: ConvolutionComparison, colors: Theme, color: str) -> None:
    errors = [max(level.error, 1e-17) for level in comparison.levels]  # 0 has no logarithm
    axes.loglog([level.alpha for level in comparison.levels], errors, color=color, marker="o", markersize=4)
    axes.axhline(np.finfo(np.float64).eps, color=colors.muted, linewidth=0.9, dashes=(4, 2.5))
    axes.text(0.1, 4e-16, "precision of float64", size=_NOTE, color=colors.muted)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    axes.grid(True, color=colors.line, linewidth=0.6)
    axes.set_axisbelow(True)
    ticker = needed("matplotlib.ticker")
    axes.yaxis.set_major_locator(ticker.LogLocator(10, numticks=6))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_number(value)))
        axis.set_minor_locator(ticker.NullLocator())
    axes.tick_params(labelsize=8, length=2.5)
    axes.set_title("difference from the convolution", size=_LETTERS, loc="left", pad=5)
    axes.set_xlabel("α", size=_LETTERS, labelpad=2)
