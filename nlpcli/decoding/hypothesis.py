"""The result of a search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One continuation of a prefix.

    `ids` are the new tokens, without the prefix and without the end. `logprob` is log p(ids, end | prefix, source) in
    nats under the model itself; `score` is what the search ranked by (`logprob` where it ranked by that). `ended` is
    False when the length limit cut it; `end` is the token that ended it, where a search reports it.
    """

    ids: tuple[int, ...]
    score: float
    logprob: float
    ended: bool
    end: int | None = None
