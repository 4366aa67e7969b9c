"""`--kernel-regression`: which regressions are drawn of which points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nlpcli.attention.kernel_regression import kernel_regression, learn_bandwidth, reference_bandwidth
from nlpcli.commands.visualize_attention.kernel_regression import example_regression, file_regression
from nlpcli.errors import NlpcliError


@pytest.fixture
def path(tmp_path):
    """A file with 30 points, y = a + 2 b + noise."""
    numbers = np.random.default_rng(0).normal(size=(30, 3))
    rows = [(a, b, a + 2 * b + c / 10) for a, b, c in numbers.round(3).tolist()]
    found = tmp_path / "points.tsv"
    found.write_text("a\tb\ty\n" + "".join("\t".join(map(repr, row)) + "\n" for row in rows))
    return found


def test_without_a_bandwidth_the_mean_scotts_rule_and_the_learned_width_are_shown():
    regression = example_regression()
    assert [fit.name for fit in regression.fits] == ["mean", "fixed", "learned"]
    key, value = torch.from_numpy(regression.x), torch.from_numpy(regression.y)
    for fit, width in zip(regression.fits[1:], (reference_bandwidth(key), learn_bandwidth(key, value)), strict=True):
        assert fit.bandwidth == tuple(width.tolist())
        wanted = kernel_regression(torch.from_numpy(regression.queries), key, value, width)
        np.testing.assert_allclose(fit.curve, wanted.numpy(), rtol=0, atol=1e-12)


def test_the_first_fit_is_the_mean_of_y():
    regression = example_regression("0.5")
    mean, fixed = regression.fits
    assert (mean.name, mean.label, mean.bandwidth) == ("mean", "mean", (math.inf,))
    np.testing.assert_allclose(mean.curve, regression.y.mean(), rtol=0, atol=1e-12)
    assert (fixed.name, fixed.label, fixed.bandwidth) == ("fixed", "fixed width 0.5", (0.5,))


def test_the_example_is_that_of_the_textbooks_and_its_seed_chooses_the_points():
    regression = example_regression("learn")
    x = regression.x[:, 0]
    assert x.shape == (50,) and (np.diff(x) > 0).all() and x.min() >= 0 and x.max() < 5
    at = regression.queries[:, 0]
    np.testing.assert_allclose(regression.truth, 2 * np.sin(at) + at**0.8)
    residuals = np.concatenate([
        example.y - 2 * np.sin(example.x[:, 0]) - example.x[:, 0] ** 0.8
        for example in (example_regression("1", seed=seed) for seed in range(20))
    ])  # fmt: skip
    assert abs(residuals.mean()) < 0.05 and residuals.std() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(x, example_regression("learn", seed=0).x[:, 0])
    assert not np.array_equal(x, example_regression("learn", seed=1).x[:, 0])


def test_weights_times_values_are_the_curve(path):
    for regression in (example_regression(), file_regression(str(path))):
        for fit in regression.fits:
            assert fit.weights.shape == (len(regression.queries), len(regression.y))
            np.testing.assert_allclose(fit.weights.sum(axis=1), 1, rtol=0, atol=1e-12)
            np.testing.assert_allclose(fit.weights @ regression.y, fit.curve, rtol=0, atol=1e-12)


def test_with_several_columns_the_queries_are_points_in_the_order_of_y(path):
    regression = file_regression(str(path), "0.5,2")
    assert regression.names == ("a", "b", "y") and regression.axes == ("y", "prediction of y")
    assert (np.diff(regression.y) >= 0).all()
    assert np.array_equal(regression.queries, regression.x[regression.query_points])
    assert regression.fits[1].label == "fixed widths 0.5, 2"
    assert regression.fits[1].training_error == pytest.approx(((regression.fits[1].curve - regression.y) ** 2).mean())


@pytest.mark.parametrize(
    ("bandwidth", "message"),
    [
        ("0", "--bandwidth 0 is not possible: a width must be greater than 0"),
        ("-2", "--bandwidth -2 is not possible: a width must be greater than 0"),
        ("1,0", "--bandwidth 0 is not possible"),
        ("1e-60", "--bandwidth 1e-60 is not possible: a width must be greater than 0 and between 1e-50 and 1e+100"),
        ("wide", "--bandwidth needs a number or 'learn', but 'wide' is neither"),
        ("nan", "--bandwidth needs a number or 'learn', but 'nan' is neither"),
        ("1,", "--bandwidth needs a number or 'learn', but '' is neither"),
        ("1,2,3", "--bandwidth 1,2,3 has 3 widths, but x has 2 columns"),
    ],
)
def test_a_bandwidth_that_is_none_is_refused(path, bandwidth, message):
    with pytest.raises(NlpcliError) as refused:
        file_regression(str(path), bandwidth)
    assert refused.value.message.startswith(message)


def test_the_bandwidth_is_checked_before_the_file_is_read():
    with pytest.raises(NlpcliError, match="--bandwidth 0"):
        file_regression("no-such-file.tsv", "0")
