"""Numbers as cells of a terminal: shades, colors, their scale and its legend.

A line is a list of spans, (text, style); a style is what an SGR escape sequence holds ("1", "48;5;17"), empty for none.
The 256 colors that every terminal has are enough; a map brings its own dark ground, so that it reads the same on dark
and on light terminals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nlpcli.config.counting import counted

Line = list[tuple[str, str]]

BOLD, FAINT = "1", "2"
_RAMP = (17, 18, 24, 30, 36, 71, 113, 149, 184, 220)  # dark blue over green to yellow, ever lighter
_LIGHT = 4  # from where on black reads better than white
_POSITIVE = (235, 52, 88, 124, 160, 166, 208, 214, 220)
_NEGATIVE = (235, 17, 18, 19, 26, 32, 39, 45, 87)
_UNICODE = ("·", "░", "▒", "▓", "█")
_ASCII = (".", ":", "-", "=", "+", "*", "#", "%", "@")
_SIGNED_ASCII = (".", ":", "o", "O", "@")  # - and + are signs there
_UPPER, _LOWER, _FULL = "▀", "▄", "█"


@dataclass(frozen=True)
class TerminalAbilities:
    """The abilities of the output: colors, and characters beyond ASCII."""

    color: bool
    unicode: bool

    @property
    def halves(self) -> bool:
        """Whether a line of text can hold two rows."""
        return self.color and self.unicode


@dataclass(frozen=True)
class Scale:
    """From weights to cells. top: the weight of the strongest cell; pattern: cells are only on or off.

    hollow: an exact zero is blank, so that a masked key differs from one with hardly any weight. digits:
    cells are wide enough for whole numbers of two digits, and hold them.
    """

    top: float
    ink: TerminalAbilities
    signed: bool = False
    pattern: bool = False
    hollow: bool = True
    digits: bool = False

    @property
    def columns(self) -> int:
        """The columns of a cell where there is room."""
        return 3 if self.digits else 2

    @property
    def narrow(self) -> bool:
        """Whether a cell can be one column wide; a sign needs a column of its own where there are no hues."""
        return self.ink.color or not self.signed

    def cell(self, value: float, columns: int) -> tuple[str, str]:
        """The span of one weight."""
        if self.digits:
            text = f"{value:{columns}.0f}"
            return self.written_on(text, value) if self.ink.color else (text, "")
        if self.ink.color and self.pattern and not value:
            return self._shade(value, columns), FAINT
        if self.ink.color:
            color = self.color(value)
            return " " * columns, "" if color is None else f"48;5;{color}"
        return self._shade(value, columns), ""

    def color(self, value: float) -> int | None:
        """The number of the weight's color, None where nothing is painted."""
        if (value == 0 and self.hollow) or not math.isfinite(value):
            return None
        ramp = _RAMP if not self.signed else _POSITIVE if value > 0 else _NEGATIVE
        return ramp[self._level(value, len(ramp))]

    def halves(self, upper: float, lower: float) -> tuple[str, str]:
        """One column that holds two weights, one above the other."""
        above, below = self.color(upper), self.color(lower)
        if above is None:
            return (" ", "") if below is None else (_LOWER, f"38;5;{below}")
        if below is None:
            return _UPPER, f"38;5;{above}"
        return (" ", f"48;5;{above}") if above == below else (_UPPER, f"38;5;{above};48;5;{below}")

    def written_on(self, text: str, value: float) -> tuple[str, str]:
        """A text on the weight's color, in black or white, whichever is the farther from it."""
        color = self.color(value)
        if color is None:
            return text, ""
        black = self._level(value, len(_RAMP)) >= _LIGHT
        return text, f"38;5;{16 if black else 231};48;5;{color}"

    def legend(self) -> list[Line]:
        """The legend of the cells, in parts that are not broken."""
        if self.digits:
            return []
        if self.pattern:
            return [[self.cell(1, 2), (" may attend", "")], [self.cell(0, 2), ("may not attend", "")]]
        steps = [(self.top * share, number(self.top * share)) for share in (0.25, 0.5, 0.75, 1)]
        below = [(-value, f"-{name}") for value, name in reversed(steps)] if self.signed else []
        parts = [[self.cell(value, 2), (f" {name}", "")] for value, name in [*below, (self.top * 1e-6, "0"), *steps]]
        return [*parts, [("blank: exactly 0", FAINT)]] if self.hollow else parts

    def _shade(self, value: float, columns: int) -> str:
        shades = _UNICODE if self.ink.unicode else _SIGNED_ASCII if self.signed else _ASCII
        if self.pattern:
            return shades[-1] * columns if value else shades[0].ljust(columns)
        if (value == 0 and self.hollow) or not math.isfinite(value):
            return " " * columns
        level = self._level(value, len(shades))
        if self.signed:
            sign = "+" if value > 0 else "-"
            return (sign + shades[level] if level else shades[0]).ljust(columns)
        return shades[level] * columns if level else shades[0].ljust(columns)

    def _level(self, value: float, levels: int) -> int:
        return min(levels - 1, round(abs(value) / self.top * (levels - 1)))


