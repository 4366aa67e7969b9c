"""Kernel regression: attention before neural networks, with numbers as queries, keys and values.

    f(x) = Σ_i α(x, x_i) y_i        α(x, x_i) = softmax_i(−‖(x − x_i) / h‖² / 2)

Nadaraya 1964, Watson 1964, with a Gaussian kernel of width h: x is the query, the x_i are the keys, the y_i the values.
An infinite width gives every key the same weight, so that f(x) is the mean of y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STARTS = (1, 2, 1 / 2, 4, 1 / 4, 8, 1 / 8, 1 / 16)
_RANGE = 1e3
_STEPS = 50


def kernel_weights(query: Tensor, key: Tensor, bandwidth: Tensor, *, hidden: Tensor | None = None) -> Tensor:
    """α(query, key): (n, m) for queries (n, d) and keys (m, d); each row sums to 1.

    bandwidth: the width h > 0, (d,) one for each column of x, or one number for all. hidden: (n, m), True where a query
    must not use a key; each query needs a key that is not hidden.
    """
    distance = torch.cdist(query / bandwidth, key / bandwidth, compute_mode="donot_use_mm_for_euclid_dist")
    if hidden is not None:
        distance = distance.masked_fill(hidden, math.inf)
    nearest = distance.detach().amin(dim=-1, keepdim=True)
    scores = -(distance - nearest) * (distance + nearest) / 2  # −distance² / 2 plus a constant, which softmax ignores
    return scores.softmax(dim=-1)


def kernel_regression(query: Tensor, key: Tensor, value: Tensor, bandwidth: Tensor) -> Tensor:
    """f(query): (q,) for queries (q, d), keys (n, d) and values (n,)."""
    return kernel_weights(query, key, bandwidth) @ value


def training_error(key: Tensor, value: Tensor, bandwidth: Tensor) -> Tensor:
    """The mean of (f(x_i) − y_i)². It falls to 0 with the width, since each y_i is then predicted from itself."""
    return (kernel_regression(key, key, value, bandwidth) - value).square().mean()


def leave_one_out_error(key: Tensor, value: Tensor, bandwidth: Tensor) -> Tensor:
    """The mean of (f_{−i}(x_i) − y_i)², where f_{−i} does without point i: an estimate of the error on new points.

    Source: least-squares cross-validation (Clark 1975; Härdle and Marron 1985).
    """
    itself = torch.eye(len(key), dtype=torch.bool, device=key.device)
    predicted = kernel_weights(key, key, bandwidth, hidden=itself) @ value
    return (predicted - value).square().mean()


def reference_bandwidth(key: Tensor) -> Tensor:
    """Scott's rule for a fixed width: h = σ n^(−1/(d + 4)), (d,) for keys (n, d) with standard deviations σ.

    It looks at x only. Source: Scott 1992, eq. 6.42.
    """
    n, d = key.shape
    return key.std(dim=0) * n ** (-1 / (d + 4))


def learn_bandwidth(key: Tensor, value: Tensor) -> Tensor:
    """The width, one for each column of x (d,), that the gradient of the leave-one-out error leads to.

    The training error can't be used: it is smallest at width 0. Dive into Deep Learning (Zhang et al. 2021, section
    10.2.4) hides the same pairs, each point from itself, when it trains a width. The error has several minima (Hall and
    Marron 1991), so training begins at the best of eight multiples of Scott's rule. The width stays within a factor of
    1,000 of that rule: where y does not depend on a column, its best width is infinite.
    """
    start = reference_bandwidth(key).log()
    low, high = start - math.log(_RANGE), start + math.log(_RANGE)

    def error_at(place: Tensor) -> Tensor:
        return leave_one_out_error(key, value, place.clamp(low, high).exp())

    best = min((start + math.log(factor) for factor in _STARTS), key=lambda place: float(error_at(place)))
    least = float(error_at(best))
    place = best.clone().requires_grad_()  # a width whose logarithm is trained stays positive
    optimizer = torch.optim.LBFGS([place], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = error_at(place) / (least or 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = place.detach()
    return (found if float(error_at(found)) <= least else best).clamp(low, high).exp()
