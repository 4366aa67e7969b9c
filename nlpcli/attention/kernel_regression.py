"""Kernel regression: attention before neural networks, with numbers as queries, keys and values.

    f(x) = Σ_i α(x, x_i) y_i        α(x, x_i) = softmax_i(−‖(x − x_i) / h‖² / 2)

Nadaraya 1964, Watson 1964, with a Gaussian kernel of width h: x is the query, the x_i are the keys, the y_i the values.
An infinite width gives every key the same weight, so that f(x) is the mean of y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_STARTS = tuple(2.0**power for power in range(-4, 4))
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


class KernelRegression(nn.Module):
    """Nadaraya–Watson regression on the points key (n, d) and value (n,); its width is a parameter that can be trained.

    bandwidth: h as in `kernel_weights`, where training begins.
    """

    def __init__(self, key: Tensor, value: Tensor, bandwidth: Tensor) -> None:
        super().__init__()
        self.register_buffer("key", key)
        self.register_buffer("value", value)
        self.log_bandwidth = nn.Parameter(bandwidth.log())  # a width stays positive in whatever direction it is trained
        self.key: Tensor
        self.value: Tensor

    @property
    def bandwidth(self) -> Tensor:
        return self.log_bandwidth.exp()

    def weights(self, query: Tensor) -> Tensor:
        """α: (q, n) for queries (q, d)."""
        return kernel_weights(query, self.key, self.bandwidth)

    def forward(self, query: Tensor) -> Tensor:
        """f(query): (q,) for queries (q, d)."""
        return self.weights(query) @ self.value

    def training_error(self) -> Tensor:
        """The mean of (f(x_i) − y_i)². It falls to 0 with the width, since each y_i is then predicted from itself."""
        return (self(self.key) - self.value).square().mean()

    def leave_one_out_error(self) -> Tensor:
        """The mean of (f_{−i}(x_i) − y_i)², where f_{−i} does without point i: an estimate of the error on new points.

        Source: least-squares cross-validation (Clark 1975; Härdle and Marron 1985).
        """
        itself = torch.eye(len(self.key), dtype=torch.bool, device=self.key.device)
        predicted = kernel_weights(self.key, self.key, self.bandwidth, hidden=itself) @ self.value
        return (predicted - self.value).square().mean()


def reference_bandwidth(key: Tensor) -> Tensor:
    """Scott's rule for a fixed width: h = σ n^(−1/(d + 4)), (d,) for keys (n, d) with standard deviations σ.

    It looks at x only. Source: Scott 1992, eq. 6.42.
    """
    n, d = key.shape
    return key.std(dim=0) * n ** (-1 / (d + 4))


def learn_bandwidth(regression: KernelRegression) -> None:
    """Trains the width, one for each column of x, by the gradient of the leave-one-out error.

    The training error itself is smallest at width 0; hiding each point from itself is what makes the width learnable
    (Zhang et al. 2023, Dive into Deep Learning, the parametric attention pooling of the edition of 2021, leaves out the
    same pairs). The error has several minima (Hall and Marron 1991), so training begins at the best of eight multiples
    of the given width. The width stays within a factor of 1,000 of the given one: where y does not depend on x, the
    best width is infinite.
    """
    start = regression.log_bandwidth.detach().clone()
    low, high = start - math.log(_RANGE), start + math.log(_RANGE)
    parameter = regression.log_bandwidth

    @torch.no_grad()
    def error_at(place: Tensor) -> float:
        parameter.copy_(place.clamp(low, high))
        return float(regression.leave_one_out_error())

    best = min((start + math.log(factor) for factor in _STARTS), key=error_at)
    error = error_at(best)
    scale = error or 1.0
    optimizer = torch.optim.LBFGS([parameter], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.no_grad():
            parameter.clamp_(low, high)
        loss = regression.leave_one_out_error() / scale
        loss.backward()
        return loss

    optimizer.step(closure)
    found = parameter.detach().clone()
    if not error_at(found) <= error:
        error_at(best)
