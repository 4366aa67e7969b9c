"""Synthesizer (Tay et al. 2021): scores that are made for positions, not out of a query and a key.

    score(i, j) = w_j · relu(q_i) + b_j                     dense: out of the token that looks, q_i = W x_i
                  A(q_i)[j div b] · B(q_i)[j mod b]         factorized dense: A and B of about √length numbers each
                  R[i, j]                                   random: a trained table, the same for all texts
                  u_i · v_j                                 factorized random: a table of rank K
                  α R[i, j] + β q_i · k_j / √d              mixed: random and dot product, α + β = 1, trained

Each head has its own. There is a parameter for each position, so that no text can be longer than `length`. The softmax
is that of all: scores that are inner products go through its kernel as such, the others as numbers added to scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpcli.attention.core import ScoreBias
from nlpcli.attention.key_value_cache import KeyValueCache, Positions
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.softmax import SoftmaxAttention


@dataclass(frozen=True)
class Scores:
    """Scores as query · key + bias: queries (rows, heads, n, width), keys (rows, heads, m, width)."""

    query: Tensor
    key: Tensor
    bias: ScoreBias | None = None


class Synthesizer(nn.Module):
    """An `AttentionCore` whose subclasses define the scores.

    length: of the longest text. width: of the queries and keys that scores are products of; as the fused kernel wants
    those as wide as values, the narrower ones are padded with zeros.
    """

    def __init__(self, *, length: int, heads: int, d_key: int, width: int = 0) -> None:
        super().__init__()
        self.length, self.heads, self.d_key = length, heads, d_key
        self.width = max(width, d_key)
        self.softmax = SoftmaxAttention(scale=False)

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        """The scores of the queries at the positions `places` and the keys at `key_places`."""
        raise NotImplementedError

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        made = self._made(query, key, 0)
        found = self.softmax.forward(made.query, made.key, self._wide(value), mask, bias=made.bias, dropout=dropout)
        return found[..., : value.size(-1)]

    def start(self, mask: AttentionMask) -> KeyValueCache:
        return self.softmax.start(mask)

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: KeyValueCache,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        made = self._made(query, key, state.length)
        found, after = self.softmax.step(made.query, made.key, self._wide(value), state, mask, bias=made.bias)
        return found[..., : value.size(-1)], after

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: KeyValueCache | None = None,
    ) -> Tensor:
        made = self._made(query, key, 0 if state is None else state.length)
        return self.softmax.weights(made.query, made.key, mask, bias=made.bias, state=state)

    def _made(self, query: Tensor, key: Tensor, start: int) -> Scores:
        """The scores of keys from position `start` on, and of the queries, which are the last of them.

        Raises: ValueError for a text that is too long.
        """
        end = start + key.size(2)
        if end > self.length:
            raise ValueError(f"the text has {end} tokens, but Synthesizer has scores for {self.length}")
        made = self.scores(query, key, slice(end - query.size(2), end), slice(start, end))
        return Scores(self._wide(made.query), self._wide(made.key), made.bias)

    def _wide(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, max(self.width - x.size(-1), 0)))


class DenseSynthesizer(Synthesizer):
    """score(i, j) = w_j · relu(q_i) + b_j; the column of ones that b is multiplied with is part of the query."""

    def __init__(self, *, length: int, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(length=length, heads=heads, d_key=d_key, width=d_key + 1)
        self.weight = nn.Parameter(torch.randn(heads, length, d_key) * d_key**-0.5)
        self.bias = nn.Parameter(torch.zeros(heads, length))

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        made = torch.cat((query.relu(), query.new_ones(*query.shape[:-1], 1)), dim=-1)
        table = torch.cat((self.weight, self.bias[..., None]), dim=-1)[:, key_places]
        return Scores(made, _for_rows(table, query))


class FactorizedDenseSynthesizer(Synthesizer):
    """score(i, j) = A(q_i)[j div b] · B(q_i)[j mod b], with A and B two linear layers over relu(q_i)."""

    def __init__(self, *, length: int, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(length=length, heads=heads, d_key=d_key)
        self.inner = math.isqrt(length - 1) + 1  # b, the root of length rounded up
        outer = -(-length // self.inner)
        self.outer_weight = nn.Parameter(torch.randn(heads, d_key, outer) * d_key**-0.5)
        self.outer_bias = nn.Parameter(torch.ones(heads, 1, outer))
        self.inner_weight = nn.Parameter(torch.randn(heads, d_key, self.inner) * d_key**-0.5)
        self.inner_bias = nn.Parameter(torch.ones(heads, 1, self.inner))

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        hidden = query.relu()
        outer = hidden @ self.outer_weight.to(hidden) + self.outer_bias.to(hidden)
        inner = hidden @ self.inner_weight.to(hidden) + self.inner_bias.to(hidden)
        bias = _FactorsBias(outer, inner, places.start)
        return Scores(query.new_zeros(query.shape), query.new_zeros(*key.shape[:3], self.d_key), bias)


class RandomSynthesizer(Synthesizer):
    """score(i, j) = R[i, j]."""

    def __init__(self, *, length: int, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(length=length, heads=heads, d_key=d_key)
        self.table = nn.Parameter(torch.randn(heads, length, length))

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        empty = query.new_zeros(*query.shape[:3], 1), query.new_zeros(*key.shape[:3], 1)
        return Scores(*empty, _TableBias(self.table))


class FactorizedRandomSynthesizer(Synthesizer):
    """score(i, j) = u_i · v_j, vectors of `rank` numbers."""

    def __init__(self, rank: int, *, length: int, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(length=length, heads=heads, d_key=d_key, width=rank)
        self.left = nn.Parameter(torch.randn(heads, length, rank) * rank**-0.25)
        self.right = nn.Parameter(torch.randn(heads, length, rank) * rank**-0.25)

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        return Scores(_for_rows(self.left[:, places], query), _for_rows(self.right[:, key_places], query))


class MixedSynthesizer(Synthesizer):
    """score(i, j) = α R[i, j] + (1 − α) q_i · k_j / √d, with α = sigmoid(mixture) of each head."""

    def __init__(self, *, length: int, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__(length=length, heads=heads, d_key=d_key)
        self.scale = d_key**-0.5 if scale else 1.0
        self.table = nn.Parameter(torch.randn(heads, length, length))
        self.mixture = nn.Parameter(torch.zeros(heads, 1, 1))

    def scores(self, query: Tensor, key: Tensor, places: slice, key_places: slice) -> Scores:
        share = self.mixture.sigmoid()
        return Scores(query * (self.scale * (1 - share)).to(query.dtype), key, _TableBias(share * self.table))


class _TableBias:
    """A `ScoreBias` out of a table (heads, length, length)."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def dense(self, n: int, m: int) -> Tensor:
        return self.table[None, :, m - n : m, :m]

    def between(self, query: Positions, key: Positions) -> Tensor:
        return self.at(query.tensor(self.table.device), key.tensor(self.table.device))

    def at(self, query: Tensor, key: Tensor) -> Tensor:
        return self.table[None, :, query[:, None], key]


class _FactorsBias:
    """A `ScoreBias` out of A (rows, heads, n, a) and B (rows, heads, n, b) of the queries from position `start` on."""

    def __init__(self, outer: Tensor, inner: Tensor, start: int) -> None:
        self.outer, self.inner, self.start = outer, inner, start

    def dense(self, n: int, m: int) -> Tensor:
        return (self.outer[..., None] * self.inner[..., None, :]).flatten(3)[..., :m]

    def between(self, query: Positions, key: Positions) -> Tensor:
        return self.at(query.tensor(self.outer.device), key.tensor(self.outer.device))

    def at(self, query: Tensor, key: Tensor) -> Tensor:
        own, width = query - self.start, self.inner.size(-1)
        return self.outer[:, :, own][..., key // width] * self.inner[:, :, own][..., key % width]


def _for_rows(table: Tensor, query: Tensor) -> Tensor:
    """(heads, n, width) for each row of the queries: (rows, heads, n, width)."""
    return table.to(query.dtype).expand(query.size(0), *table.shape)
