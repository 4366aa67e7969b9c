"""Kernel regression against plain loops, statsmodels, attention, and what is known of its limits."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.kernel_regression import (
    kernel_regression,
    kernel_weights,
    learn_bandwidth,
    leave_one_out_error,
    reference_bandwidth,
    training_error,
)
from nlpcli.attention.softmax import softmax_attention


def points(seed: int, n: int = 50, columns: int = 1, noise: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """y = 2 sin x + x^0.8 + noise of the first column of x."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, columns, generator=generator, dtype=torch.float64) * 5
    first = x[:, 0]
    return x, 2 * first.sin() + first**0.8 + torch.randn(n, generator=generator, dtype=torch.float64) * noise


def by_loops(query, key, value, bandwidth, hidden=None) -> list[float]:
    """f(x) in plain Python; `hidden`: the number of the point that each query must not use."""
    found = []
    for number, x in enumerate(query.tolist()):
        above = below = 0.0
        for i, (x_i, y_i) in enumerate(zip(key.tolist(), value.tolist(), strict=True)):
            if hidden is not None and i == number:
                continue
            square = sum(((a - b) / h) ** 2 for a, b, h in zip(x, x_i, bandwidth, strict=True))
            kernel = math.exp(-square / 2)
            above, below = above + kernel * y_i, below + kernel
        found.append(above / below)
    return found


@given(st.integers(0, 1000), st.integers(1, 3), st.floats(0.3, 5))
def test_predictions_and_errors_are_those_of_plain_loops(seed, columns, width):
    key, value = points(seed, 20, columns)
    query, _ = points(seed + 1, 7, columns)
    bandwidth = torch.tensor([width * (1 + number) for number in range(columns)], dtype=torch.float64)
    found = kernel_regression(query, key, value, bandwidth).tolist()
    assert found == pytest.approx(by_loops(query, key, value, bandwidth.tolist()), abs=1e-10)
    for error, hidden in ((training_error, None), (leave_one_out_error, True)):
        predicted = by_loops(key, key, value, bandwidth.tolist(), hidden)
        wanted = sum((a - b) ** 2 for a, b in zip(predicted, value.tolist(), strict=True)) / len(predicted)
        assert error(key, value, bandwidth).item() == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize(("columns", "bandwidth"), [(1, [0.25]), (1, [0.7]), (2, [0.6, 1.1]), (3, [0.9, 0.8, 2.0])])
def test_it_is_the_local_constant_regression_of_statsmodels(columns, bandwidth):
    theirs = pytest.importorskip("statsmodels.nonparametric.kernel_regression", reason="parity needs the extra 'test'")
    key, value = points(3, 50, columns)
    query, _ = points(4, 20, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the random numbers that it does not use here
        model = theirs.KernelReg(value.numpy(), key.numpy(), "c" * columns, reg_type="lc", bw=np.array(bandwidth))
    width = torch.tensor(bandwidth, dtype=torch.float64)
    found = kernel_regression(query, key, value, width).numpy()
    np.testing.assert_allclose(found, model.fit(query.numpy())[0], rtol=0, atol=1e-10)
    left_out = model.cv_loo(np.array(bandwidth), model.est["lc"]).item()
    assert leave_one_out_error(key, value, width).item() == pytest.approx(left_out, abs=1e-10)


def test_it_is_attention_with_a_gaussian_score():
    """−|q − k|² / 2 = q · k − |k|² / 2 − |q|² / 2, of which the last is the same for all keys."""
    key, value = points(5, 30, 2)
    query, _ = points(6, 9, 2)
    width = torch.tensor([0.5, 0.8], dtype=torch.float64)
    q, k = query / width, key / width
    bias = -k.square().sum(-1)[None, None, None] / 2
    context = softmax_attention(q[None, None], k[None, None], value[None, None, :, None], bias=bias, scale=1.0)
    torch.testing.assert_close(context.flatten(), kernel_regression(query, key, value, width), rtol=0, atol=1e-12)


def test_an_infinite_width_is_the_mean_and_a_narrow_one_the_nearest_neighbor():
    key, value = points(7, 30, 2)
    query, _ = points(8, 9, 2)
    wide = torch.full((2,), math.inf, dtype=torch.float64)
    assert torch.equal(kernel_weights(query, key, wide), torch.full((9, 30), 1 / 30, dtype=torch.float64))
    narrow = kernel_regression(query, key, value, torch.tensor(1e-6, dtype=torch.float64))
    assert torch.equal(narrow, value[torch.cdist(query, key).argmin(dim=1)])
    assert training_error(key, value, torch.tensor(1e-6, dtype=torch.float64)) == 0


@pytest.mark.parametrize("width", [1e-50, 1e-3, 1.0, 1e100, math.inf])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e100])
def test_weights_are_finite_and_sum_to_one_at_any_width(width, size):
    key, _ = points(9, 12)
    weights = kernel_weights(key[:5] * size, key * size, torch.tensor(width, dtype=torch.float64))
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_gradient_of_the_leave_one_out_error_is_that_of_finite_differences():
    key, value = points(10, 15, 2)
    key = torch.cat([key, key[:2]])  # points at distance 0
    value = torch.cat([value, value[:2] + 1])
    log_width = torch.tensor([-0.5, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda log: leave_one_out_error(key, value, log.exp()), (log_width,))


@pytest.mark.parametrize("seed", range(8))
def test_a_learned_width_fits_the_training_points_better_and_is_less_smooth(seed):
    key, value = points(seed)
    grid = torch.linspace(0, 5, 101, dtype=torch.float64)[:, None]
    fixed, learned = reference_bandwidth(key), learn_bandwidth(key, value)

    def roughness(width):
        return kernel_regression(grid, key, value, width).diff(n=2).square().sum()

    assert training_error(key, value, learned) < training_error(key, value, fixed)
    assert leave_one_out_error(key, value, learned) < leave_one_out_error(key, value, fixed)
    assert roughness(learned) > roughness(fixed)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_width_has_a_smaller_leave_one_out_error(seed):
    key, value = points(seed, 40)
    least = leave_one_out_error(key, value, learn_bandwidth(key, value))
    for width in torch.logspace(-1.5, 1, 60, dtype=torch.float64):
        assert leave_one_out_error(key, value, width) > least - 1e-9


def test_a_column_that_y_does_not_depend_on_gets_a_wide_kernel():
    key, value = points(11, 120, 2, noise=0.1)
    first, second = (learn_bandwidth(key, value) / reference_bandwidth(key)).tolist()
    assert first < 0.5 and second > 3


def test_noise_alone_gets_a_wide_kernel():
    generator = torch.Generator().manual_seed(12)
    key = torch.rand(60, 1, generator=generator, dtype=torch.float64)
    value = torch.randn(60, generator=generator, dtype=torch.float64)
    assert learn_bandwidth(key, value) > 3 * reference_bandwidth(key)


@pytest.mark.parametrize("value", [[1.0, 1.0, 1.0], [0.0, 0.0, 1e100]])
def test_extreme_points_have_a_finite_width(value):
    key = torch.tensor([[-1e100], [0.0], [1e100]], dtype=torch.float64)
    for some in (key, key * 1e-150):
        assert learn_bandwidth(some, torch.tensor(value, dtype=torch.float64)).isfinite().all()


def test_scotts_rule_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for columns in (1, 3):
        key, _ = points(13, 40, columns)
        wanted = stats.gaussian_kde(key.T.numpy(), bw_method="scott").factor * key.numpy().std(axis=0, ddof=1)
        np.testing.assert_allclose(reference_bandwidth(key).numpy(), wanted, rtol=1e-12)
