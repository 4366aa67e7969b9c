"""Masking for masked language modeling (Devlin et al. 2019, section 3.1; SpanBERT: Joshi et al. 2020, section 3.1).

15 % of the tokens are to be predicted. Of these 80 % are replaced by the mask, 10 % by a random token, and 10 % stay as
they are, so that no token that is read is certain to be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nlpcli.errors import NlpcliError, unknown
from nlpcli.objectives.noise import Symbols, budget

UNITS = ("token", "word", "span")
_TABLE = 1 << 10


class Masked(NamedTuple):
    """corrupted (n,) is read; targets (k,) are the ids that stood at `places` (k,), in order."""

    corrupted: np.ndarray
    places: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden. Special tokens are never hidden, and never put in place of others.

    rate: the share of the ordinary tokens (spans: words) that is to be predicted, exact on average however short the
        text is, except that an example with any ordinary token has at least one to predict.
    mask_share, random_share: of the hidden ones, those replaced by the mask and by a random ordinary token.
    unit: `token`: each token is chosen on its own. `word`: all tokens of a word are hidden together; what replaces
        them is sampled token by token (Devlin et al., whole-word masking of the released code). `span`: runs of whole
        words; what replaces them is sampled once for the run (Joshi et al.).
    span_p, span_max: the length of a span in words is geometric, P(l) ∝ (1 - span_p)^(l - 1) for l up to span_max
        (mean 3.8 for 0.2 and 10). Spans neither overlap nor touch, and begin wherever they fit, so that the outermost
        words of a text are hidden less often; a special token inside cuts one in two.

    Raises: NlpcliError for a setting that makes no sense.
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    unit: str = "token"
    span_p: float = 0.2
    span_max: int = 10

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("masking unit", self.unit, UNITS)
        for name in ("rate", "span_p"):
            if not 0 < getattr(self, name) < 1:
                raise NlpcliError(f"masking: {name} must be between 0 and 1, not {getattr(self, name):g}")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise NlpcliError(
                "masking: mask_share and random_share must be at least 0 and their sum at most 1, "
                f"not {self.mask_share:g} and {self.random_share:g}"
            )
        if self.span_max < 1:
            raise NlpcliError(f"masking: span_max must be at least 1 word, not {self.span_max}")

    @property
    def needs_words(self) -> bool:
        return self.unit != "token"

    def __call__(
        self, ids: np.ndarray, rng: np.random.Generator, symbols: Symbols, starts: np.ndarray | None = None
    ) -> Masked:
        """Hides tokens of ids (n,); nothing of its arguments but the generator changes.

        starts (n,) bool: where words begin, for the units that need it; without it each token is a word.
        """
        ordinary = np.flatnonzero(~symbols.is_special[ids])
        if len(ordinary) == 0:
            return Masked(ids.copy(), ordinary, ids[:0].copy())
        places, group = self._choose(ordinary, starts, rng)
        fate = rng.random(int(group[-1]) + 1)[group]  # one number for all that are replaced alike
        corrupted = ids.copy()
        corrupted[places[fate < self.mask_share]] = symbols.special.mask
        at_random = places[(fate >= self.mask_share) & (fate < self.mask_share + self.random_share)]
        corrupted[at_random] = symbols.random_ids(len(at_random), rng)
        return Masked(corrupted, places, ids[places])

    def _choose(
        self, ordinary: np.ndarray, starts: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The places to predict (k,), in order, and which of them (k,) share a fate, counted from 0."""
        count = len(ordinary)
        if self.unit == "token":
            chosen = rng.choice(count, max(budget(count, self.rate, rng), 1), replace=False, shuffle=False)
            return np.sort(ordinary[chosen]), np.arange(len(chosen))
        if starts is None:
            word = np.arange(count)
        else:  # a word ends before a special token
            word = np.cumsum(starts[ordinary] | (np.diff(ordinary, prepend=-2) > 1)) - 1
        sizes = np.bincount(word)
        if self.unit == "word":
            hidden = self._words(sizes, max(budget(count, self.rate, rng), 1), rng)[word]
            return ordinary[hidden], np.arange(int(hidden.sum()))
        span = self._spans(len(sizes), rng)[word]
        return ordinary[span >= 0], span[span >= 0]

    @staticmethod
    def _words(sizes: np.ndarray, tokens: int, rng: np.random.Generator) -> np.ndarray:
        """(words,) bool: words in random order until they hold `tokens` tokens, at least one word.

        The word that would go beyond is taken with the probability that makes the mean number exact.
        """
        order = rng.permutation(len(sizes))
        held = np.cumsum(sizes[order])
        taken = int(np.searchsorted(held, tokens, side="right"))
        if taken < len(order):
            before = int(held[taken - 1]) if taken else 0
            taken += int(rng.random() < (tokens - before) / sizes[order[taken]])
        hidden = np.zeros(len(sizes), dtype=bool)
        hidden[order[: max(taken, 1)]] = True
        return hidden

    def _spans(self, words: int, rng: np.random.Generator) -> np.ndarray:
        """(words,) which span each word is in, counted from 0 in order; -1 for those that stay."""
        lengths = self._lengths(words, rng)
        free = words - int(lengths.sum()) - (len(lengths) - 1)  # words that need not stand between two spans
        # a row of items, each a word that stays or a span with the word after it; any order is as likely as any other
        first = np.sort(rng.choice(free + len(lengths), len(lengths), replace=False, shuffle=False))
        first = first + np.cumsum(lengths) - lengths
        span = np.full(words, -1)
        within = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        span[within] = np.repeat(np.arange(len(lengths)), lengths)
        return span

    def _lengths(self, words: int, rng: np.random.Generator) -> np.ndarray:
        """Lengths of spans that hide `rate` of the words on average: sampled until a threshold is reached.

        Nothing is cut to fit, for that would make short spans of long ones; the threshold makes up for what goes
        beyond. Where even one span is mostly too much, single words make up the rest.
        """
        chances, sums = _span_lengths(self.span_p, self.span_max)
        wanted = self.rate * words
        if wanted >= sums[-1]:  # far from the beginning the mean sum grows as the threshold does
            threshold, part = divmod(wanted - sums[-1], 1)
            threshold += _TABLE
        else:
            threshold = int(np.searchsorted(sums, wanted, side="right")) - 1
            part = (wanted - sums[threshold]) / (sums[threshold + 1] - sums[threshold])
        threshold = int(threshold) + int(rng.random() < part)
        if threshold == 0:
            return np.ones(1, dtype=np.int64)
        lengths = rng.choice(len(chances), threshold, p=chances) + 1
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), threshold)) + 1]
        while len(lengths) > 1 and lengths.sum() + len(lengths) - 1 > words:
            lengths = lengths[:-1]
        return rng.permutation(np.minimum(lengths, words))  # the one that reaches the threshold is mostly a long one


@lru_cache(maxsize=8)
def _span_lengths(p: float, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """P(l) for l = 1 … longest, and the mean sum of lengths sampled until it is at least t, for t = 0, 1, …

    With N(t) the mean number of sampled lengths, N(t) = 1 + Σ_l P(l) N(t - l) and N(t) = 0 for t <= 0; the mean sum is
    E[l] · N(t) (Wald's equation).
    """
    lengths = np.arange(1, longest + 1)
    chances = (1 - p) ** (lengths - 1)
    chances /= chances.sum()
    number = np.zeros(longest + _TABLE + 1)  # N(t) at t + longest
    for t in range(1, _TABLE + 1):
        number[t + longest] = 1 + chances @ number[t + longest - lengths]
    return chances, number[longest:] * (chances @ lengths)
