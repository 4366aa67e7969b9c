"""Linear attention (Katharopoulos et al. 2020): a kernel in the place of the softmax, so that sums can be kept.

    context_i = φ(q_i)ᵀ S_i / φ(q_i)ᵀ z_i        S_i = Σ_j φ(k_j) v_jᵀ        z_i = Σ_j φ(k_j)        φ(x) = elu(x) + 1

Over all keys j, or in a decoder over those up to i: then S and z are all that must be remembered of a text, however
long it is. Whole causal texts are read in chunks: within one the scores are written out, what came before comes out of
S.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nlpcli.attention.chunking import checkpointed, chunks
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
    """An `AttentionCore` whose cost grows with n, not with n². scale: has no meaning here.

    Other kernels are subclasses, with features of their own, which are not negative and in float32 at least.
    """

    def __init__(self, *, scale: bool = True) -> None:
        del scale

    def query_features(self, query: Tensor) -> Tensor:
        """φ(q) (rows, heads, n, features); a positive factor of all features of one query has no effect."""
        return F.elu(in_float32(query)) + 1

    def key_features(self, key: Tensor) -> Tensor:
        """φ(k) (rows, heads, m, features)."""
        return F.elu(in_float32(key)) + 1

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
        with without_autocast(query):
            key, value = for_heads(key, query.size(1)), for_heads(value, query.size(1))
            if is_causal(mask, "linear attention"):
                found, _ = self._causal(query, key, value, RunningSums(), mask.keys)
            else:
                found = self._both_ways(query, key, value, mask.keys)
        return found.to(query.dtype)

    def _both_ways(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tensor | None) -> Tensor:
        products: Tensor | None = None
        keys: Tensor | None = None
        for part in chunks(key, value, tokens):
            more, more_keys = checkpointed(key.size(2), self._sums, *part)
            products = more if products is None else products + more
            keys = more_keys if keys is None else keys + more_keys
        found = [checkpointed(query.size(2), self._read, *part, products, keys) for part in chunks(query)]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def _sums(self, key: Tensor, value: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        features = _seen(self.key_features(key), tokens)
        return features.transpose(2, 3) @ in_float32(value), features.sum(2)

    def _read(self, query: Tensor, products: Tensor, keys: Tensor) -> Tensor:
        features = self.query_features(query)
        return _divided(features @ products, features @ keys[..., None])

    def _causal(
        self, query: Tensor, key: Tensor, value: Tensor, state: RunningSums, tokens: Tensor | None
    ) -> tuple[Tensor, RunningSums]:
        contexts, length = [], state.length + query.size(2)
        products, keys = state.products, state.keys
        for *own, seen in chunks(query, key, value, tokens):
            context, products, keys = checkpointed(query.size(2), self._after, *own, products, keys, seen)
            contexts.append(context)
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2), RunningSums(length, products, keys)

    def _after(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        products: Tensor | None,
        keys: Tensor | None,
        tokens: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = _seen(self.key_features(key), tokens)
        return _chunks(self.query_features(query), features, in_float32(value), products, keys)

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
        with without_autocast(query):
            key, value = for_heads(key, query.size(1)), for_heads(value, query.size(1))
            found, after = self._causal(query, key, value, state, None)
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
        """The weights of a whole text: sums don't keep the keys apart, so there are none after a state.

        Raises: ValueError for a state that has read something.
        """
        if state is not None and state.length:
            raise ValueError("linear attention has no weights of single positions in a state, only their sums")
        key = for_heads(key, query.size(1))
        scores = self.query_features(query) @ _seen(self.key_features(key), mask.keys).transpose(2, 3)
        if is_causal(mask, "linear attention"):
            scores = scores.tril(key.size(2) - query.size(2))
        return _divided(scores, scores.sum(-1, keepdim=True)).to(query.dtype)


def _chunks(
    query: Tensor, key: Tensor, value: Tensor, before: Tensor | None, keys_before: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention of features after the sums of products and of keys before, and the sums with all of them."""
    rows, heads, n, width = query.shape
    lacking = -n % _CHUNK if n > _CHUNK else 0
    size = min(n, _CHUNK)
    # (rows, heads, chunks, size, width); features of zero add nothing
    q, k, v = (F.pad(x, (0, 0, 0, lacking)).unflatten(2, (-1, size)) for x in (query, key, value))
    products, keys = k.transpose(3, 4) @ v, k.sum(3)
    first = value.new_zeros(rows, heads, width, value.size(-1)) if before is None else before
    first_keys = value.new_zeros(rows, heads, width) if keys_before is None else keys_before
    products, keys = prefix_sums(first, products), prefix_sums(first_keys, keys)
    scores = (q @ k.transpose(3, 4)).tril()
    above = scores @ v + q @ products[:, :, :-1]
    below = scores.sum(-1, keepdim=True) + q @ keys[:, :, :-1, :, None]
    context = _divided(above, below).flatten(2, 3)[:, :, :n]
    return context, products[:, :, -1].clone(), keys[:, :, -1].clone()


def prefix_sums(first: Tensor, parts: Tensor) -> Tensor:
    """first, first + parts[0], first + parts[0] + parts[1], …: (rows, heads, …) and (rows, heads, k, …) ->
    (rows, heads, k + 1, …)."""
    sums: Tensor = _PrefixSums.apply(first, parts)
    return sums


class _PrefixSums(torch.autograd.Function):
    """One addition after the other: `cumsum` over a dimension that is not the last one takes several times as long."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, parts: Tensor) -> Tensor:
        sums = parts.new_empty(*parts.shape[:2], parts.shape[2] + 1, *parts.shape[3:])
        sums[:, :, 0] = first
        for place, part in enumerate(parts.unbind(2)):
            torch.add(sums[:, :, place], part, out=sums[:, :, place + 1])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.empty_like(gradient[:, :, 1:])
        total = torch.zeros_like(gradient[:, :, 0])
        for place in range(gradient.shape[2] - 1, 0, -1):
            total = torch.add(total, gradient[:, :, place], out=parts[:, :, place - 1])
        return gradient[:, :, 0] + total, parts


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Keeps automatic mixed precision from the sums over a text."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def in_float32(x: Tensor) -> Tensor:
    """In float32 at least: sums over a text are too long for half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _seen(features: Tensor, tokens: Tensor | None) -> Tensor:
    """Padding is hidden after the features, since φ(0) is 1."""
    return features if tokens is None else features * tokens[:, None, :, None]


def _divided(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 where nothing is seen."""
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)


def is_causal(mask: AttentionMask, what: str) -> bool:
    """Raises: ValueError for a mask that a sum over keys can't keep to. what: attends so."""
    causal, rest = split_causal(mask.pattern)
    if rest != Full() or mask.documents is not None or mask.permutation is not None:
        raise ValueError(f"{what} does not support patterns, document masks or permutations")
    return causal
