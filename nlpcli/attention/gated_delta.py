"""The gated delta rule (Yang et al. 2024, 2025): a matrix is the memory, and each token corrects the value of a key.

    S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ        context_t = S_tᵀ q_t

Linear attention only adds to its sums, so that the values of different keys blur. Here a token first removes the share
β of the value that the matrix has for its key, and the whole matrix decays by α. Both are between 0 and 1 and computed
from the token. Queries and keys pass a convolution over the last four positions of each
feature and SiLU, and have norm 1.

A whole text is read in chunks. With γ_t the product of the α of a chunk up to t, its rows u_t = β_t (v_t − α_t S_{t−1}ᵀ
k_t) solve a triangular system, (I + A) U = diag(β) (V − diag(γ) K S) with A_ti = β_t γ_t / γ_i k_t·k_i for i < t (2024,
section 3; 2025, section 3.3); only S goes from chunk to chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpcli.attention.core import ScoreBias
from nlpcli.attention.linear import in_float32, is_causal, without_autocast
from nlpcli.attention.masks import AttentionMask

_CHUNK = 64
_TAPS = 4
_SLOWEST, _FASTEST = 1e-3, 1e-1
"""Initial decay of each head's matrix per token: the first head decays least."""


@dataclass(frozen=True)
class DeltaState:
    """The matrix S (rows, heads, d_key, d_value) in float32 at least, and the last queries and keys (rows, heads, up to
    3, d_key) before their convolution."""

    length: int = 0
    matrix: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None

    def select(self, index: Tensor) -> DeltaState:
        parts = (None if x is None else x.index_select(0, index) for x in (self.matrix, self.queries, self.keys))
        return DeltaState(self.length, *parts)

    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.matrix, self.queries, self.keys) if part is not None)


@dataclass(frozen=True)
class _Read:
    """Convolved queries and keys of norm 1, log α and β (rows, heads, n), in float32 at least."""

    query: Tensor
    key: Tensor
    decay: Tensor
    strength: Tensor


class GatedDeltaAttention(nn.Module):
    """An `AttentionCore`, causal only; the last two numbers of a key are those that α and β are made of.

    heads, d_key: of queries. scale: has no meaning here.
    """

    def __init__(self, *, heads: int, d_key: int, scale: bool = True) -> None:
        super().__init__()
        del scale
        first = torch.zeros(_TAPS, heads, 1, d_key)
        first[0] = 1.0
        self.query_taps = nn.Parameter(first + 0.1 * torch.randn(_TAPS, heads, 1, d_key))
        self.key_taps = nn.Parameter(first + 0.1 * torch.randn(_TAPS, heads, 1, d_key))
        rates = torch.logspace(0, 1, heads, base=_FASTEST / _SLOWEST) * _SLOWEST
        self.decay_bias = nn.Parameter(rates.expm1().log()[:, None])  # softplus gives the rates
        self.strength_bias = nn.Parameter(torch.zeros(heads, 1))

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
        _check(mask)
        context, _ = self._after(query, key, value, DeltaState(), mask.keys)
        return context

    def start(self, mask: AttentionMask) -> DeltaState:
        return DeltaState()

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: DeltaState,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, DeltaState]:
        return self._after(query, key, value, state, None)

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: DeltaState | None = None,
    ) -> Tensor:
        """The weights of a whole text; they may be negative, and need not sum to 1.

        Raises: ValueError for a state that has read something.
        """
        if state is not None and state.length:
            raise ValueError("the gated delta rule has no weights of single positions in a state, only their matrix")
        _check(mask)
        with without_autocast(query):
            read = self._read(query, key[..., :-2], key[..., -2:], DeltaState(), mask.keys)
            decays = _decays(read.decay)
            solved = _solve(read, decays, torch.diag_embed(read.strength))
            found = ((read.query @ read.key.transpose(2, 3)) * decays) @ solved
        return found.to(query.dtype)

    def _after(
        self, query: Tensor, key: Tensor, value: Tensor, state: DeltaState, tokens: Tensor | None
    ) -> tuple[Tensor, DeltaState]:
        key, gates = key[..., :-2], key[..., -2:]
        with without_autocast(query):
            read = self._read(query, key, gates, state, tokens)
            context, matrix = _chunks(read, in_float32(value), state.matrix)
        after = DeltaState(state.length + query.size(2), matrix, _last(query, state.queries), _last(key, state.keys))
        return context.to(query.dtype), after

    def _read(self, query: Tensor, key: Tensor, gates: Tensor, state: DeltaState, tokens: Tensor | None) -> _Read:
        gates = in_float32(gates)
        decay = -F.softplus(gates[..., 0] + self.decay_bias)
        strength = (gates[..., 1] + self.strength_bias).sigmoid()
        if tokens is not None:  # padding changes nothing
            decay, strength = decay * tokens[:, None], strength * tokens[:, None]
        return _Read(
            _convolved(query, self.query_taps, state.queries),
            _convolved(key, self.key_taps, state.keys),
            decay,
            strength,
        )


