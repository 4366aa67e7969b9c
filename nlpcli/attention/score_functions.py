"""Score functions: how well a query matches a key, before the softmax.

A score is split into what it makes of queries, what it makes of keys (once for all queries), and what it makes of both.
Dot, scaled dot, general, cosine and Gaussian scores are inner products of the two, so that attention with them goes
through the fused softmax kernel exactly, with a scale of 1. Additive and concat scores need a number for each query,
key and hidden unit; they are computed in blocks of queries, so that this tensor is never whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 20  # numbers of a block of (queries, keys, hidden units)


class Score(nn.Module):
    """score(q, k) for queries (rows, heads, n, d_query) and keys (rows, heads, m, d_key): (rows, heads, n, m).

    Every head has parameters of its own.
    """

    is_product: ClassVar[bool] = False
    """Whether `between(q, k)` is q kᵀ, up to a number for each query, which no softmax sees."""

    def queries(self, query: Tensor) -> Tensor:
        """The features of queries for `between`: (rows, heads, n, features)."""
        return query

    def keys(self, key: Tensor) -> Tensor:
        """The features of keys for `between`: (rows, heads, m, features)."""
        return key

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (rows, heads, n, m) of what `queries` and `keys` give."""
        raise NotImplementedError

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (rows, heads, n, m)."""
        return self.between(self.queries(query), self.keys(key))


class ProductScore(Score):
    """A score that is the inner product of what it makes of query and key."""

    is_product: ClassVar[bool] = True

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.transpose(-2, -1)


class DotScore(ProductScore):
    """q · k (Luong et al. 2015, eq. 8)."""

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1) -> None:
        super().__init__()
        _same_width("dot", d_query, d_key)


class ScaledDotScore(ProductScore):
    """q · k / √d (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1) -> None:
        super().__init__()
        _same_width("scaled-dot", d_query, d_key)
        self.scale = d_key**-0.5

    def queries(self, query: Tensor) -> Tensor:
        return query * self.scale


class GeneralScore(ProductScore):
    """qᵀ W k (Luong et al. 2015, eq. 8)."""

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1) -> None:
        super().__init__()
        self.weight = _matrices(heads, d_key, d_query)

    def keys(self, key: Tensor) -> Tensor:
        return _per_head(key, self.weight)


class CosineScore(ProductScore):
    """cos(q, k) / τ with a trained temperature τ > 0 (Graves et al. 2014, eq. 6).

    temperature: τ before training.
    """

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1, temperature: float = 0.1) -> None:
        super().__init__()
        _same_width("cosine", d_query, d_key)
        self.log_temperature = nn.Parameter(torch.full((heads, 1, 1), math.log(temperature)))

    def queries(self, query: Tensor) -> Tensor:
        return nn.functional.normalize(query, dim=-1) * (-self.log_temperature).exp()

    def keys(self, key: Tensor) -> Tensor:
        return nn.functional.normalize(key, dim=-1)


class GaussianScore(ProductScore):
    """-|q - k|² / 2σ² with a trained bandwidth σ > 0, less -|q|² / 2σ², which is the same for all keys.

    As an inner product: [q; 1] · [k / σ²; -|k|² / 2σ²]. bandwidth: σ before training; None: d^¼, with which q · k has
    the weight that it has in scaled dot products. Source: kernel regression (Nadaraya 1964; Watson 1964).
    """

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1, bandwidth: float | None = None) -> None:
        super().__init__()
        _same_width("gaussian", d_query, d_key)
        self.log_bandwidth = nn.Parameter(torch.full((heads, 1, 1), math.log(bandwidth or d_key**0.25)))

    def queries(self, query: Tensor) -> Tensor:
        return torch.cat((query, torch.ones_like(query[..., :1])), dim=-1)

    def keys(self, key: Tensor) -> Tensor:
        precision = (-2 * self.log_bandwidth).exp()
        squares = key.square().sum(dim=-1, keepdim=True)
        return torch.cat((key * precision, squares * precision * -0.5), dim=-1)


class AdditiveScore(Score):
    """vᵀ tanh(W q + U k) (Bahdanau et al. 2015, appendix A.1.2). hidden: units of the layer; None: d_key."""

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or d_key
        self.query_weight = _matrices(heads, d_query, hidden)
        self.key_weight = _matrices(heads, d_key, hidden)
        self.vector = _matrices(heads, hidden, 1)

    def queries(self, query: Tensor) -> Tensor:
        return _per_head(query, self.query_weight)

    def keys(self, key: Tensor) -> Tensor:
        return _per_head(key, self.key_weight)

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        return tanh_scores(query, key, self.vector)


