"""Kernel regression as a figure: what is in its panels, and that every format is written."""

from __future__ import annotations

import numpy as np
import pytest

from nlpcli.commands.visualize_attention.kernel_regression import example_regression, file_regression
from nlpcli.errors import NlpcliError
from nlpcli.visualization import kernel_regression_figure as module
from nlpcli.visualization.kernel_regression_figure import draw

pytest.importorskip("matplotlib", reason="figures need the extra 'plot'")
EXAMPLE = example_regression()


@pytest.fixture
def drawn(monkeypatch):
    """The figure before it is a file."""

    def figure(regression, **how):
        monkeypatch.setattr(module, "as_bytes", lambda figure, format, dpi: figure)
        return draw(regression, **how)

    return figure


@pytest.fixture
def plane(tmp_path):
    numbers = np.random.default_rng(0).random((20, 2)).round(3).tolist()
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\ty_ß\n" + "".join(f"{a}\t{b}\t{a - b:.3f}\n" for a, b in numbers))
    return file_regression(str(path), "0.2")


@pytest.mark.parametrize(("format", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_regression_gives_the_same_bytes(format, begin, theme):
    one, two = (draw(EXAMPLE, format=format, theme=theme, dpi=60) for _ in range(2))
    assert one == two and one.startswith(begin)


def test_each_fit_has_its_curve_and_its_weights(drawn):
    figure = drawn(EXAMPLE, title="A title")
    curves, matrices = figure.axes[0:6:2], figure.axes[1:6:2]
    for fit, curve, matrix in zip(EXAMPLE.fits, curves, matrices, strict=True):
        truth, line = curve.get_lines()
        assert np.array_equal(line.get_xdata(), EXAMPLE.queries[:, 0]) and np.array_equal(line.get_ydata(), fit.curve)
        assert np.array_equal(truth.get_ydata(), EXAMPLE.truth)
        points = curve.collections[0].get_offsets()
        assert np.array_equal(points, np.column_stack([EXAMPLE.x[:, 0], EXAMPLE.y]))
        assert np.array_equal(matrix.images[0].get_array(), fit.weights)
        assert fit.label in {text.get_text() for text in curve.texts}
        assert f"leave one out {fit.leave_one_out_error:.3g}" in curve.get_title(loc="left")
    scales = {matrix.images[0].get_clim() for matrix in matrices}
    assert scales == {(0, max(fit.weights.max() for fit in EXAMPLE.fits))}
    assert "A title" in {text.get_text() for text in figure.texts}


def test_with_several_columns_predictions_are_drawn_over_y(drawn, plane):
    figure = drawn(plane)
    points = figure.axes[2].collections[0].get_offsets()
    assert np.array_equal(points, np.column_stack([plane.y[plane.query_points], plane.fits[1].curve]))
    assert figure.axes[2].get_xlabel() == "y_ß" and figure.axes[0].get_ylabel() == "prediction of y_ß"


def test_ticks_of_a_matrix_are_the_places_of_its_keys(drawn):
    axes = drawn(EXAMPLE).axes[1]
    for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert float(label.get_text()) == pytest.approx(EXAMPLE.x[int(place), 0], rel=0.05)


def test_an_unknown_theme_is_refused():
    with pytest.raises(NlpcliError, match="unknown theme 'red'"):
        draw(EXAMPLE, theme="red")
