"""Attention over a text as a figure: each sentence with its weight, its words on the colors of theirs.

Source: the drawing of Yang et al. 2016, figures 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlpcli.visualization import figure_style
from nlpcli.visualization.attention_data import Attention
from nlpcli.visualization.document_text import WeightedSentence, meanings
from nlpcli.visualization.figure_style import Theme, needed, new_figure
from nlpcli.visualization.token_labels import TokenLabels

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Inches.
_WIDTH, _EDGE, _LINE, _BETWEEN, _NOTE = 7.2, 0.16, 0.26, 0.07, 0.18
_MARGIN, _SPACE, _PAD = 0.62, 0.06, 0.02
# Points (1/72 inch).
_TITLE, _LETTERS, _SMALL = 12.0, 9.5, 7.5


def draw(
    attention: Attention,
    sentences: Sequence[WeightedSentence],
    theme: Theme,
    *,
    format: str,
    dpi: int,
    title: str | None,
    warn: Callable[[str], None] | None,
) -> bytes:
    """The file of a figure of the sentences of `attention`. The rest: see `attention_figures.draw`."""
    notes = [f"{what} {how}" for what, how in attention.notes.items()]
    above = [line for line in (title, attention.model) if line]
    signed = attention.site("words").signed
    legend = "; ".join(meanings(sentences, signed=signed))
    words = [word.text for sentence in sentences for word in sentence.words]
    labels = TokenLabels(words, [*above, *notes, legend], warn)
    with figure_style.plain_settings(theme, labels.families):
        page = _Page(sentences, theme, labels, signed=signed)
        return figure_style.as_bytes(page.figure(above, [legend, *notes]), format, dpi)


class _Page:
    """Lays words out in lines, and draws them."""

    def __init__(
        self, sentences: Sequence[WeightedSentence], theme: Theme, labels: TokenLabels, *, signed: bool
    ) -> None:
        self.sentences = sentences
        self.theme = theme
        self.labels = labels
        self.signed = signed
        self.colors: Colormap = figure_style.color_map(theme, signed=signed)
        self.top = _top(word.weight for sentence in sentences for word in sentence.words)
        weights = [sentence.weight for sentence in sentences if sentence.weight is not None]
        self.document_top = _top(weights) if signed else 1.0
        self.margin = _MARGIN if weights else 0.0
        self.measuring = new_figure(1, 1)
        self.measuring.set_dpi(600)  # so that words are not fitted to dots
        self._widths: dict[str, float] = {}

    def figure(self, above: Sequence[str], below: Sequence[str]) -> Figure:
        lines = [self.lines(sentence) for sentence in self.sentences]
        height = (
            2 * _EDGE + _LINE * (len(above) + sum(map(len, lines))) + _BETWEEN * (len(lines) + 1) + _NOTE * len(below)
        )
        figure = new_figure(_WIDTH, height)
        self.axes = figure_style.plane(figure)
        y = _EDGE
        for number, heading in enumerate(above):
            self.write(self.labels.line(heading), _EDGE, y, _LETTERS if number else _TITLE, self.theme.ink)
            y += _LINE
        for sentence, laid_out in zip(self.sentences, lines, strict=True):
            y += _BETWEEN
            if sentence.weight is not None:
                self.box(f"{sentence.weight:.2f}", _EDGE, y, 0.42, sentence.weight / self.document_top)
            for line in laid_out:
                for text, x, width, weight in line:
                    self.box(text, _EDGE + self.margin + x, y, width, weight / self.top)
                y += _LINE
        y += _BETWEEN
        for note in below:
            self.write(self.labels.line(note), _EDGE, y, _SMALL, self.theme.muted)
            y += _NOTE
        return figure

    def lines(self, sentence: WeightedSentence) -> list[list[tuple[str, float, float, float]]]:
        """Words in lines: the text of each, its place from the left and its width in inches, and its weight."""
        room = _WIDTH - 2 * _EDGE - self.margin
        lines: list[list[tuple[str, float, float, float]]] = [[]]
        x = 0.0
        for word in sentence.words:
            text = self.labels.label(word.text)
            width = self.width(text) + 2 * _PAD
            x += _SPACE if word.spaced else 0.0
            if lines[-1] and x + width > room:
                lines.append([])
                x = 0.0
            lines[-1].append((text, x, width, word.weight))
            x += width
        return lines

    def width(self, text: str) -> float:
        if text not in self._widths:
            drawn = self.measuring.text(0, 0, text, fontsize=_LETTERS)
            self._widths[text] = drawn.get_window_extent().width / self.measuring.dpi
            drawn.remove()
        return self._widths[text]

    def box(self, text: str, x: float, y: float, width: float, share: float) -> None:
        """A text on the color of a weight, in black or white, whichever can be read."""
        color = self.colors((share + 1) / 2 if self.signed else share)
        patches = needed("matplotlib.patches")
        self.axes.add_patch(patches.Rectangle((x, y + 0.02), width, _LINE - 0.04, facecolor=color, linewidth=0))
        dark = float(np.dot(color[:3], (0.299, 0.587, 0.114))) < 0.5
        self.axes.text(
            x + width / 2, y + _LINE / 2, text, fontsize=_LETTERS, ha="center", va="center_baseline",
            color="white" if dark else "black",
        )  # fmt: skip

    def write(self, text: str, x: float, y: float, size: float, color: str) -> None:
        self.axes.text(x, y + _LINE / 2, text, fontsize=size, va="center_baseline", color=color)


def _top(weights: Iterable[float]) -> float:
    """The upper end of the color scale: the largest weight, without its sign."""
    return max((abs(weight) for weight in weights), default=0.0) or 1.0
