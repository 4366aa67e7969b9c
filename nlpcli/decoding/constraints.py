"""Constraints on decoding: suppressed tokens, no repeated n-grams, a minimum length; and a repetition penalty."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from nlpcli.errors import NlpcliError
from nlpcli.text import SpecialTokens

if TYPE_CHECKING:  # settings are made where torch may not be needed at all
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Constraints:
    """Limits on what is written. Nothing is limited by default.

    - `suppress`: ids that are never chosen;
    - `min_length`: the end may not come before that many tokens after the prefix, or after the first `counted_from`
      tokens of it where that is set;
    - `no_repeat_ngram`: no n-gram of this length may occur twice (Paulus et al. 2018, section 2.5); 0 allows all;
    - `repetition_penalty`: logits of tokens already there are divided (if positive) or multiplied by it (Keskar et al.
      2019, section 4.1, in the form that also lowers negative logits); 1 changes nothing.

    The prefix counts as written text. Bans remove choices and leave the other log-probabilities as the model gave them;
    the repetition penalty changes the distribution itself.
    """

    suppress: tuple[int, ...] = ()
    min_length: int = 0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    counted_from: int | None = None

    def __post_init__(self) -> None:
        if self.min_length < 0:
            raise NlpcliError(f"the minimum length must be at least 0, not {self.min_length}")
        if self.no_repeat_ngram < 0:
            raise NlpcliError(f"--no-repeat-ngram must be at least 0, not {self.no_repeat_ngram}")
        if not self.repetition_penalty > 0:
            raise NlpcliError(f"the repetition penalty must be positive, not {self.repetition_penalty}")

    def penalize(self, logits: Tensor, written: Tensor) -> Tensor:
        """The model's logits (rows, vocabulary) after the repetition penalty on tokens that are there, see `seen`."""
        if self.repetition_penalty == 1.0:
            return logits
        lower = (logits / self.repetition_penalty).where(logits > 0, logits * self.repetition_penalty)
        return lower.where(written, logits)

    @property
    def only_suppresses(self) -> bool:
        """Whether nothing is limited but for ids that are never chosen."""
        return not self.min_length and not self.no_repeat_ngram and self.repetition_penalty == 1.0

    def suppressed(self, device: torch.device) -> Tensor:
        """The ids that are never chosen."""
        return _ids(self.suppress, device)

    def ban_(self, logits: Tensor, history: Tensor, eos: int | None, early: Tensor | None) -> Tensor:
        """Sets what may not follow `history` (rows, n) to -inf in `logits` (rows, vocabulary), in place.

        `early` (rows,) is True where the end may not come yet; None: nowhere.
        """
        if self.suppress:
            logits.index_fill_(1, self.suppressed(logits.device), -inf)
        if eos is not None and early is not None:
            logits[:, eos].masked_fill_(early, -inf)
        if self.no_repeat_ngram and history.shape[1] >= self.no_repeat_ngram:
            row, token = repeated_ngrams(history, self.no_repeat_ngram)
            logits[row, token] = -inf
        return logits


def never_written(special: SpecialTokens, *, unknown: bool = False, end: bool = True) -> tuple[int, ...]:
    """The special ids that have no place in a text, to be suppressed: all but the end, if that may be written.

    unknown: the unknown token may be written too.
    """
    allowed = ({special.unk} if unknown else set()) | ({special.eos} if end else set())
    return tuple(sorted(special.all() - allowed))


def seen(history: Tensor, size: int) -> Tensor:
    """(rows, size) boolean, True for the tokens that are in `history` (rows, n); ids below 0 are none."""
    import torch

    found = torch.zeros(len(history), size + 1, dtype=torch.bool, device=history.device)
    return found.scatter_(1, torch.where(history < 0, size, history), True)[:, :size]


@lru_cache(maxsize=16)
def _ids(ids: tuple[int, ...], device: torch.device) -> Tensor:
    import torch

    return torch.tensor(ids, dtype=torch.long, device=device)


def repeated_ngrams(history: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pairs (row, token) such that `token` after `history` (rows, length >= n) would repeat an n-gram of that row."""
    windows = history.unfold(1, n, 1)  # (rows, length - n + 1, n)
    tail = history[:, history.shape[1] - n + 1 :]  # (rows, n - 1)
    row, place = (windows[..., :-1] == tail[:, None]).all(-1).nonzero(as_tuple=True)
    return row, windows[row, place, -1]
