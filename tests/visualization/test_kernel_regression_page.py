"""The page of a kernel regression: what it holds, and that it computes what Python does."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nlpcli.attention.kernel_regression import kernel_regression, leave_one_out_error, training_error
from nlpcli.commands.visualize_attention.kernel_regression import example_regression, file_regression
from nlpcli.visualization import kernel_regression_page as module
from nlpcli.visualization.kernel_regression_data import as_json
from nlpcli.visualization.kernel_regression_page import page

EXAMPLE = example_regression()


@pytest.fixture
def plane(tmp_path):
    """Two columns of x, and names that would be HTML."""
    numbers = np.random.default_rng(0).random((20, 2)).round(3).tolist()
    path = tmp_path / "a.tsv"
    path.write_text("a\t</script><b>\ty\n" + "".join(f"{a}\t{b}\t{a - b:.3f}\n" for a, b in numbers))
    return file_regression(str(path))


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def test_the_page_holds_the_points_and_the_widths_but_no_matrix(plane):
    for regression in (EXAMPLE, plane):
        data, whole = data_of(page(regression, title="t")), as_json(regression)
        assert data["points"] == whole["points"] and data["queries"] == whole["queries"]
        assert [fit["bandwidth"] for fit in data["fits"]] == [fit["bandwidth"] for fit in whole["fits"]]
        assert [fit["label"] for fit in data["fits"]] == [fit.label for fit in regression.fits]
        assert not any("weights" in fit for fit in data["fits"])


def test_no_name_ends_the_element_it_is_in_and_nothing_is_loaded(plane):
    html = page(plane, title="</title><b>")
    assert html.count("</script>") == 2 and html.count("</title>") == 1 and "<b>" not in html
    assert not any(word in html.replace("http://www.w3.org/2000/svg", "") for word in ("http:", "https:", "url("))


def test_every_file_of_the_page_is_used():
    folder = Path(module.__file__).with_name("regression_page")
    assert {file.name for file in folder.iterdir()} == {"page.html", "page.css", "page.js"}


def widths(fit, factor: float = 1.0) -> torch.Tensor:
    return torch.tensor(fit.bandwidth, dtype=torch.float64) * factor


def expected(regression, width: torch.Tensor) -> tuple[np.ndarray, list[float]]:
    key, value = torch.from_numpy(regression.x), torch.from_numpy(regression.y)
    curve = kernel_regression(torch.from_numpy(regression.queries), key, value, width).numpy()
    return curve, [float(error(key, value, width)) for error in (training_error, leave_one_out_error)]


@pytest.mark.parametrize("kind", ["line", "plane"])
def test_the_page_computes_the_curves_and_errors_of_python(open_page, plane, kind):
    regression = EXAMPLE if kind == "line" else plane
    opened = open_page(page(regression, title="t"))
    for number, fit in enumerate(regression.fits):
        opened.click(f"#fits button:nth-child({number + 1})")
        curve, errors = expected(regression, widths(fit))
        np.testing.assert_allclose(opened.page.evaluate("regression.curve()"), curve, rtol=0, atol=1e-9)
        np.testing.assert_allclose(opened.page.evaluate("regression.errors()"), errors, rtol=0, atol=1e-9)
    opened.page.locator("#width").fill("1")  # twice the width
    curve, errors = expected(regression, widths(regression.fits[-1], 2))
    np.testing.assert_allclose(opened.page.evaluate("regression.curve()"), curve, rtol=0, atol=1e-9)
    last = opened.text("#errors tr:last-child").split("\t")
    assert [float(number) for number in last[1:]] == pytest.approx(errors, rel=1e-3)


def test_the_pointer_chooses_the_query_and_its_weights_are_drawn(open_page):
    opened = open_page(page(EXAMPLE, title="t"))
    box = opened.page.locator("#plot").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 3)
    left = opened.page.evaluate("regression.state.query")
    opened.page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 3)
    assert left < 40 and opened.page.evaluate("regression.state.query") > 60
    opened.page.locator("#query").fill("10")
    assert f"prediction {float(f'{EXAMPLE.fits[-1].curve[10]:.4g}'):g}" in opened.text("#readout")
    assert opened.page.locator("#plot circle.point").count() == opened.page.locator("#plot path.stem").count() == 50
    tallest = opened.page.evaluate(
        "[...document.querySelectorAll('.stem')].map((p) => p.getBoundingClientRect().height)"
    )
    weights = EXAMPLE.fits[-1].weights[10]
    np.testing.assert_allclose(np.array(tallest) / max(tallest), weights / weights.max(), atol=0.02)


def test_the_mean_has_no_width_to_move(open_page):
    opened = open_page(page(EXAMPLE, title="t"), scheme="dark")
    opened.click("#fits button:nth-child(1)")
    assert opened.page.locator("#width").is_disabled() and opened.text("#width-value") == "∞"
    assert math.isinf(EXAMPLE.fits[0].bandwidth[0])
