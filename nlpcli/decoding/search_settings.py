"""The settings of beam search and of sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.errors import NlpcliError

LARGEST_BEAM = 10_000


@dataclass(frozen=True)
class BeamSettings:
    """`n_best` hypotheses are given for each sentence, at most `beam_size`; for `patience` see
    `nlpcli.decoding.beam`."""

    beam_size: int = 5
    n_best: int = 1
    patience: float = 1.0
    ranking: Ranking = field(default_factory=Ranking)
    constraints: Constraints = field(default_factory=Constraints)

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise NlpcliError(f"the beam size must be at least 1, not {self.beam_size}")
        if self.beam_size > LARGEST_BEAM:
            raise NlpcliError(f"the beam size must be at most {LARGEST_BEAM:,}, not {self.beam_size:,}")
        if not 1 <= self.n_best <= self.beam_size:
            raise NlpcliError(
                f"--n-best must lie between 1 and the beam size {self.beam_size}, not {self.n_best}",
                hint="use a larger --beam-size, or a smaller --n-best",
            )
        if not self.patience > 0:
            raise NlpcliError(f"patience must be positive, not {self.patience}")

    @property
    def enough(self) -> float:
        """So many finished hypotheses end a sentence."""
        wanted = self.patience * self.beam_size
        return max(self.n_best, math.ceil(wanted)) if wanted < math.inf else math.inf


@dataclass(frozen=True)
class SamplingSettings:
    """p ∝ exp(logits / temperature), then cut by each of the following that is set, in this order, each renormalised.

    - `top_k`: only the k most probable tokens (Fan et al. 2018); 0 keeps all;
    - `top_p`: only the smallest set of most probable tokens with a mass of p (Holtzman et al. 2020); 1 keeps all;
    - `min_p`: only tokens at least `min_p` times as probable as the best one (Nguyen et al. 2024); 0 keeps all.

    Tokens exactly as probable as the last one kept by top_k are kept too.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    constraints: Constraints = field(default_factory=Constraints)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise NlpcliError(
                f"the temperature must be a positive number, not {self.temperature}",
                hint="use greedy search for the most probable text",
            )
        if self.top_k < 0:
            raise NlpcliError(f"--top-k must be at least 0, not {self.top_k}", hint="0 samples from all tokens")
        if not 0 < self.top_p <= 1:
            raise NlpcliError(f"--top-p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise NlpcliError(f"--min-p must lie between 0 and 1, not {self.min_p}")
        if self.seed < 0:
            raise NlpcliError(f"the seed must be at least 0, not {self.seed}")