def _check(mask: AttentionMask) -> None:
    if not is_causal(mask, "the gated delta rule"):
        raise ValueError("the gated delta rule reads a text from left to right only")


def _convolved(x: Tensor, taps: Tensor, before: Tensor | None) -> Tensor:
    """SiLU of Σ_i taps[i] x_{t−i}, made to have norm 1: (rows, heads, n, width)."""
    n, x = x.size(2), in_float32(x)
    held = 0 if before is None else before.size(2)
    whole = x if before is None else torch.cat((before.to(x.dtype), x), dim=2)
    whole = F.pad(whole, (0, 0, _TAPS - 1 - held, 0))
    parts = [tap * whole[:, :, _TAPS - 1 - i : _TAPS - 1 - i + n] for i, tap in enumerate(taps.unbind(0))]
    found = torch.stack(parts).sum(0)
    return F.normalize(F.silu(found), dim=-1)


def _last(x: Tensor, before: Tensor | None) -> Tensor:
    """The last positions that the next convolution reads, in memory of their own."""
    whole = x if before is None else torch.cat((before, x), dim=2)
    return whole[:, :, -(_TAPS - 1) :].clone()


def _decays(decay: Tensor) -> Tensor:
    """γ_t / γ_i for i <= t, else 0: (…, n) logarithms -> (…, n, n)."""
    sums = decay.cumsum(-1)
    n = decay.size(-1)
    later = torch.ones(n, n, dtype=torch.bool, device=decay.device).triu(1)
    return (sums[..., :, None] - sums[..., None, :]).masked_fill(later, float("-inf")).exp()


def _solve(read: _Read, decays: Tensor, right: Tensor) -> Tensor:
    """(I + A)⁻¹ `right`."""
    products = (read.key * read.strength[..., None]) @ read.key.transpose(-2, -1)
    below = (products * decays).tril(-1)
    return torch.linalg.solve_triangular(below, right, upper=False, unitriangular=True)


def _chunks(read: _Read, value: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """The context of n positions after the matrix `before`, and the matrix after them."""
    rows, heads, n, width = read.key.shape
    size, lacking = min(n, _CHUNK), -n % _CHUNK if n > _CHUNK else 0

    def cut(x: Tensor) -> Tensor:  # (rows, heads, chunks, size, …); what is lacking has β = 0 and α = 1
        return F.pad(x, (0, 0) * (x.dim() - 3) + (0, lacking)).unflatten(2, (-1, size))

    own = _Read(cut(read.query), cut(read.key), cut(read.decay), cut(read.strength))
    decays, sums = _decays(own.decay), own.decay.cumsum(-1).exp()[..., None]
    right = torch.cat((cut(value), own.key * sums), dim=-1) * own.strength[..., None]
    new, old = _solve(own, decays, right).split((value.size(-1), width), dim=-1)  # U is new − old S
    scores = (own.query @ own.key.transpose(-2, -1)) * decays
    queries, keys = own.query * sums, own.key * decays[..., -1, :, None]
    matrix = value.new_zeros(rows, heads, width, value.size(-1)) if before is None else before
    contexts = []
    for q, k, score, u, w, decay in zip(
        *(x.unbind(2) for x in (queries, keys.transpose(3, 4), scores, new, old, sums[..., -1:, :])), strict=True
    ):
        rest = u - w @ matrix
        contexts.append(q @ matrix + score @ rest)
        matrix = decay * matrix + k @ rest
    return torch.cat(contexts, dim=2)[:, :, :n], matrix
