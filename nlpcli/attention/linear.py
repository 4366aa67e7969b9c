"""Linear attention (Katharopoulos et al. 2020): a kernel in the place of the softmax, so that sums can be kept.

    context_i = φ(q_i)ᵀ S_i / φ(q_i)ᵀ z_i        S_i = Σ_j φ(k_j) v_jᵀ        z_i = Σ_j φ(k_j)        φ(x) = elu(x) + 1

Over all keys j, or in a decoder over those up to i: then S and z are all that must be remembered of a text, however
long it is. Whole causal texts are read in chunks: within one the scores are written out, what came before comes out of
S.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpcli.attention.core import ScoreBias, for_heads
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Full, split_causal

_CHUNK = 64


@dataclass(frozen=True)
class RunningSums:
    """Σ φ(k) vᵀ (rows, heads, d_key, d_value) and Σ φ(k) (rows, heads, d_key) of what was read, in float32 at least."""

    length: int = 0
    products: Tensor | None = None
    keys: Tensor | None = None

    def select(self, index: Tensor) -> RunningSums:
        if self.products is None or self.keys is None:
            return self
        return RunningSums(self.length, self.products.index_select(0, index), self.keys.index_select(0, index))

    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.products, self.keys) if part is not None)


class LinearAttention:
    """An `AttentionCore` whose cost grows with n, not with n². scale: has no meaning here."""

    def __init__(self, *, scale: bool = True) -> None:
        del scale

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
        with _without_autocast(query):
            key, value = for_heads(key, query.size(1)), for_heads(value, query.size(1))
            q, k, v = _features(query), _seen(_features(key), mask), _whole(value)
            if _causal(mask):
                found, _ = _chunks(q, k, v, RunningSums())
            else:
                found = _divided(q @ (k.transpose(2, 3) @ v), q @ k.sum(2)[..., None])
        return found.to(query.dtype)

    def start(self, mask: AttentionMask) -> RunningSums:
        return RunningSums()

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: RunningSums,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, RunningSums]:
        with _without_autocast(query):
            key, value = for_heads(key, query.size(1)), for_heads(value, query.size(1))
            found, after = _chunks(_features(query), _features(key), _whole(value), state)
        return found.to(query.dtype), after

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: RunningSums | None = None,
    ) -> Tensor:
        """Of a whole text: sums don't keep the keys apart, so there are none after a state.

        Raises: ValueError for a state that has read something.
        """
        if state is not None and state.length:
            raise ValueError("linear attention has no weights of single positions in a state, only their sums")
        key = for_heads(key, query.size(1))
        scores = _features(query) @ _seen(_features(key), mask).transpose(2, 3)
        if _causal(mask):
            scores = scores.tril(key.size(2) - query.size(2))
        return _divided(scores, scores.sum(-1, keepdim=True)).to(query.dtype)


def _chunks(query: Tensor, key: Tensor, value: Tensor, before: RunningSums) -> tuple[Tensor, RunningSums]:
    """Causal attention of features after `before`, and the sums with all of them."""
    rows, heads, n, width = query.shape
    lacking = -n % _CHUNK if n > _CHUNK else 0
    size = min(n, _CHUNK)
    # (rows, heads, chunks, size, width); features of zero add nothing
    q, k, v = (F.pad(x, (0, 0, 0, lacking)).unflatten(2, (-1, size)) for x in (query, key, value))
    products, keys = k.transpose(3, 4) @ v, k.sum(3)
    first = value.new_zeros(rows, heads, width, value.size(-1)) if before.products is None else before.products
    first_keys = value.new_zeros(rows, heads, width) if before.keys is None else before.keys
    products = torch.cat((first[:, :, None], products), dim=2).cumsum(2)
    keys = torch.cat((first_keys[:, :, None], keys), dim=2).cumsum(2)
    scores = (q @ k.transpose(3, 4)).tril()
    above = scores @ v + q @ products[:, :, :-1]
    below = scores.sum(-1, keepdim=True) + q @ keys[:, :, :-1, :, None]
    context = _divided(above, below).flatten(2, 3)[:, :, :n]
    return context, RunningSums(before.length + n, products[:, :, -1].clone(), keys[:, :, -1].clone())


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _features(x: Tensor) -> Tensor:
    return F.elu(_whole(x)) + 1


def _whole(x: Tensor) -> Tensor:
    """In float32 at least: sums over a text are too long for half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _seen(features: Tensor, mask: AttentionMask) -> Tensor:
    """Padding is hidden after the features, since φ(0) is 1."""
    return features if mask.keys is None else features * mask.keys[:, None, :, None]


def _divided(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 where nothing is seen."""
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)


def _causal(mask: AttentionMask) -> bool:
    """Raises: ValueError for a mask that a sum over keys can't keep to."""
    causal, rest = split_causal(mask.pattern)
    if rest != Full() or mask.documents is not None or mask.permutation is not None:
        raise ValueError("linear attention does not support patterns, document masks or permutations")
    return causal
