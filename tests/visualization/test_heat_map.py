from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.visualization import heat_map
from nlpcli.visualization.heat_map import Scale, TerminalAbilities

PLAIN, COLOR = TerminalAbilities(color=False, unicode=True), TerminalAbilities(color=True, unicode=True)


@given(st.integers(0, 2**32 - 1), *[st.integers(1, 9)] * 4)
def test_pooling_equals_the_loop_over_blocks(seed, n, m, rows, columns):
    values = np.random.default_rng(seed).standard_normal((n, m))
    pooled = heat_map.pooled(values, rows, columns)
    assert pooled.shape == (-(-n // rows), -(-m // columns))
    for (i, j), value in np.ndenumerate(pooled):
        block = values[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        assert value == max(block.ravel(), key=abs)


@given(st.floats(1e-30, 1e30))
def test_a_scale_reaches_the_largest_weight_and_at_most_twice_as_far(largest):
    top = heat_map.scale_of([np.array([[largest, 0.0]])], PLAIN).top
    assert largest <= top * 1.001 and top <= largest * 2.001


@pytest.mark.parametrize(("largest", "top"), [(0, 1), (0.97, 1), (1.0000001, 1), (0.3, 0.4), (0.051, 0.06), (31, 40)])
def test_a_scale_ends_at_a_short_number(largest, top):
    assert heat_map.scale_of([np.full((1, 1), largest, np.float32)], PLAIN).top == pytest.approx(top)


def test_exact_zeros_make_a_scale_with_blanks():
    assert heat_map.scale_of([np.array([[0.0, 1.0]])], PLAIN).hollow
    assert not heat_map.scale_of([np.array([[0.1, 0.9]])], PLAIN).hollow


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.booleans())
def test_a_larger_weight_never_has_a_fainter_cell(a, b, signed):
    scale = Scale(1.0, PLAIN, signed=signed)
    order = "·░▒▓█"
    first, second = (order.index(scale.cell(value, 2)[0].strip()[-1]) for value in sorted((a, b)))
    assert first <= second


@pytest.mark.parametrize("signed", [False, True])
def test_every_level_has_a_color_of_its_own(signed):
    scale = Scale(1.0, COLOR, signed=signed)
    values = np.linspace(-1 if signed else 0.001, 1, 200)
    colors = [color for color, _ in itertools.groupby(map(scale.color, values))]
    assert len(colors) == len(set(colors)) and len(colors) >= 9


def test_half_cells_hold_two_weights_and_leave_blanks_unpainted():
    scale = Scale(1.0, COLOR)
    assert scale.halves(0, 0) == (" ", "")
    assert scale.halves(1, 0) == ("▀", f"38;5;{scale.color(1)}")
    assert scale.halves(0, 1) == ("▄", f"38;5;{scale.color(1)}")
    assert scale.halves(1, 1) == (" ", f"48;5;{scale.color(1)}")
    assert scale.halves(1, 0.1) == ("▀", f"38;5;{scale.color(1)};48;5;{scale.color(0.1)}")


def test_an_odd_last_row_has_nothing_painted_below_it():
    for line in heat_map.painted(np.full((3, 2), 0.5), Scale(1.0, COLOR, hollow=False), 1, halves=True)[1:]:
        assert {text for text, _ in line} == {"▀"} and "48;" not in line[0][1]


def test_lines_end_in_no_blank_and_no_style_is_left_open():
    lines = [[("a", "1"), ("b ", ""), ("  ", "")], [(" ", "48;5;17"), ("  ", "2")], [("", "1")], []]
    assert heat_map.written(lines, PLAIN) == "ab\n\n\n"
    text = heat_map.written(lines, COLOR)
    assert text == "\x1b[1ma\x1b[0mb\n\x1b[48;5;17m \x1b[0;2m  \x1b[0m\n\n"
    assert all(not re.search("\x1b\\[[^0][^m]*m[^\x1b]*$", line) for line in text.split("\n"))
