"""Curves over the course of a run: panels with lines for several runs, distinguished by color, dash and mark.

Colors are those of Okabe and Ito (2008), which people with color-blindness can distinguish; dashes and marks keep the
runs apart without any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpcli.visualization.figure_style import Theme, as_bytes, needed, new_figure, plain_settings, theme_named
from nlpcli.visualization.token_labels import TokenLabels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "light": ("#0072b2", "#d55e00", "#008a63", "#b5548e", "#8a6100", "#2f8fc4", "#5b5b5b"),
    "dark": ("#56b4e9", "#ff9a4d", "#2fc59a", "#e79ac4", "#e6c229", "#9ad1f5", "#c3c8ce"),
}
DASHES = ((), (5, 2), (1.2, 1.4), (6, 1.6, 1.2, 1.6), (9, 2), (3, 1.2, 1, 1.2, 1, 1.2), (2.5, 2.5))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
_WIDE, _HIGH = 4.4, 2.75  # inches of a panel
_MOST_MARKED = 24  # points of a line that are marked


@dataclass(frozen=True)
class Line:
    """One run's curve: `run` is its number, which sets how it looks; kind: "train" is drawn without marks, and thin
    beside curves of another kind; "points" are not joined to a curve (in a terminal only)."""

    label: str
    run: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: str = "dev"


@dataclass(frozen=True)
class Panel:
    """Lines over one axis. better: "higher" where that is the better way, else ""; logarithmic: of the y axis.

    right: where the x axis ends; it begins at 0 then, so that panels can be compared.
    """

    title: str
    x_label: str
    lines: tuple[Line, ...]
    better: str = ""
    logarithmic: bool = False
    right: float | None = None


def draw(
    panels: Sequence[Panel],
    names: Sequence[str],
    *,
    format: str = "png",
    theme: str = "light",
    columns: int = 3,
    dpi: int = 150,
    title: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> bytes:
    """The file of a figure with all panels, and above them the runs' names beside how their lines look.

    names: of the runs, in the order of their numbers; warn: gets a sentence about characters without a font. The
    same panels give the same bytes.
    Raises: as `nlpcli.visualization.attention_figures.draw`.
    """
    colors = theme_named(theme)
    labels = TokenLabels((), [*names, *(panel.title for panel in panels), title or ""], warn)
    with plain_settings(colors, labels.families):
        columns = max(1, min(columns, len(panels)))
        rows = max(1, math.ceil(len(panels) / columns))
        legend = 0.08 + 0.22 * math.ceil(len(names) / max(1, 2 * columns)) + (0.35 if title else 0.0)
        width, height = _WIDE * columns, _HIGH * rows + legend
        figure = new_figure(width, height)
        for number, panel in enumerate(panels):
            column, row = number % columns, number // columns
            left, bottom = column * _WIDE + 0.62, height - legend - (row + 1) * _HIGH + 0.55
            axes = figure.add_axes((left / width, bottom / height, (_WIDE - 0.85) / width, (_HIGH - 0.95) / height))
            _draw_panel(axes, panel, colors, COLORS[theme])
        _draw_legend(
            figure,
            [labels.line(name) for name in names],
            panels,
            theme,
            columns,
            top=1 - (0.35 / height if title else 0.0),
        )
        if title:
            figure.text(0.5, 1 - 0.1 / height, labels.line(title), ha="center", va="top", size=12, color=colors.ink)
        return as_bytes(figure, format, dpi)


def panel_svg(panel: Panel, *, identity: str) -> str:
    """One panel as an <svg> element whose colors are the page's: --ink, --muted, --grid, --run-1 …

    identity: what its ids begin with, different for each panel of a page. Letters are the page's, too.
    """
    marked = Theme("#010101", "#020202", "#030303", "#040404", ("#000000", "#ffffff"), ("#000000", "#ffffff"))
    runs = tuple(f"#0100{number:02x}" for number in range(1, len(COLORS["light"]) + 1))
    with plain_settings(marked):
        figure = new_figure(_WIDE, _HIGH - 0.3)
        needed("matplotlib").rcParams["svg.fonttype"] = "none"
        axes = figure.add_axes((0.58 / _WIDE, 0.5 / _HIGH, (_WIDE - 0.68) / _WIDE, (_HIGH - 0.72) / _HIGH))
        _draw_panel(axes, panel, marked, runs, titled=False)
        text = as_bytes(figure, "svg", 72).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?!m|p|C|D)[^"]*"', "", text)
    text = re.sub(r'( id="|"#|url\(#)', rf"\1{identity}-", text)
    variables = {"#010101": "none", "#020202": "var(--ink)", "#030303": "var(--muted)", "#040404": "var(--grid)"}
    variables |= {color: f"var(--run-{number})" for number, color in enumerate(runs, start=1)}
    for color, variable in variables.items():
        text = text.replace(color, variable)
    return _unsized(text)


def _unsized(text: str) -> str:
    """An <svg> without a size of its own or a background, which the page gives it."""
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    return f'{head} aria-hidden="true">{rest}'


def key_svg(run: int) -> str:
    """How a run's lines look, as a small <svg> element for a legend in a page."""
    dash = ",".join(f"{part * 1.8:g}" for part in DASHES[run % len(DASHES)])
    color = f"var(--run-{run % len(COLORS['light']) + 1})"
    shape = _SHAPES[MARKS[(run + run // len(MARKS)) % len(MARKS)]]
    return (
        f'<svg class="key" viewBox="0 0 44 12" aria-hidden="true"><path d="M1 6H43" fill="none" stroke="{color}" '
        f'stroke-width="2" stroke-dasharray="{dash}"/><path d="{shape}" fill="{color}" stroke="none"/></svg>'
    )


_SHAPES = {
    "o": "M22 2a4 4 0 1 0 .01 0z",
    "s": "M18.5 2.5h7v7h-7z",
    "^": "M22 1.5l4.5 8.5h-9z",
    "D": "M22 1l5 5-5 5-5-5z",
    "v": "M22 10.5l4.5-8.5h-9z",
    "P": "M20.5 2h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M18.5 4l2-2 1.5 2 1.5-2 2 2-2 2 2 2-2 2-1.5-2-1.5 2-2-2 2-2z",
}


def _draw_panel(axes: Axes, panel: Panel, theme: Theme, colors: Sequence[str], *, titled: bool = True) -> None:
    ticker = needed("matplotlib.ticker")
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    axes.grid(True, color=theme.line, linewidth=0.6)
    axes.set_axisbelow(True)
    thin = any(line.kind != "train" for line in panel.lines)
    for line in panel.lines:
        _draw_line(axes, line, colors, thin=thin)
    if panel.right is not None:
        axes.set_xlim(-0.02 * panel.right, 1.02 * panel.right)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        _keep_in_view(axes, panel)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_number(value)))
    axes.tick_params(labelsize=8.5, length=3)
    axes.set_xlabel(panel.x_label, size=9, labelpad=3)
    if titled:
        way = " (higher is better)" if panel.better == "higher" else ""
        axes.set_title(panel.title + way, size=10, loc="left", pad=6)


def _draw_line(axes: Axes, line: Line, colors: Sequence[str], *, thin: bool) -> None:
    """thin: whether training stands back behind other curves."""
    train = line.kind == "train"
    marked = not train or len(line.x) == 1
    axes.plot(
        line.x,
        line.y,
        color=colors[line.run % len(colors)],
        linewidth=(1.0 if thin else 1.5) if train else 1.8,
        alpha=0.6 if train and thin else 1.0,
        dashes=DASHES[line.run % len(DASHES)] or (None, None),
        marker=MARKS[(line.run + line.run // len(MARKS)) % len(MARKS)] if marked else None,
        markevery=max(1, math.ceil(len(line.x) / _MOST_MARKED)),
        markersize=4.2,
        solid_capstyle="round",
        zorder=2 if train else 3,
    )


def _keep_in_view(axes: Axes, panel: Panel) -> None:
    """A few wild values, of a run that went astray, don't press all others flat."""
    values = sorted(value for line in panel.lines for value in line.y)
    if len(values) < 20:
        return
    low, high = values[0], values[int(0.98 * (len(values) - 1))]
    if values[-1] - low > 8 * max(high - low, 1e-12):
        margin = 0.06 * (high - low)
        axes.set_ylim(low - margin, high + 4 * margin)


def _draw_legend(
    figure: Figure, names: Sequence[str], panels: Sequence[Panel], theme: str, columns: int, *, top: float
) -> None:
    lines = needed("matplotlib.lines")
    colors = COLORS[theme]
    handles = [
        lines.Line2D([], [], color=colors[n % len(colors)], dashes=DASHES[n % len(DASHES)] or (None, None),
                     marker=MARKS[(n + n // len(MARKS)) % len(MARKS)], markersize=4.2, linewidth=1.8)
        for n in range(len(names))
    ]  # fmt: skip
    labels = list(names)
    if any(line.kind == "train" for panel in panels if panel.title.startswith("loss") for line in panel.lines):
        handles.append(lines.Line2D([], [], color=theme_named(theme).muted, linewidth=1.0))
        labels.append("thin line: training, line with markers: dev set")
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.0, top), ncols=min(len(labels), 2 * columns), fontsize=9,
        frameon=False, handlelength=3.6, labelcolor=theme_named(theme).ink, borderaxespad=0.2, columnspacing=1.6,
    )  # fmt: skip


def short_number(value: float) -> str:
    """A number for an axis or a table: 1,200 is 1.2k, 3,400,000 is 3.4M, 2e15 is 2e15."""
    if value == 0:
        return "0"
    size = abs(value)
    if 1e-3 <= size < 1e3:
        return f"{value:.4g}"
    for limit, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if limit <= size < 1e3 * limit:
            return f"{value / limit:.4g}{unit}"
    return re.sub(r"e([+-])0*(\d)", lambda found: f"e{'-' if found[1] == '-' else ''}{found[2]}", f"{value:.3g}")
