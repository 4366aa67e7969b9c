"""Attention as figures for print and screen: the alignment matrix of the papers, and grids of layers and heads.

One map is drawn as in Bahdanau et al. 2015, figure 3: the keys on top, the queries on the left, a square for each pair.
Several stand in a grid with a row for each layer and a column for each head, and share one scale; where a site has but
one head, its layers stand in a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlpcli.errors import NlpcliError
from nlpcli.visualization import document_figure, figure_style
from nlpcli.visualization.attention_data import Attention, Side, Site, axes_of
from nlpcli.visualization.document_text import weighted_sentences
from nlpcli.visualization.figure_style import Theme, needed, new_figure, place_axes
from nlpcli.visualization.position_matrices import Matrix
from nlpcli.visualization.token_labels import TokenLabels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Inches.
_CELL = 0.23
_READABLE = 0.105  # the least distance between labels that are read with ease
_WIDEST, _NARROWEST, _GRID = 9.6, 0.85, 12.0
_THINNEST = 0.3
_EDGE, _GAP = 0.14, 0.1
_SCALE = 0.75
# Points (1/72 inch).
_TITLE, _HEADING, _NAME, _LETTERS, _NOTE, _SMALLEST = 12.0, 11.0, 8.5, 9.0, 7.5, 5.0


def draw(
    attention: Attention,
    *,
    format: str = "png",
    theme: str = "light",
    dpi: int = 150,
    title: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> bytes:
    """The file of a figure with everything in `attention`; its size follows the number of tokens, layers and heads.

    format: "png", "svg" or "pdf"; theme: "light" or "dark"; dpi: dots per inch, between 10 and 1200; title: stands
    above; warn: gets a sentence about what can't be drawn (characters without a font). Tokens stand beside small
    matrices, their positions from 0 beside a long one. Words of sentences stand as a text on the colors of their
    weights. The same attention gives the same bytes.
    Raises: NlpcliError for a format or theme that isn't there, for nothing to draw or a picture that is too large, and
    without matplotlib.
    """
    if not attention.sites:
        raise NlpcliError("there are no attention weights to draw")
    colors = figure_style.theme_named(theme)
    if sentences := weighted_sentences(attention):
        return document_figure.draw(attention, sentences, colors, format=format, dpi=dpi, title=title, warn=warn)
    tokens = [token for site in attention.sites for token in (*site.queries.tokens, *site.keys.tokens)]
    labels = TokenLabels(tokens, _lines(attention, title), warn)
    with figure_style.plain_settings(colors, labels.families):
        return figure_style.as_bytes(_Sheet(attention, colors, labels, title).figure, format, dpi)


def draw_matrix(matrix: Matrix, *, format: str = "png", theme: str = "light", dpi: int = 150) -> bytes:
    """The file of a figure of plain numbers, such as the encodings of positions: rows from the top down.

    Raises: as `draw`.
    """
    colors = figure_style.theme_named(theme)
    rows, columns = matrix.values.shape
    width, height = max(3.0, min(8.0, columns * 0.12)), max(1.6, min(6.5, rows * 0.12))
    if rows == columns:
        width = height = max(width, height)
    with figure_style.plain_settings(colors):
        figure = new_figure(width + 1.5, height + 1.0)
        axes = place_axes(figure, 0.65, 0.4, width, height)
        image = axes.imshow(
            matrix.values, vmin=matrix.low, vmax=matrix.high, aspect="auto", interpolation="nearest",
            cmap=figure_style.color_map(colors, signed=matrix.signed),
        )  # fmt: skip
        axes.set_title(matrix.title, fontsize=_HEADING, pad=7)
        axes.set_xlabel(matrix.columns, fontsize=_LETTERS)
        axes.set_ylabel(matrix.rows, fontsize=_LETTERS)
        axes.set_xticks(_round_numbers(columns))
        axes.set_yticks(_round_numbers(rows))
        axes.tick_params(labelsize=8, length=2.5)
        _scale(figure, image, 0.65 + width + 0.15, 0.4, height)
        return figure_style.as_bytes(figure, format, dpi)


@dataclass(frozen=True)
class _Plan:
    """A site and its measures: of one matrix in inches, of the letters beside it in points, 0 for none."""

    site: Site
    heading: str
    width: float
    height: float
    query_letters: float
    key_letters: float
    upright: bool  # the keys' labels
    left: float  # inches for the queries' labels
    above: float  # inches for the keys' labels

    @property
    def single(self) -> bool:
        return len(self.site.layers) == len(self.site.heads) == 1

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """The titles before the rows and above the columns."""
        layers = [_numbered("layer", layer) for layer in self.site.layers]
        heads = [_numbered("head", head) for head in self.site.heads]
        return (layers, heads) if len(heads) > 1 else (heads, layers)

    def matrix(self, row: int, column: int) -> np.ndarray:
        layer, head = (row, column) if len(self.site.heads) > 1 else (column, row)
        return self.site.weights[layer][head]

    @property
    def head(self) -> float:
        """From the top of the section to its first matrix."""
        return 0.3 + (0.0 if self.single else 0.25) + self.above

    @property
    def across(self) -> float:
        return len(self.names[1]) * (self.width + _GAP) - _GAP

    @property
    def down(self) -> float:
        return len(self.names[0]) * (self.height + _GAP) - _GAP

    @property
    def whole(self) -> float:
        return self.head + self.down + (0.25 if self.site.keys.groups else 0.0) + 0.2


class _Sheet:
    """Lays the sites below each other; `figure` is what comes of it.

    It is one plane measured in inches from its upper left corner, on which a hundred matrices are drawn as fast as one.
    """

    def __init__(self, attention: Attention, theme: Theme, labels: TokenLabels, title: str | None) -> None:
        self.theme = theme
        self.labels = labels
        self.measuring = new_figure(1, 1)
        self.measuring.set_dpi(600)  # so that letters are not fitted to dots, and the measures are those of print
        reach = min(_WIDEST, max(_NARROWEST, _GRID / max(_columns(site) for site in attention.sites)))
        plans = [self.plan(site, reach) for site in attention.sites]
        above = [(line, size) for line, size in ((title, _TITLE), (attention.model, _LETTERS)) if line]
        headings = [(plan.heading, _HEADING) for plan in plans]
        beside = 0.0 if all(_is_a_pattern(site) for site in attention.sites) else _SCALE
        across = max(plan.across + beside for plan in plans)
        below = self.filled([labels.line(note) for note in (axes_of(attention.sites), *_notes(attention))], across)
        lines = [(labels.line(line), size) for line, size in above + headings] + [(line, _NOTE) for line in below]
        written = 1.03 * max(self.extent([line], size)[0] for line, size in lines)
        self.left = _EDGE + max(plan.left for plan in plans)
        width = self.left + max(written, across) + _EDGE
        top = _EDGE + 0.26 * len(above)
        height = top + sum(plan.whole for plan in plans) + 0.17 * len(below) + _EDGE
        self.figure = new_figure(width, height)
        self.axes = figure_style.plane(self.figure)
        for number, (line, size) in enumerate(above):
            self.write(labels.line(line), (self.left, _EDGE + 0.1 + 0.26 * number), size, muted=size < _TITLE)
        self.sections(plans, top, _limits(attention.sites))
        for number, line in enumerate(below, start=1):
            self.write(line, (self.left, height - _EDGE - 0.17 * (len(below) - number) - 0.06), _NOTE, muted=True)

    def plan(self, site: Site, reach: float) -> _Plan:
        n, m = len(site.queries), len(site.keys)
        cell = min(_CELL, reach / max(n, m))
        width, height = max(m * cell, _THINNEST), max(n * cell, _THINNEST)
        query_letters, key_letters = _letters(height / n), _letters(width / m)
        left, _ = self.extent(map(self.labels.label, site.queries.tokens), query_letters)
        long, tall = self.extent(map(self.labels.label, site.keys.tokens), key_letters)
        upright = long > width / m - 0.03
        above = (long if upright else tall) + 0.06
        single = len(site.layers) == len(site.heads) == 1
        if single:  # where labels have no room there are numbers
            left, above = left if query_letters else 0.3, above if key_letters else 0.22
        left += 0.1 if single else 0.3
        return _Plan(site, _heading(site), width, height, query_letters, key_letters, upright, left, above)

    def extent(self, texts: Iterable[str], size: float) -> tuple[float, float]:
        """The width and height of the largest of these texts in inches."""
        if not size:
            return 0.0, 0.0
        drawn = self.measuring.text(0, 0, "", fontsize=size)
        boxes = []
        for text in sorted(set(texts), key=lambda text: (-len(text), text))[:40]:
            drawn.set_text(text)
            boxes.append(drawn.get_window_extent())
        drawn.remove()
        dots = self.measuring.dpi
        return max(box.width for box in boxes) / dots, max(box.height for box in boxes) / dots

    def filled(self, notes: list[str], width: float) -> list[str]:
        """As many notes on a line as have room."""
        lines = notes[:1]
        for note in notes[1:]:
            longer = f"{lines[-1]}; {note}"
            lines[-1:] = [longer] if self.extent([longer], _NOTE)[0] < width else [lines[-1], note]
        return lines

    def sections(self, plans: list[_Plan], top: float, limits: dict[bool, float]) -> None:
        """The sites from `top` on; the first with, and the first without a sign have the scale at their side."""
        scaled = {plan.site.signed for plan in plans if _is_a_pattern(plan.site)}
        for plan in plans:
            signed = plan.site.signed
            image = self.section(plan, top, -limits[signed] if signed else 0.0, limits[signed])
            if signed not in scaled:
                scaled.add(signed)
                _scale(self.figure, image, self.left + plan.across + 0.15, top + plan.head, plan.height)
            top += plan.whole

    def section(self, plan: _Plan, top: float, low: float, high: float) -> AxesImage:
        """Draws a site, and gives the last of its images."""
        site, top = plan.site, top + plan.head
        rows, columns = plan.names
        self.write(self.labels.line(plan.heading), (self.left, top - plan.head + 0.1), _HEADING)
        for row, column in itertools.product(range(len(rows)), range(len(columns))):
            x, y = self.left + column * (plan.width + _GAP), top + row * (plan.height + _GAP)
            if column == 0:
                self.label_queries(plan, y)
            if row == 0:
                self.label_keys(plan, x, y)
            if column == 0 and not plan.single:
                before = self.left - plan.left + 0.1
                self.write(rows[row], (before, y + plan.height / 2), _NAME, align="center", upright=True)
            if row == 0 and not plan.single:
                self.write(columns[column], (x + plan.width / 2, y - plan.above - 0.1), _NAME, align="center")
            image = self.axes.imshow(
                plan.matrix(row, column),
                extent=(x, x + plan.width, y + plan.height, y),
                aspect="auto",
                vmin=low,
                vmax=high,
                cmap=figure_style.color_map(self.theme, signed=site.signed),
                interpolation=_interpolation(plan),
            )
            self.rule(plan, x, y)
        self.name_groups(plan, top + plan.down)
        return image

    def rule(self, plan: _Plan, x: float, y: float) -> None:
        """The frame of a matrix, lines between its squares where they are large, and between parts of the text."""
        n, m = len(plan.site.queries), len(plan.site.keys)
        if plan.query_letters and plan.key_letters:
            self.lines(plan, x, y, range(1, n), range(1, m), self.theme.line, 0.5)
        self.lines(plan, x, y, _starts(plan.site.queries)[1:], _starts(plan.site.keys)[1:], self.theme.muted, 0.9)
        self.lines(plan, x, y, (0, n), (0, m), self.theme.muted, 0.6)

    def lines(
        self, plan: _Plan, x: float, y: float, rows: Iterable[int], columns: Iterable[int], color: str, width: float
    ) -> None:
        """Lines before these rows and columns of the matrix at x, y."""
        right, bottom = x + plan.width, y + plan.height
        tall, wide = plan.height / len(plan.site.queries), plan.width / len(plan.site.keys)
        ends = [((x, y + i * tall), (right, y + i * tall)) for i in rows]
        ends += [((x + j * wide, y), (x + j * wide, bottom)) for j in columns]
        drawn = needed("matplotlib.collections").LineCollection(
            ends, colors=color, linewidths=width, capstyle="projecting"
        )
        self.axes.add_collection(drawn, autolim=False)

    def label_queries(self, plan: _Plan, y: float) -> None:
        """The tokens to the left of a matrix, or their numbers where there is no room for them."""
        side, pitch = plan.site.queries, plan.height / len(plan.site.queries)
        if plan.query_letters:
            for i, (token, special) in enumerate(zip(side.tokens, side.special, strict=True)):
                place = y + (i + 0.5) * pitch
                label = self.labels.label(token)
                self.write(label, (self.left - 0.06, place), plan.query_letters, align="right", muted=special)
        elif plan.single:
            for i in _round_numbers(len(side)):
                place = y + (i + 0.5) * pitch
                self.axes.plot((self.left - 0.04, self.left), (place, place), color=self.theme.muted, linewidth=0.6)
                self.write(str(i), (self.left - 0.07, place), 8, align="right")

    def label_keys(self, plan: _Plan, x: float, y: float) -> None:
        """The tokens above a matrix, or their numbers."""
        side, pitch = plan.site.keys, plan.width / len(plan.site.keys)
        if plan.key_letters:
            for j, (token, special) in enumerate(zip(side.tokens, side.special, strict=True)):
                label, place = self.labels.label(token), x + (j + 0.5) * pitch
                self.write(
                    label, (place, y - 0.05), plan.key_letters, align="center", upright=plan.upright, muted=special,
                    above=True,
                )  # fmt: skip
        elif plan.single:
            for j in _round_numbers(len(side)):
                place = x + (j + 0.5) * pitch
                self.axes.plot((place, place), (y - 0.04, y), color=self.theme.muted, linewidth=0.6)
                self.write(str(j), (place, y - 0.06), 8, align="center", above=True)

    def name_groups(self, plan: _Plan, bottom: float) -> None:
        """The names of the parts of the text, below the keys of the first column."""
        keys = plan.site.keys
        for start, end in itertools.pairwise([*_starts(keys), len(keys)]):
            if keys.groups and keys.groups[start]:
                x = self.left + (start + end) / 2 * plan.width / len(keys)
                name = self.labels.line(keys.groups[start])
                self.write(name, (x, bottom + 0.12), _NOTE, align="center", muted=True)

    def write(
        self,
        text: str,
        at: tuple[float, float],
        size: float,
        *,
        align: str = "left",
        muted: bool = False,
        upright: bool = False,
        above: bool = False,
    ) -> None:
        """Text at the point (x, y): its middle at the height y, or all of it `above`; upright: from the bottom up."""
        place = "bottom" if above else "center" if upright else "center_baseline"
        color = self.theme.muted if muted else self.theme.ink
        self.axes.text(*at, text, fontsize=size, ha=align, va=place, color=color, rotation=90 if upright else 0)


def _lines(attention: Attention, title: str | None) -> Iterable[str]:
    """All that is written but tokens."""
    yield from (axes_of(attention.sites), attention.model, title or "", *_notes(attention))
    for site in attention.sites:
        yield from (_heading(site), *site.queries.groups, *site.keys.groups)


def _notes(attention: Attention) -> list[str]:
    return [f"{what} {how}" for what, how in attention.notes.items()]


def _numbered(kind: str, name: int | str) -> str:
    return f"{kind} {name}" if isinstance(name, int) else name


def _heading(site: Site) -> str:
    """A site's title; with its layer and head if there is only one map."""
    parts = [site.title or site.name]
    if len(site.layers) == len(site.heads) == 1 and site.name != "pattern":
        parts += [_numbered("layer", site.layers[0]), _numbered("head", site.heads[0])]
    return ", ".join(parts)


