"""Kernel regression in a terminal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.commands.visualize_attention.kernel_regression import example_regression
from nlpcli.visualization.kernel_regression_data import Fit, Regression
from nlpcli.visualization.kernel_regression_text import draw
from nlpcli.visualization.text_width import cells

EXAMPLE = example_regression()


def regression(queries: int, points: int, columns: int, name: str = "y", fits: int = 2) -> Regression:
    """Any numbers in the right form."""
    numbers = np.random.default_rng(queries * points).normal
    weights = np.abs(numbers(size=(queries, points)))
    weights /= weights.sum(axis=1, keepdims=True)
    some = [
        Fit(kind, (width,) * columns, numbers(size=queries), weights, 0.5, 1e9)
        for kind, width in (("mean", np.inf), ("fixed", 0.12345), ("learned", 1e-7))[:fits]
    ]
    chosen = None if columns == 1 else np.arange(queries) % points
    names = (*(f"x{number}" for number in range(columns)), name)
    return Regression("data", names, numbers(size=(points, columns)), numbers(size=points),
                      numbers(size=(queries, columns)), tuple(some), chosen)  # fmt: skip


@settings(max_examples=40)
@given(
    st.integers(1, 40), st.integers(2, 60), st.integers(1, 5), st.text(min_size=1, max_size=50),
    st.integers(20, 130), st.booleans(), st.booleans(),
)  # fmt: skip
def test_no_line_is_wider_than_the_terminal(queries, points, columns, name, width, color, unicode):
    text = draw(regression(queries, points, columns, name), width=width, color=color, unicode=unicode)
    plain = text if not color else "".join(part.split("m", 1)[-1] for part in text.split("\x1b["))
    assert max(map(cells, plain.splitlines())) <= width
    assert color or "\x1b" not in text


def test_without_unicode_all_is_ascii():
    assert draw(EXAMPLE, width=80, color=False, unicode=False).isascii()


def test_the_errors_of_each_fit_are_in_a_table():
    lines = draw(EXAMPLE, width=80, color=False).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("mean squared error"))
    for letter, fit, line in zip("abc", EXAMPLE.fits, lines[start + 1 :], strict=False):
        assert line.startswith(f"{letter}  {fit.label}")
        shown = [float(number) for number in line.split()[-2:]]
        assert shown == pytest.approx([fit.training_error, fit.leave_one_out_error], rel=1e-3)


def test_the_plot_has_the_points_and_a_letter_for_each_curve():
    lines = [line for line in draw(EXAMPLE, width=80, color=False).splitlines() if "│" in line]
    assert {letter for line in lines for letter in line.partition("│")[2]} >= set("•abc")
    [mean] = [line for line in lines if line.count("a") > 30]
    assert lines.index(mean) not in (0, len(lines) - 1)


def test_the_matrix_is_of_the_last_fit_and_darkest_near_the_diagonal():
    text = draw(EXAMPLE, width=80, color=False)
    assert "Attention weights, learned width" in text
    rows = [line for line in text.splitlines() if line[:5].strip().replace(".", "").isdigit() and "·" in line]
    assert len(rows) == 26
    places = [np.mean([place for place, mark in enumerate(row) if mark in "░▒▓█"]) for row in rows]
    assert places == sorted(places)