def scale_of(
    weights: Iterable[np.ndarray], ink: TerminalAbilities, *, signed: bool = False, pattern: bool = False
) -> Scale:
    """The scale for all of `weights`: its top is the largest of them, rounded up."""
    arrays = list(weights)
    largest = max((float(np.abs(values).max(initial=0, where=np.isfinite(values))) for values in arrays), default=0.0)
    hollow = any(bool((values == 0).any()) for values in arrays)
    return Scale(_rounded_up(largest), ink, signed, pattern, hollow)


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 by a power of ten, whose quarters are short numbers; 1 for none."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    digit = next(digit for digit in (1, 2, 4, 6, 8, 10) if value <= digit * unit * (1 + 1e-4))
    return digit * unit


def number(value: float) -> str:
    """A weight in as few characters as two digits allow."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.3g}"


def blocks_note(n: int, m: int, high: int, wide: int) -> str:
    """The note for a matrix of n rows and m columns that is drawn in blocks."""
    block = f"a block of {counted(high, 'row')} and {counted(wide, 'column')}"
    return f"{counted(n, 'row')} and {counted(m, 'column')}; each cell stands for {block}"


def pooled(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The weight that is farthest from zero in each block of `rows` × `columns`; the last blocks may be smaller."""
    n, m = values.shape
    if 0 in (n, m) or (rows == 1 and columns == 1):
        return values
    starts = np.arange(0, n, rows), np.arange(0, m, columns)
    high = np.maximum.reduceat(np.maximum.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    low = np.minimum.reduceat(np.minimum.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    return np.where(high >= -low, high, low)


def painted(values: np.ndarray, scale: Scale, columns: int, *, halves: bool) -> list[Line]:
    """Lines of cells; with `halves` a line holds two rows of one column a cell."""
    if not halves:
        return [[scale.cell(float(value), columns) for value in row] for row in values]
    if len(values) % 2:
        values = np.concatenate(
            [values, np.full((1, values.shape[1]), np.nan, values.dtype)]
        )  # nothing is painted there
    return [
        [scale.halves(float(a), float(b)) for a, b in zip(upper, lower, strict=True)]
        for upper, lower in zip(values[::2], values[1::2], strict=True)
    ]


def written(lines: Iterable[Line], ink: TerminalAbilities) -> str:
    """The lines as text, with escape sequences only where there is color, without blanks at the ends."""
    return "\n".join(_written(line, ink.color) for line in lines)


def _written(line: Line, color: bool) -> str:
    parts: list[str] = []
    style = ""
    spans = [span for span in line if span[0]]
    while spans and not (spans[-1][1] and color) and not spans[-1][0].strip(" "):
        spans.pop()
    for index, (text, wanted) in enumerate(spans):
        wanted = wanted if color else ""
        if wanted != style:
            parts.append(f"\x1b[{wanted}m" if not style else f"\x1b[0;{wanted}m" if wanted else "\x1b[0m")
            style = wanted
        parts.append(text.rstrip(" ") if index == len(spans) - 1 and not wanted else text)
    return "".join(parts) + ("\x1b[0m" if style else "")
