"""Attention that computes a convolution, in a terminal and as a figure."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nlpcli.commands.visualize_attention.convolution import compare_convolution
from nlpcli.visualization import convolution_figure, convolution_text
from nlpcli.visualization.text_width import cells

LINE, PLANE = compare_convolution("5"), compare_convolution("3x3")


@pytest.mark.parametrize("comparison", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(comparison, width, unicode):
    text = convolution_text.draw(comparison, width=width, color=False, unicode=unicode)
    assert max(map(cells, text.splitlines())) <= width
    assert unicode or text.isascii()


def test_the_text_has_every_error_and_bars_that_shrink():
    lines = convolution_text.draw(PLANE, width=80, color=False).splitlines()[-len(PLANE.levels) :]
    for level, line in zip(PLANE.levels, lines, strict=True):
        alpha, error = line.split()[:2]
        assert float(alpha) == level.alpha and float(error) == pytest.approx(level.error, rel=0.06)
    bars = [line.count("█") for line in lines]
    assert bars == sorted(bars, reverse=True) and bars[0] > bars[-1]


def test_each_map_of_the_mosaic_is_where_its_shift_is_in_the_kernel():
    picture = PLANE.mosaic(PLANE.levels[-1])
    assert picture.shape == (17, 17)
    rows, columns = np.nonzero(np.nan_to_num(picture) > 0.5)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (6 * row + 1 + row, 6 * column + 1 + column) for row in range(3) for column in range(3)
    ]
    assert np.isnan(picture[5]).all() and np.isnan(picture[:, 11]).all()


def test_the_mosaic_of_a_line_has_a_row_for_each_head():
    assert np.array_equal(LINE.mosaic(LINE.levels[-1]) > 0.5, np.eye(7, dtype=bool)[1:6])


@pytest.mark.parametrize("comparison", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_has_the_weights_and_the_errors(comparison, theme, monkeypatch):
    pytest.importorskip("matplotlib", reason="figures need the extra 'plot'")
    one, two = (convolution_figure.draw(comparison, format="svg", theme=theme, title="A title") for _ in range(2))
    assert one == two and re.search(b"<!-- A title -->", one)
    monkeypatch.setattr(convolution_figure, "as_bytes", lambda figure, format, dpi: figure)
    *maps, errors = convolution_figure.draw(comparison, theme=theme).axes
    shown = comparison.sample_levels(4)
    assert [level.alpha for level in shown] == [0.1, 1, 5, 50]
    for axes, level in zip(maps, shown, strict=True):
        assert np.array_equal(axes.images[0].get_array(), comparison.mosaic(level), equal_nan=True)
        assert axes.get_title(loc="left") == f"α = {level.alpha:g}"
    assert errors.get_lines()[0].get_ydata().tolist() == [level.error for level in comparison.levels]
