"""Curves as pictures and as text."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.visualization.charts import COLORS, DASHES, MARKS, Line, Panel, draw, key_svg, panel_svg, short_number
from nlpcli.visualization.text_charts import extent, plot, sparkline


def panel(*, runs=2, n=20, title="loss (nats)", **options):
    x = tuple(float(10 * i) for i in range(n))
    lines = [Line(f"run {r}", r, x, tuple(5 * math.exp(-i / (8 + r)) for i in range(n)), kind)
             for r in range(runs) for kind in ("train", "dev")]  # fmt: skip
    return Panel(title, "steps", tuple(lines), **options)


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_panels_give_the_same_bytes(format, theme):
    made = [
        draw([panel(), panel(title="ppl", logarithmic=True)], ["a", "b"], format=format, theme=theme) for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[format])


def test_one_panel_and_eighteen_runs_can_be_drawn():
    assert draw([panel(runs=1)], ["a"], columns=3)
    assert draw([panel(runs=18)] * 4, [f"run {i}" for i in range(18)], title="all")
    with pytest.raises(NlpcliError, match="unknown theme"):
        draw([panel()], ["a", "b"], theme="blue")


def test_runs_are_distinguished_without_color_by_dash_and_mark():
    looks = {(DASHES[n % len(DASHES)], MARKS[(n + n // len(MARKS)) % len(MARKS)]) for n in range(49)}
    assert len(looks) == 49
    assert len({key_svg(n).replace(f"--run-{n % 7 + 1}", "") for n in range(14)}) == 14


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_of_runs_stand_out_from_the_paper(theme):
    """Contrast of at least 3 : 1, as WCAG 2.1 asks of graphics."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper = luminance("#ffffff" if theme == "light" else "#14171c")
    for color in COLORS[theme]:
        low, high = sorted((luminance(color), paper))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_a_panel_for_a_page_has_the_pages_colors_and_its_own_ids():
    one, two = (panel_svg(panel(), identity=name) for name in ("x", "y"))
    for text in (one, two):
        ElementTree.fromstring(text)
        assert not re.search(r"#(?!x-|y-)[0-9a-f]{6}", text) and "var(--run-1)" in text and "var(--run-2)" in text
        assert "<script" not in text and "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in (one, two)]
    assert not ids[0] & ids[1]
    for text, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= own


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_short_number_is_the_number_to_three_digits(value):
    text = short_number(value)
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    back = float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)
    assert back == pytest.approx(value, rel=6e-3, abs=1e-45) and len(text) <= 9


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 60), st.booleans())
def test_a_sparkline_is_as_wide_as_asked_and_highest_where_the_values_are(values, width, unicode):
    x = [float(i) for i in range(len(values))]
    drawn = sparkline(x, values, width, span=extent(x), within=extent(values), unicode=unicode)
    assert len(drawn) <= width and (unicode or drawn.isascii())
    if len(values) <= width and max(values) - min(values) > 1e-3:
        assert ("█" if unicode else "#") in drawn and ("▁" if unicode else "_") in drawn


@given(st.integers(1, 4), st.integers(20, 120), st.integers(3, 15), st.booleans(), st.booleans())
def test_a_plot_fits_its_width_and_height_and_shows_every_run(runs, width, height, unicode, logarithmic):
    lines = tuple(Line(str(r), r, (0.0, 1.0, 2.0), (1.0 + 9 * r, 2.0 + 9 * r, 1.5 + 9 * r)) for r in range(runs))
    drawn = plot(Panel("t", "steps", lines, logarithmic=logarithmic), width, height, unicode=unicode)
    assert len(drawn) == height + 2 and (unicode or "".join(drawn).isascii())
    assert max(map(len, drawn)) <= width
    if runs > 1 and not logarithmic and height > 5:
        assert all(letter in "".join(drawn[:height]) for letter in "abcd"[:runs])


@pytest.mark.parametrize(("unicode", "mark"), [(True, "•"), (False, ".")])
def test_points_are_not_joined_and_stand_in_front_of_curves(unicode, mark):
    corners = Line("points", 0, (0.0, 9.0, 9.0), (0.0, 9.0, 0.0), "points")
    curve = Line("curve", 0, (0.0, 9.0), (0.0, 9.0))
    drawn = plot(Panel("t", "x", (corners, curve)), 40, 8, unicode=unicode)
    text = "".join(line.partition("│" if unicode else "|")[2] for line in drawn[:8])
    assert text.count(mark) == 3 and text.count("a") > 20


def test_a_long_name_of_the_axis_does_not_widen_a_plot():
    drawn = plot(Panel("t", "x" * 50, (Line("a", 0, (0.0, 1.0), (0.0, 1.0)),)), 30, 5)
    assert max(map(len, drawn)) == 30 and drawn[-1].endswith("x…")


def test_nothing_to_plot_is_no_line():
    assert plot(Panel("t", "steps", ()), 80, 9) == [] and sparkline([], [], 9, span=(0, 1), within=(0, 1)) == ""
