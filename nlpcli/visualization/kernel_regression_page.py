"""A kernel regression as a page: the width and the query can be moved, and the page computes weights and errors."""

from __future__ import annotations

from nlpcli.visualization.html_page import fill, json_text
from nlpcli.visualization.kernel_regression_data import Regression, as_json


def page(regression: Regression, *, title: str) -> str:
    """One HTML page that holds all it needs."""
    about = as_json(regression)
    fits = [
        {**{name: part for name, part in fit.items() if name not in ("curve", "weights")}, "label": own.label}
        for fit, own in zip(about["fits"], regression.fits, strict=True)
    ]
    data = {**about, "fits": fits, "axes": regression.axes}
    return fill("regression_page", ("page",), title=title, data=json_text(data))
