"""Attention masks in their parts: a pattern, padding, documents, a prediction order.

A mask is not a matrix: attention cores request only the parts that they need. `dense` is the matrix, for short texts,
pictures, and as the reference in tests.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.patterns import Full, split_causal

_FULL = Full()
_CACHED = 1 << 22  # elements of the largest matrix that is cached for the next call


@dataclass(frozen=True)
class AttentionMask:
    """A query sees a key where all parts allow it; n queries are the last n of m keys.

    pattern: by position. keys (sources, m): True where there is a token, None where there is no padding. Padding is
    at the end. documents (rows, m): only equal numbers see each other. permutation (rows, n, m): True where the query
    may attend to the key, in XLNet's prediction order; only for softmax attention. whole: layers with a causal pattern
    also attend to later tokens.
    """

    pattern: Pattern = _FULL
    keys: Tensor | None = None
    documents: Tensor | None = None
    permutation: Tensor | None = None
    whole: bool = False

    def within(self, pattern: Pattern) -> AttentionMask:
        """The same, where `pattern`, that of a layer, allows it besides."""
        if self.whole:
            pattern = split_causal(pattern)[1]
        return replace(self, pattern=pattern & self.pattern if self.pattern != Full() else pattern)

    @functools.cached_property
    def causality(self) -> tuple[bool, Pattern]:
        """Whether the pattern is causal besides, and the rest of it."""
        return split_causal(self.pattern)

    @functools.cached_property
    def _padding(self) -> Tensor | None:
        return None if self.keys is None else self.keys[:, None, None, :]

    def dense(self, n: int, m: int, *, device: torch.device | str = "cpu") -> Tensor | None:
        """Boolean, True = may attend, broadcasting to (rows, heads, n, m); None where everything may be seen."""
        return _both(self._by_position(self.pattern, n, m, device), self.content(n, m))

    def split(self, n: int, m: int, *, device: torch.device | str = "cpu") -> tuple[bool, Tensor | None]:
        """As `dense`, causality apart: whether the mask is causal besides, and the rest."""
        causal, rest = self.causality
        if rest == _FULL and self.documents is None and self.permutation is None:
            return causal, self._padding
        return causal, _both(self._by_position(rest, n, m, device), self.content(n, m))

    def lengths(self) -> Tensor:
        """(sources,): how far the tokens of each row reach, where there is padding."""
        assert self.keys is not None
        places = torch.arange(1, self.keys.size(1) + 1, device=self.keys.device)
        return (self.keys * places).amax(dim=1)

    def behind(self, count: int) -> AttentionMask:
        """The same for `count` more tokens before each text, which belong to all of it."""
        assert self.documents is None and self.permutation is None
        keys = None if self.keys is None else torch.nn.functional.pad(self.keys, (count, 0), value=True)
        return replace(self, keys=keys)

    def cut(self, rows: Tensor, length: int) -> AttentionMask:
        """The mask of some rows, for their first `length` positions alone."""
        keys, documents = (None if x is None else x[rows, :length] for x in (self.keys, self.documents))
        return AttentionMask(self.pattern, None if keys is None or bool(keys.all()) else keys, documents)

    def content(self, n: int, m: int) -> Tensor | None:
        """The mask of all parts but the pattern, in the form of `dense`."""
        found = self._padding
        if self.documents is not None:
            own = self.documents[:, None, m - n :, None] == self.documents[:, None, None, :]
            found = _both(found, own)
        if self.permutation is not None:
            found = _both(found, self.permutation[:, None])
        return found

    def _by_position(self, pattern: Pattern, n: int, m: int, device: torch.device | str) -> Tensor | None:
        if pattern == _FULL:
            return None
        if not pattern.depends_on_length or self.keys is None:
            return dense_pattern(pattern, n, m, torch.device(device))
        # Padding is not part of a text, and sees nothing.
        lengths = self.lengths().tolist()
        found = {length: dense_pattern(pattern, length, length, torch.device(device)) for length in set(lengths)}
        rows = torch.zeros(len(lengths), 1, m, m, dtype=torch.bool, device=device)
        for row, length in enumerate(lengths):
            own = found[length]
            rows[row, 0, :length, :length] = True if own is None else own
        return rows[:, :, m - n :]


def dense_pattern(pattern: Pattern, n: int, m: int, device: torch.device) -> Tensor | None:
    """`pattern.dense`, and None where everything may be seen. Layers share it: it must not be written to."""
    return _cached_pattern(pattern, n, m, device) if n * m <= _CACHED else _dense_pattern(pattern, n, m, device)


def _dense_pattern(pattern: Pattern, n: int, m: int, device: torch.device) -> Tensor | None:
    with torch.inference_mode(False):  # what was made while translating must serve training, too
        found = pattern.dense(n, m, device=device)
    return None if found.device.type != "meta" and bool(found.all()) else found


_cached_pattern = functools.lru_cache(maxsize=16)(_dense_pattern)


def _both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return left if right is None else right
    return left & right
