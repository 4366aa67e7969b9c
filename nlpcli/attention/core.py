"""The interface of attention mechanisms that layers, decoding and pictures use."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

from nlpcli.attention.key_value_cache import Positions
from nlpcli.attention.masks import AttentionMask


def for_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values (rows, kv_heads, m, width), each repeated for the consecutive heads of queries that share it."""
    return x if x.size(1) == heads else x.repeat_interleave(heads // x.size(1), dim=1)


class DecodingState(Protocol):
    """The decoding state of one layer: a value, which no step changes."""

    @property
    def length(self) -> int:
        """Positions read so far."""
        ...

    def select(self, index: Tensor) -> DecodingState:
        """The state whose row i is row index[i] of this one: selects, repeats or drops rows."""
        ...

    def bytes(self) -> int:
        """The memory it takes."""
        ...


State = TypeVar("State", bound=DecodingState)


class ScoreBias(Protocol):
    """The position term of scores, for one pass through all layers that share it."""

    def dense(self, n: int, m: int) -> Tensor:
        """(1, heads, n, m), or what broadcasts to it, for the last n queries of m keys."""
        ...

    def between(self, query: Positions, key: Positions) -> Tensor:
        """The same for the queries and keys at chosen positions, worked out once."""
        ...

    def at(self, query: Tensor, key: Tensor) -> Tensor:
        """The same for any positions (n,) and (m,)."""
        ...


class AttentionCore(Protocol[State]):
    """Context out of queries, keys and values, all (rows, heads, length, width); n queries are the last of m keys.

    Keys and values of a kind with `groups` may have fewer heads, each for as many consecutive heads of queries.
    A row without any visible key gives zeros. The core stores nothing: the state contains what was read.
    """

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
        """The context (rows, heads, n, d_value) of a whole text; no state is made."""
        ...

    def start(self, mask: AttentionMask) -> State:
        """The state before the first position, for a mask that is only a pattern."""
        ...

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: State,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
    ) -> tuple[Tensor, State]:
        """The context of the n >= 1 positions after those of `state`, whose keys and values are given, and the state
        after them. Every cut of a text into steps gives what `forward` gives."""
        ...

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        state: State | None = None,
    ) -> Tensor:
        """The weights (rows, heads, n, m) that `forward` applies to the values, with gradients; weights @ value is the
        context. With a state those of the step after it, over all m positions so far."""
        ...


class SequenceMixer(Protocol[State]):
    """A layer's part in which positions meet: states (rows, n, d_model) in, states of the same shape out."""

    def __call__(self, x: Tensor, mask: AttentionMask | None = None, *, bias: ScoreBias | None = None) -> Tensor:
        """A whole text; no state is made."""
        ...

    def start(self) -> State:
        """The state before the first position."""
        ...

    def step(self, x: Tensor, state: State, *, bias: ScoreBias | None = None) -> tuple[Tensor, State]:
        """The positions after those of `state`, and the state after them."""
        ...
