"""Length normalization and coverage penalty, to compare hypotheses of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpcli.errors import NlpcliError, unknown

if TYPE_CHECKING:  # a ranking is made where torch may not be needed at all
    from torch import Tensor

NORMALIZATIONS = ("wu", "average")


@dataclass(frozen=True)
class Ranking:
    """score(Y, X) = log p(Y | X) / lp(Y) + cp(X, Y), with |Y| tokens, the end counted and the prefix not.

    - `wu`: lp(Y) = (5 + |Y|)^α / (5 + 1)^α (Wu et al. 2016, eq. 14); α = 0 ranks by probability alone;
    - `average`: lp(Y) = |Y|^α; α = 1 is the mean log-probability of a token;
    - cp(X, Y) = β Σ_i log min(Σ_j p_ij, 1), p_ij the attention to source position i while writing token j.

    α is `length_penalty`, β `coverage_penalty`.
    """

    length_penalty: float = 1.0
    normalization: str = "wu"
    coverage_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise unknown("length normalization", self.normalization, NORMALIZATIONS)
        if not -10 <= self.length_penalty <= 10:
            raise NlpcliError(f"the length penalty must be between -10 and 10, not {self.length_penalty:g}")
        if self.coverage_penalty < 0:
            raise NlpcliError(f"the coverage penalty must be at least 0, not {self.coverage_penalty}")

    def divisor(self, length: int) -> float:
        """lp(Y) for |Y| = length >= 1."""
        if self.normalization == "average":
            return float(length) ** self.length_penalty
        return ((5 + length) / 6) ** self.length_penalty

    def score(self, logprob: float, length: int, coverage: float = 0.0) -> float:
        """`coverage`: Σ_i log min(Σ_j p_ij, 1), see `log_coverage`."""
        return logprob / self.divisor(length) + self.coverage_penalty * coverage

    def bound(self, logprob: float, length: int, limit: int) -> float:
        """No hypothesis of at most `limit` tokens that continues one of `length` - 1 tokens scores above this.

        Each further token can only lower `logprob`, which is negative, so the largest divisor gives the bound.
        """
        return logprob / max(self.divisor(length), self.divisor(limit))


def log_coverage(received: Tensor) -> Tensor:
    """Σ_i log min(c_i, 1) of the attention each source position received: (rows, positions) -> (rows,).

    A position that received nothing, as hard or local attention leaves some, counts as the smallest number there is, so
    that the sum stays finite. Padding counts as covered: it must have received 1.
    """
    import torch

    return received.clamp(torch.finfo(received.dtype).tiny, 1.0).log().sum(-1)
