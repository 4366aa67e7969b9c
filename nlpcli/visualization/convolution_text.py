"""Attention that computes a convolution, in a terminal: the weights of each head for a few α, and all errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlpcli.visualization.convolution_data import ConvolutionComparison
from nlpcli.visualization.heat_map import BOLD, FAINT, Line, TerminalAbilities, scale_of, written
from nlpcli.visualization.terminal_attention import flowing
from nlpcli.visualization.terminal_grid import grid
from nlpcli.visualization.text_width import wrapped

_LEVELS = 4
_BAR = 34
_NEAREST = 1e-16
_EQUATION = ("α(δ) = softmax(−α ‖δ − Δ‖²)", "softmax(-alpha |d - D|^2)")
_OVER = (
    "a row for each head, by the shift at which it looks",
    "a small map for each head, where its shift is in the kernel",
)


def draw(comparison: ConvolutionComparison, *, width: int, color: bool, unicode: bool = True) -> str:
    """Lines of at most `width` columns."""
    ink = TerminalAbilities(color, unicode)
    scale = scale_of([np.ones(1)], ink)
    name = "α" if unicode else "alpha"
    caption = f"Attention weights around one query, {_EQUATION[not unicode]}: {_OVER[len(comparison.kernel_size) - 1]}."
    lines: list[Line] = [[(line, BOLD)] for line in wrapped(_plain(comparison.title, unicode), width)]
    lines += [[], *([(line, FAINT)] for line in wrapped(caption, width)), []]
    tiles = [(f"{name} = {level.alpha:g}", comparison.mosaic(level)) for level in comparison.sample_levels(_LEVELS)]
    across = 2 if 4 * tiles[0][1].shape[1] + 2 <= width else 1
    lines += grid([tiles[start : start + across] for start in range(0, len(tiles), across)], scale, width)
    lines += [[], *flowing(scale.legend(), width), []]
    lines += [[(line, BOLD)] for line in wrapped("Largest difference from the convolution, relative to it", width)]
    lines += [[(line, "")] for line in (f"{name:>6}  error", *_errors(comparison, width, unicode))]
    return written(lines, ink)


def _plain(text: str, unicode: bool) -> str:
    return text if unicode else text.replace("×", "x")


def _errors(comparison: ConvolutionComparison, width: int, unicode: bool) -> Iterator[str]:
    """A line for each α, with a bar that is as long as the error's logarithm."""
    room = max(0, min(_BAR, width - 18))
    for level in comparison.levels:
        share = 1 - np.log10(max(level.error, _NEAREST)) / np.log10(_NEAREST)
        bar = ("█" if unicode else "#") * max(0, round(room * share))
        yield f"{level.alpha:>6g}  {level.error:7.1e}  {bar}".rstrip()