def _columns(site: Site) -> int:
    return len(site.heads) if len(site.heads) > 1 else len(site.layers)


def _is_a_pattern(site: Site) -> bool:
    """Whether all weights are 0 or 1, which needs no scale."""
    return not site.signed and all(np.isin(layer, (0, 1)).all() for layer in site.weights)


def _letters(distance: float) -> float:
    """The size of labels that are `distance` inches apart, or 0 where they could not be read."""
    size = min(_LETTERS, distance * 72 * 0.78)
    return size if distance >= _READABLE and size >= _SMALLEST else 0.0


def _starts(side: Side) -> list[int]:
    """Where the parts of a text begin."""
    return [i for i in range(len(side.groups)) if i == 0 or side.groups[i] != side.groups[i - 1]] or [0]


def _limits(sites: Iterable[Site]) -> dict[bool, float]:
    """The end of the scale of all sites without, and of all with a sign: 1 for weights that come near it."""
    largest = {False: 0.0, True: 0.0}
    for site in sites:
        largest[site.signed] = max(largest[site.signed], *(float(np.abs(layer).max()) for layer in site.weights))
    if largest[False] > 0.5:
        largest[False] = 1.0
    return {signed: limit or 1.0 for signed, limit in largest.items()}


def _interpolation(plan: _Plan) -> str:
    """Squares stay squares; of weights that are closer than the dots of a screen a mean is drawn."""
    return "nearest" if plan.width / len(plan.site.keys) > 0.014 else "auto"


def _round_numbers(count: int) -> list[int]:
    """At most about eight numbers below `count`, from 0, as far apart as people count."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    return list(range(0, count, next(step for step in steps if step * 8 >= count)))


def _scale(figure: Figure, image: AxesImage, x: float, y: float, height: float) -> None:
    bar = figure.colorbar(image, cax=place_axes(figure, x, y, 0.12, min(max(height, 0.6), 2.2)))
    bar.outline.set_visible(False)
    bar.locator = needed("matplotlib.ticker").MaxNLocator(4)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=7.5, length=2)