class ConcatScore(Score):
    """vᵀ tanh(W [q; k]) (Luong et al. 2015, eq. 8). hidden: units of the layer; None: d_key."""

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or d_key
        self.d_query = d_query
        self.weight = _matrices(heads, d_query + d_key, hidden)
        self.vector = _matrices(heads, hidden, 1)

    def queries(self, query: Tensor) -> Tensor:
        return _per_head(query, self.weight[:, : self.d_query])

    def keys(self, key: Tensor) -> Tensor:
        return _per_head(key, self.weight[:, self.d_query :])

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        return tanh_scores(query, key, self.vector)


class LocationScore(Score):
    """W q, whose number j is the score of the key at position j, whatever it is (Luong et al. 2015, eq. 8).

    positions: rows of W; keys behind them have a weight of 0.
    """

    def __init__(self, d_query: int, d_key: int, *, heads: int = 1, positions: int = 256) -> None:
        super().__init__()
        self.weight = _matrices(heads, d_query, positions)

    def queries(self, query: Tensor) -> Tensor:
        return _per_head(query, self.weight)

    def between(self, query: Tensor, key: Tensor) -> Tensor:
        behind = key.size(-2) - query.size(-1)
        return nn.functional.pad(query, (0, behind), value=-math.inf)  # cuts where `behind` is negative


SCORES: dict[str, Callable[..., Score]] = {
    "dot": DotScore,
    "scaled-dot": ScaledDotScore,
    "general": GeneralScore,
    "additive": AdditiveScore,
    "concat": ConcatScore,
    "cosine": CosineScore,
    "gaussian": GaussianScore,
    "location": LocationScore,
}
"""Name -> class, made with (d_query, d_key, heads=…)."""


def tanh_scores(query: Tensor, key: Tensor, vector: Tensor) -> Tensor:
    """vᵀ tanh(q_i + k_j) for all i and j: (rows, heads, n, m).

    Shapes: query (rows, heads, n, d), key (rows, heads, m, d), vector (heads, d, 1).
    """
    query, key = _of_one_type(query, key)
    vector = vector.to(query.dtype)
    size = query.size(0) * query.size(1) * key.size(2) * key.size(3)
    block = max(1, _BLOCK // max(size, 1))
    if query.size(2) <= block:
        return _tanh_scores(query, key, vector)
    found: Tensor = _TanhScores.apply(query, key, vector, block)
    return found


def _tanh_scores(query: Tensor, key: Tensor, vector: Tensor) -> Tensor:
    summed = (query[:, :, :, None] + key[:, :, None]).tanh()  # (rows, heads, n, m, d)
    if vector.size(0) == 1:
        return (summed @ vector[0]).squeeze(-1)
    return torch.einsum("rhnmd,hd->rhnm", summed, vector.squeeze(-1))


class _TanhScores(torch.autograd.Function):
    """`_tanh_scores` in blocks of queries, whose hidden units are computed again for the gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, vector: Tensor, block: int) -> Tensor:  # autograd's context
        ctx.save_for_backward(query, key, vector)
        ctx.block = block
        return torch.cat([_tanh_scores(part, key, vector) for part in query.split(block, dim=2)], dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # as above
        query, key, vector = ctx.saved_tensors
        of_key, of_vector = torch.zeros_like(key), torch.zeros_like(vector)
        of_query = []
        for part, slope in zip(query.split(ctx.block, dim=2), gradient.split(ctx.block, dim=2), strict=True):
            with torch.enable_grad():
                leaves = [x.detach().requires_grad_() for x in (part, key, vector)]
                found = torch.autograd.grad(_tanh_scores(*leaves), leaves, slope)
            of_query.append(found[0])
            of_key += found[1]
            of_vector += found[2]
        return torch.cat(of_query, dim=2), of_key, of_vector, None


def _matrices(heads: int, rows: int, columns: int) -> nn.Parameter:
    """(heads, rows, columns), uniform after Glorot and Bengio 2010."""
    bound = math.sqrt(6 / (rows + columns))
    return nn.Parameter(torch.empty(heads, rows, columns).uniform_(-bound, bound))


def _per_head(x: Tensor, weight: Tensor) -> Tensor:
    """(rows, heads, n, d) times (heads, d, e)."""
    if weight.size(0) == 1:
        return x @ weight[0]  # one product for all rows
    return torch.einsum("rhnd,hde->rhne", x, weight)


def _of_one_type(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    wider = torch.promote_types(query.dtype, key.dtype)
    return query.to(wider), key.to(wider)


def _same_width(name: str, d_query: int, d_key: int) -> None:
    """Raises: ValueError where a score has no parameters that could bring both to one width."""
    if d_query != d_key:
        raise ValueError(f"the score '{name}' needs queries as wide as keys, not {d_query} and {d_key}")
