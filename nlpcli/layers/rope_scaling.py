"""Rotary positions for texts longer than those in training: the angles change less from position to position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RopeScaling:
    """How the rates (angle per position) of rotary positions are changed; L is `original_max_length`.

    linear: all rates divided by `factor` (Chen et al. 2023). dynamic: theta grows with the text once it is longer than
    L, so that slow rates shrink most (NTK-aware, bloc97 2023). llama3: rates with wavelengths above
    L / `low_freq_factor` are divided, those below L / `high_freq_factor` are not, and in between there is a ramp
    (Llama 3.1). yarn: rates that turn less than `beta_slow` times within L are divided, those of more than `beta_fast`
    turns are not, on a ramp over their numbers, `truncate`d to whole ones; queries and keys are multiplied by
    `attention_factor`, by default 0.1 ln(factor) + 1 (Peng et al. 2024).

    original_max_length: None for the model's own longest text in training.
    """

    method: str
    factor: float
    original_max_length: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def fixed_until(self, longest: int) -> float:
        """The length up to which the angles don't depend on how long a text is."""
        return self._original(longest) if self.method == "dynamic" else math.inf

    def theta(self, theta: float, width: int, length: int, longest: int) -> float:
        """The base of the angles in a text of `length` tokens. width: of what is turned. longest: in training."""
        if length <= self.fixed_until(longest):
            return theta
        stretched = self.factor * length / self._original(longest) - (self.factor - 1)
        return theta * stretched ** (width / (width - 2))

    def rates(self, rates: Tensor, theta: float, longest: int) -> Tensor:
        """The rates (width / 2,) after scaling."""
        if self.method == "linear":
            return rates / self.factor
        if self.method == "llama3":
            turns = self._original(longest) * rates / (2 * math.pi)
            kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        elif self.method == "yarn":
            kept = 1 - self._ramp(len(rates), theta, self._original(longest))
        else:
            return rates
        kept = kept.clamp(0, 1)
        return kept * rates + (1 - kept) * rates / self.factor

    def factor_of_scores(self) -> float:
        """The factor of queries and keys."""
        if self.method != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1 if self.factor > 1 else 1.0

    def _ramp(self, pairs: int, theta: float, original: int) -> Tensor:
        """From 0 at the number of the rate that turns `beta_fast` times to 1 at that of `beta_slow` times."""
        width = 2 * pairs

        def number(turns: float) -> float:
            return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = number(self.beta_fast), number(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        return (torch.arange(pairs, dtype=torch.float64) - low) / ((high - low) or 0.001)

    def _original(self, longest: int) -> int:
        return self.original_max_length or longest
