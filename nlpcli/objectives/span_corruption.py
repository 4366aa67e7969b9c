"""T5's span corruption and the objectives beside it (Raffel et al. 2020, sections 3.1.4 and 3.3, Table 3).

Of "Thank you for inviting me to your party last week ." they make, with <X>, <Y>, <Z> the first sentinels:

    spans       Thank you <X> to <Y> week .                      <X> for inviting me <Y> your party last <Z>
    iid         Thank you <X> me to your party <Y> week .        <X> for inviting <Y> last <Z>
    drop        Thank you me to your party week .                for inviting last
    prefix      Thank you for inviting                           me to your party last week .
    bert-style  Thank you <M> <M> me to your party apple week .  (the text)
    mass-style  Thank you <M> <M> me to your party <M> week .    (the text)
    deshuffle   party me for your to . last you inviting Thank week   (the text)

`iid` is the paper's "i.i.d. noise, replace spans", its baseline (section 3.1.4): tokens are chosen independently, and
neighbours that were chosen share a sentinel. Special tokens are never chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.objectives.noise import Noised, Symbols, Text
from nlpcli.text import SpecialTokens

KINDS = ("spans", "iid", "drop", "prefix", "bert-style", "mass-style", "deshuffle")


def span_counts(length: int, rate: float, mean: float) -> tuple[int, int]:
    """How many tokens of `length` are noise, and in how many spans: `random_spans_noise_mask`'s deterministic counts.

    noise = round(length · rate), at least 1 and at most length - 1;  spans = round(noise / mean), at least 1.
    Rounded half to even in single precision, as the authors' code does it. There are never more spans than tokens
    of either kind (where the authors' code fails). A text of fewer than 2 tokens has no noise.
    """
    if length < 2:
        return 0, 0
    noise = int(np.rint(np.float32(length) * np.float32(rate)))
    noise = min(max(noise, 1), length - 1)
    spans = max(int(np.rint(np.float32(noise) / np.float32(mean))), 1)
    return noise, min(spans, noise, length - noise)


def random_segments(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`total` items cut into `count` segments that are not empty, all ways equally likely: their lengths (count,)."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False, shuffle=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def random_spans(length: int, rng: np.random.Generator, *, rate: float, mean: float) -> np.ndarray:
    """Which tokens are noise, (length,) bool: spans alternate with kept stretches, beginning with a kept one.

    As the kept stretches are as many as the spans, the text ends with a span; this is how T5 was trained.
    """
    noise, spans = span_counts(length, rate, mean)
    if noise == 0:
        return np.zeros(length, dtype=bool)
    kept, hidden = random_segments(length - noise, spans, rng), random_segments(noise, spans, rng)
    return np.repeat(np.arange(2 * spans) % 2 == 1, np.column_stack([kept, hidden]).ravel())


def replace_spans(
    ids: np.ndarray, noise: np.ndarray, sentinels: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Source and target: every run of noise becomes a sentinel, and follows it in the target; then a last sentinel.

    The last sentinel is the paper's ("plus a final sentinel token to mark the end"); the authors' code leaves it out
    where the text ends with noise. Runs beyond the first len(sentinels) - 1 stay as they are.
    """
    sentinels = np.asarray(sentinels, dtype=np.int64)
    first = noise & ~np.append(False, noise[:-1])
    number = np.cumsum(first)
    noise, first = noise & (number < len(sentinels)), first & (number < len(sentinels))
    source = ids.copy()
    source[first] = sentinels[number[first] - 1]
    target = np.insert(ids[noise], np.flatnonzero(first[noise]), sentinels[: first.sum()])
    return source[first | ~noise], np.append(target, sentinels[first.sum()])


@dataclass(frozen=True)
class Spans:
    """One of T5's objectives; `kind` is one of `KINDS`. prefix and deshuffle have no rate, only spans has a mean."""

    kind: str = "spans"
    rate: float = 0.15
    mean: float = 3.0

    needs_sentences = False
    least_sentences = 1
    joined = True

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise NlpcliError(f"noise '{self.kind}': the rate {self.rate:g} is not between 0 and 1")
        if not 1.0 <= self.mean < float("inf"):
            raise NlpcliError(f"noise '{self.kind}': the mean length must be at least 1 and finite, not {self.mean:g}")

    @property
    def copies(self) -> bool:
        return self.kind in ("bert-style", "mass-style", "deshuffle")

    def text_length(self, limit: int) -> int:
        """For spans as many as fill the source: 568 for 512 at 15 % and mean 3, as in the authors' code."""
        if self.kind != "spans":
            return limit - 1

        def fits(length: int) -> bool:
            noise, spans = span_counts(length, self.rate, self.mean)
            return max(length - noise + spans, noise + spans + 1) < limit

        length = max(limit - 1, 1)
        while length > 1 and not fits(length):
            length -= 1
        while fits(length + 1):
            length += 1
        return length

    def check(self, special: SpecialTokens, length: int) -> None:
        if self.kind in ("bert-style", "mass-style"):
            special.check("mask")
        if self.kind in ("spans", "iid") and len(special.sentinels) < (needed := self.sentinels(length)):
            raise NlpcliError(
                f"noise '{self.kind}' needs {counted(needed, 'sentinel token')} for texts of {length} tokens, "
                f"but the tokenizer has {len(special.sentinels)}",
                hint=f"train a tokenizer with tokenizer.sentinels={max(needed, 100)}, or set a shorter data.context",
            )

    def sentinels(self, length: int) -> int:
        """How many sentinels a text of `length` tokens takes; for iid, how many suffice but for 1 text in 30,000."""
        if self.kind == "spans":
            return span_counts(length, self.rate, self.mean)[1] + 1
        share = self.rate * (1 - self.rate)  # of tokens at which a run begins
        runs = length * share + self.rate**2
        return min(ceil(runs + 4 * sqrt(length * share * (1 - 3 * share))), (length + 1) // 2) + 1

    def __call__(self, text: Text, rng: np.random.Generator, symbols: Symbols) -> Noised:
        ids = text.ids
        if self.kind == "prefix":
            cut = int(rng.integers(1, len(ids))) if len(ids) > 1 else 0
            return Noised(ids[:cut], ids[cut:])
        places = np.flatnonzero(~symbols.is_special[ids])
        if self.kind == "deshuffle":
            source = ids.copy()
            source[places] = rng.permutation(ids[places])
            return Noised(source, ids)
        noise = np.zeros(len(ids), dtype=bool)
        if self.kind == "spans":
            noise[places] = random_spans(len(places), rng, rate=self.rate, mean=self.mean)
        else:
            noise[places] = rng.random(len(places)) < self.rate
        return self._hide(ids, noise, rng, symbols)

    def _hide(self, ids: np.ndarray, noise: np.ndarray, rng: np.random.Generator, symbols: Symbols) -> Noised:
        if self.kind == "drop":
            return Noised(ids[~noise], ids[noise])
        if self.kind in ("spans", "iid"):
            return Noised(*replace_spans(ids, noise, symbols.special.sentinels))
        source = ids.copy()
        source[noise] = symbols.special.mask
        if self.kind == "bert-style":  # a tenth of the chosen become another token
            other = np.flatnonzero(noise)[rng.random(int(noise.sum())) < 0.1]
            source[other] = symbols.random_ids(len(other), rng)
        return Noised(source, ids)
