"""`--kernel-regression`: the points, the widths, and what each regression makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nlpcli.attention.kernel_regression import (
    kernel_weights,
    learn_bandwidth,
    leave_one_out_error,
    reference_bandwidth,
    training_error,
)
from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_float
from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.open_text import display_name
from nlpcli.data.regression_points import read_points
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted, shortened
from nlpcli.visualization.kernel_regression_data import Fit, Regression

LEARN = "learn"
_EXAMPLE = "2 sin x + x^0.8"
_POINTS, _RANGE, _NOISE = 50, 5.0, 0.5
_QUERIES = 101
_LONGEST_NAME = 60
_MOST_QUERY_POINTS = 200
_NARROWEST, _WIDEST = 1e-50, 1e100
_DOUBLE = torch.float64


def example_regression(bandwidth: str | None = None, *, seed: int = 0) -> Regression:
    """The example of the textbooks: 50 points of y = 2 sin x + x^0.8 + noise with standard deviation 0.5, x in [0, 5).

    bandwidth: see `file_regression`. Raises: NlpcliError for a bandwidth that is none.
    Source: Zhang et al. 2021, Dive into Deep Learning, section 10.2.
    """
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(_POINTS, 1, generator=generator, dtype=_DOUBLE) * _RANGE).sort(dim=0).values
    noise = torch.randn(_POINTS, generator=generator, dtype=_DOUBLE) * _NOISE
    data = f"{_POINTS} points of y = {_EXAMPLE} + noise (seed {seed})"
    return _regression(data, ("x", "y"), x, _example(x) + noise, bandwidth, truth=_example)


def file_regression(path: str, bandwidth: str | None = None) -> Regression:
    """The regressions on the points of a file, see `read_points`.

    bandwidth: a width, several with commas (one for each column of x), or "learn"; None: a fixed width by Scott's rule
    and the learned one. The mean of y is always the first.
    Raises: NlpcliError as `read_points`, and for a bandwidth that is none or does not fit the columns.
    """
    _widths(bandwidth)  # before anything is read
    points = read_points(path)
    x, y = torch.tensor(points.x, dtype=_DOUBLE), torch.tensor(points.y, dtype=_DOUBLE)
    order = (x[:, 0] if x.size(1) == 1 else y).argsort(stable=True)
    data = f"{counted(len(y), 'point')} of {shortened(display_name(path), _LONGEST_NAME)}"
    return _regression(data, points.names, x[order], y[order], bandwidth)


def _example(x: Tensor) -> Tensor:
    return (2 * x.sin() + x**0.8).squeeze(1)


def _regression(
    data: str,
    names: tuple[str, ...],
    x: Tensor,
    y: Tensor,
    bandwidth: str | None,
    *,
    truth: Callable[[Tensor], Tensor] | None = None,
) -> Regression:
    chosen = None
    if x.size(1) == 1:
        queries = torch.linspace(float(x.min()), float(x.max()), _QUERIES, dtype=_DOUBLE)[:, None]
    else:
        chosen = torch.tensor(evenly_spaced(len(x), _MOST_QUERY_POINTS))
        queries = x[chosen]
    fits = tuple(_fit(name, width, x, y, queries) for name, width in _bandwidths(x, y, bandwidth))
    return Regression(
        data=data,
        names=names,
        x=x.numpy(),
        y=y.numpy(),
        queries=queries.numpy(),
        fits=fits,
        query_points=None if chosen is None else chosen.numpy(),
        truth=None if truth is None else truth(queries).numpy(),
    )


def _bandwidths(x: Tensor, y: Tensor, bandwidth: str | None) -> Iterator[tuple[str, Tensor]]:
    """The name of each fit and its widths (d,)."""
    columns = x.size(1)
    widths = _widths(bandwidth)
    if widths is not None and len(widths) not in (1, columns):
        raise NlpcliError(
            f"--bandwidth {bandwidth} has {counted(len(widths), 'width')}, but x has {counted(columns, 'column')}",
            hint="give one width for all columns, or one for each",
        )
    yield "mean", torch.full((columns,), math.inf, dtype=_DOUBLE)
    if widths is not None:
        yield "fixed", torch.tensor(widths, dtype=_DOUBLE).expand(columns)
        return
    if bandwidth is None:
        yield "fixed", reference_bandwidth(x)
    yield "learned", learn_bandwidth(x, y)


def _widths(bandwidth: str | None) -> list[float] | None:
    """The numbers of `--bandwidth`; None for none and for "learn"."""
    if bandwidth is None or bandwidth == LEARN:
        return None
    found = []
    for part in bandwidth.split(","):
        width = parse_float(part)
        if width is None:
            raise NlpcliError(
                f"--bandwidth needs a number or '{LEARN}', but {quoted(part)} is neither",
                hint=f"write --bandwidth 0.5, --bandwidth 0.5,2 (one for each column of x) or --bandwidth {LEARN}",
            )
        if not _NARROWEST <= width <= _WIDEST:
            raise NlpcliError(
                f"--bandwidth {part.strip()} is not possible: a width must be greater than 0"
                + (f" and between {_NARROWEST:g} and {_WIDEST:g}" if width > 0 else "")
            )
        found.append(width)
    return found


def _fit(name: str, bandwidth: Tensor, x: Tensor, y: Tensor, queries: Tensor) -> Fit:
    weights = kernel_weights(queries, x, bandwidth)
    return Fit(
        name=name,
        bandwidth=tuple(bandwidth.tolist()),
        curve=(weights @ y).numpy(),
        weights=weights.numpy(),
        training_error=float(training_error(x, y, bandwidth)),
        leave_one_out_error=float(leave_one_out_error(x, y, bandwidth)),
    )
