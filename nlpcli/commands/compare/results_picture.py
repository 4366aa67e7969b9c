"""The results of a grid as a picture: a dot a cell, row by row as in the table, with the base as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nlpcli.commands.compare.grid_results import TEST, Number, Results, Row, in_words
from nlpcli.commands.compare.results_table import heading
from nlpcli.errors import NlpcliError
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.visualization.figure_style import Theme, as_bytes, needed, new_figure, plain_settings, theme_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#4c5561", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#56b4e9", "#8a4fa3")
"""One a group, distinguishable for people who are blind to red and green (after Okabe and Ito 2008)."""
_PANELS = 2
_ROW, _WIDTH = 0.24, 2.6  # inches


def picture(results: Results, *, format: str = "png", theme: str = "light", dpi: int = 150) -> bytes:
    """Panels side by side: the first measure, that of the test or the second, and the cost.

    Bars are 95 % bootstrap intervals, or standard deviations over seeds; the line is the base. format: png, svg or pdf.

    Raises: NlpcliError without matplotlib, and when no cell is finished.
    """
    colors = theme_named(theme)
    panels = _panels(results)
    if not panels:
        raise NlpcliError("no cell is finished, so no figure can be drawn")
    bounded = {heading(name) for name in results.metrics if higher_is_better(name)}
    with plain_settings(colors):
        rows = _places(results.rows)
        named = {row.name: _label(row, results.is_product) for row in results.rows}
        group = max(len(row.group) for row in results.rows)
        label = 0.08 * max(map(len, named.values())) + (0.1 * group + 0.3 if group else 0.15)
        width, height = label + len(panels) * _WIDTH, _ROW * (max(rows.values()) + 2) + 0.6
        figure = new_figure(width, height)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, numbers) in zip(axes, panels, strict=True):
            _panel(axis, title, numbers, results.rows, rows, colors)
            _scale(axis, [number.mean for number in numbers.values()], bounded=title in bounded)
        _label_rows(axes[0], results.rows, named, rows, colors)
        figure.subplots_adjust(left=label / width, right=0.99, top=1 - 0.35 / height, bottom=0.35 / height, wspace=0.08)
        return as_bytes(figure, format, dpi)


Panel = tuple[str, Mapping[str, Number]]


def _panels(results: Results) -> list[Panel]:
    """Title, and the number of each row that has one."""
    first, *others = [name for name in results.metrics if name != TEST] or [TEST]
    names = [first, TEST] if TEST in results.metrics else [first, *others]
    found: list[Panel] = []
    for name in list(dict.fromkeys(names))[:_PANELS]:
        found.append((heading(name), {row.name: row.metrics[name] for row in results.rows if name in row.metrics}))
    found = [panel for panel in found if panel[1]]
    if found and (cost := _cost(results)) is not None:
        found.append(cost)
    return found


def _cost(results: Results) -> Panel | None:
    """FLOPs, where they are not what was made equal and differ; else parameters, where these differ."""
    kinds = [("flops", "training FLOPs"), ("parameters", "parameters")]
    for name, title in kinds if results.kind != "flops" else kinds[1:]:
        numbers = {row.name: row.cost[name] for row in results.rows if name in row.cost}
        values = [number.mean for number in numbers.values()]
        if values and min(values) > 0 and max(values) > 1.02 * min(values):
            return title, numbers
    return None


def _places(rows: Sequence[Row]) -> dict[str, float]:
    """How far down each row stands; groups are parted by half a row."""
    places: dict[str, float] = {}
    at, before = 0.0, rows[0].group if rows else ""
    for row in rows:
        at += 0.5 * (row.group != before)
        places[row.name] = at
        at, before = at + 1, row.group
    return places


def _panel(
    axis: Axes,
    title: str,
    numbers: Mapping[str, Number],
    rows: Sequence[Row],
    places: Mapping[str, float],
    theme: Theme,
) -> None:
    hues = _hues(rows)
    base = next((row for row in rows if not row.changes), None)
    if base is not None and base.name in numbers:
        axis.axvline(numbers[base.name].mean, color=theme.muted, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    for row in rows:
        if row.name not in numbers:
            continue
        number, y = numbers[row.name], places[row.name]
        low, high = _bar(number)
        axis.plot(
            [low, high], [y, y], color=hues[row.group], linewidth=1.2, alpha=0.55, solid_capstyle="butt", zorder=2
        )
        axis.plot([number.mean], [y], "o", color=hues[row.group], markersize=5, zorder=3)
    axis.set_title(title, fontsize=9, loc="left")
    axis.grid(axis="y", color=theme.line, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, length=2)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.margins(x=0.08)


def _hues(rows: Sequence[Row]) -> dict[str, str]:
    groups = list(dict.fromkeys(row.group for row in rows))
    return {group: _COLORS[i % len(_COLORS)] for i, group in enumerate(groups)}


def _bar(number: Number) -> tuple[float, float]:
    if number.deviation is not None:
        return number.mean - number.deviation, number.mean + number.deviation
    if number.low is not None and number.high is not None:
        return number.low, number.high
    return number.mean, number.mean


def _label(row: Row, is_product: bool) -> str:
    """A row's name beside that of its group."""
    return ", ".join(list(in_words(row.labels))[1:]) if is_product and row.group else row.title


def _label_rows(
    axis: Axes, rows: Sequence[Row], named: Mapping[str, str], places: Mapping[str, float], theme: Theme
) -> None:
    axis.set_yticks(list(places.values()), [named[row.name] for row in rows])
    axis.set_ylim(max(places.values()) + 0.7, -0.7)
    hues, seen = _hues(rows), set()
    for text, row in zip(axis.get_yticklabels(), rows, strict=True):
        text.set_color(theme.ink if row.folders else theme.muted)
    for row in rows:
        if row.group and row.group not in seen:
            seen.add(row.group)
            axis.annotate(
                row.group, (0, places[row.name]), xycoords=("figure fraction", "data"), xytext=(2, 0),
                textcoords="offset points", va="center", fontsize=9, fontweight="bold", color=hues[row.group],
            )  # fmt: skip


def _scale(axis: Axes, values: Sequence[float], *, bounded: bool) -> None:
    """Few ticks, large numbers with a unit; logarithmic where numbers without an upper end lie far apart."""
    ticker = needed("matplotlib.ticker")
    if not bounded and min(values) > 0 and max(values) > 4 * min(values):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
    else:
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
    if max(values) >= 1000:
        axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    elif axis.get_xscale() == "log":
        axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
