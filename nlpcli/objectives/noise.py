"""BART's noises (Lewis et al. 2020, section 2.2): the text is disturbed, and the decoder restores all of it.

Every noise is a function of token ids, a random generator and its settings. Special tokens are neither hidden nor
removed; where one lies inside a span, the span ends before it and continues after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import Protocol

import numpy as np

from nlpcli.errors import NlpcliError
from nlpcli.text import SpecialTokens, Tokenizer
from nlpcli.text.word_starts import WordStarts


@dataclass(frozen=True)
class Symbols:
    """The special tokens and word starts of a tokenizer, which noise needs.

    is_special (vocab,) bool: the ids that no noise touches. word_starts: (n,) ids -> (n,) bool, see `WordStarts`.
    decode: as of the tokenizer.
    """

    special: SpecialTokens
    is_special: np.ndarray
    word_starts: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[Sequence[Sequence[int]]], list[str]]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Symbols:
        is_special = np.zeros(tokenizer.vocab_size, dtype=bool)
        is_special[list(tokenizer.special.all())] = True
        return cls(tokenizer.special, is_special, WordStarts(tokenizer), tokenizer.decode)

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids that are not special, in order."""
        return np.flatnonzero(~self.is_special)

    def random_ids(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` ids that are not special, each with the same probability."""
        return self.ordinary[rng.integers(len(self.ordinary), size=count)]


@dataclass(frozen=True)
class Text:
    """The input of noise: ids (n,) int64; sentences: the lengths of its sentences, which add up to n, where known."""

    ids: np.ndarray
    sentences: np.ndarray | None = None


@dataclass(frozen=True)
class Noised:
    """The source and the target, both without bos and eos.

    places, hidden: where in the source an encoder has to predict hidden tokens, and which (PEGASUS with MLM).
    """

    source: np.ndarray
    target: np.ndarray
    places: np.ndarray | None = None
    hidden: np.ndarray | None = None


class Noise(Protocol):
    """One way to make something to learn out of a text; all chance comes from the generator."""

    @property
    def needs_sentences(self) -> bool:
        """Whether texts must come with their sentences."""
        ...

    @property
    def least_sentences(self) -> int:
        """A text with fewer sentences is left out."""
        ...

    @property
    def copies(self) -> bool:
        """Whether the target is the text itself, so that copying the source is the trivial guess."""
        ...

    @property
    def joined(self) -> bool:
        """Whether documents are laid end to end without an eos between them, as T5's are."""
        ...

    def text_length(self, limit: int) -> int:
        """Tokens of text that make a source and a target of at most `limit` tokens each, their eos included."""
        ...

    def check(self, special: SpecialTokens, length: int) -> None:
        """Raises: NlpcliError when the tokenizer lacks what texts of `length` tokens need."""
        ...

    def __call__(self, text: Text, rng: np.random.Generator, symbols: Symbols) -> Noised: ...


# --- single noises --------------------------------------------------------------------------------------------------


def budget(count: int, rate: float, rng: np.random.Generator) -> int:
    """`rate` of `count`, rounded up or down by chance so that its mean is exact however short the text."""
    exact = count * rate
    return floor(exact) + int(rng.random() < exact % 1)


def choose(ids: np.ndarray, rng: np.random.Generator, symbols: Symbols, rate: float) -> np.ndarray:
    """Places of `rate` of the tokens that are not special, in order, every choice equally likely."""
    places = np.flatnonzero(~symbols.is_special[ids])
    return np.sort(rng.choice(places, budget(len(places), rate, rng), replace=False))


def mask_tokens(ids: np.ndarray, rng: np.random.Generator, symbols: Symbols, *, rate: float) -> np.ndarray:
    """Token masking: `rate` of the tokens become the mask."""
    out = ids.copy()
    out[choose(ids, rng, symbols, rate)] = symbols.special.mask
    return out


def delete_tokens(ids: np.ndarray, rng: np.random.Generator, symbols: Symbols, *, rate: float) -> np.ndarray:
    """Token deletion: `rate` of the tokens are gone; the model has to find out where."""
    return np.delete(ids, choose(ids, rng, symbols, rate))


def span_lengths(total: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Lengths (k,) of spans that hide `total` >= 1 units: independent Poisson(mean) variables given that sum.

    Poisson variables of one mean whose sum is known are multinomial with equal shares, so nothing need be sampled until
    it fits and the last span need not be cut short. k is total / mean, rounded by chance; some lengths are 0.
    """
    count = max(budget(total, 1 / mean, rng), 1)
    return rng.multinomial(total, np.full(count, 1 / count))


def infill(
    ids: np.ndarray,
    rng: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float,
    mean: float = 3.0,
    starts: np.ndarray | None = None,
) -> np.ndarray:
    """Text infilling: spans that together hold `rate` of the tokens become one mask each.

    Lengths are Poisson(mean); a span of length 0 inserts a mask. Spans don't overlap, and every arrangement of them
    between the tokens that stay is equally likely. No result is longer than the text.

    starts (n,) bool: where words begin; then lengths and `rate` count words, which are hidden as a whole.
    """
    text = np.flatnonzero(~symbols.is_special[ids])
    after_gap = np.diff(text, prepend=-2) > 1  # nothing hides across a special token
    begins = np.ones(len(text), dtype=bool) if starts is None else starts[text] | after_gap
    unit = np.cumsum(begins) - 1  # of each token
    units = int(begins.sum())
    hidden = budget(units, rate, rng)
    if hidden == 0:
        return ids.copy()
    lengths = span_lengths(hidden, mean, rng)
    # a row of items, each a unit that stays or a span; any order of them is as likely as any other
    items = units - hidden + len(lengths)
    is_span = np.zeros(items, dtype=bool)
    is_span[rng.choice(items, len(lengths), replace=False, shuffle=False)] = True
    size = np.ones(items, dtype=np.int64)
    size[is_span] = lengths
    item = np.repeat(np.arange(items), size)[unit]  # of each token
    noise = is_span[item]
    first = noise & (after_gap | (np.diff(item, prepend=-1) > 0))
    stays = np.ones(len(ids), dtype=bool)
    stays[text[noise & ~first]] = False
    out = ids.copy()
    out[text[first]] = symbols.special.mask
    out = out[stays]
    empty = np.cumsum(size)[is_span & (size == 0)]  # the unit that follows each span of length 0
    place = np.append(text, text[-1] + 1)[np.searchsorted(unit, empty)][: len(ids) - len(out)]
    return np.insert(out, np.append(0, np.cumsum(stays))[place], symbols.special.mask)


def permute_sentences(ids: np.ndarray, rng: np.random.Generator, sentences: np.ndarray) -> np.ndarray:
    """Sentence permutation: the sentences, of the lengths `sentences`, in random order, all orders equally likely."""
    if len(sentences) < 2:
        return ids.copy()
    parts = np.split(ids, np.cumsum(sentences)[:-1])
    return np.concatenate([parts[i] for i in rng.permutation(len(parts))])


def rotate(ids: np.ndarray, rng: np.random.Generator, symbols: Symbols) -> np.ndarray:
    """Document rotation: a token is chosen at random, and the document is turned so that it begins with it.

    Special tokens keep their places: what lies between two of them is a document.
    """
    out = ids.copy()
    edges = np.concatenate([[-1], np.flatnonzero(symbols.is_special[ids]), [len(ids)]])
    for begin, end in zip(edges[:-1] + 1, edges[1:], strict=True):
        if end - begin > 1:
            out[begin:end] = np.roll(ids[begin:end], -int(rng.integers(end - begin)))
    return out


# --- together -------------------------------------------------------------------------------------------------------

ORDER = ("permute", "rotate", "mask", "infill", "delete")
"""Noises are applied in this order, however they are written: tokens are hidden in the order in which they are read."""


@dataclass(frozen=True)
class Bart:
    """BART's noises, each alone or together. A rate of None leaves that noise out.

    whole_words: the spans of `infill` begin where words do and count words; in scripts written without spaces each
        token is one.
    """

    mask: float | None = None
    delete: float | None = None
    infill: float | None = None
    mean: float = 3.0
    permute: bool = False
    rotate: bool = False
    whole_words: bool = False

    least_sentences = 1
    copies = True
    joined = False

    def __post_init__(self) -> None:
        for name in ("mask", "delete", "infill"):
            rate = getattr(self, name)
            if rate is not None and not 0.0 <= rate <= 1.0:
                raise NlpcliError(f"noise '{name}': the rate {rate:g} is not between 0 and 1")
        if not 1.0 <= self.mean < float("inf"):
            raise NlpcliError(f"noise 'infill': the mean length must be at least 1 and finite, not {self.mean:g}")

    @property
    def needs_sentences(self) -> bool:
        return self.permute

    def text_length(self, limit: int) -> int:
        return limit - 1

    def check(self, special: SpecialTokens, length: int) -> None:
        if self.mask is not None or self.infill is not None:
            special.check("mask")

    def __call__(self, text: Text, rng: np.random.Generator, symbols: Symbols) -> Noised:
        source = text.ids
        if self.permute:
            assert text.sentences is not None  # it needs sentences
            source = permute_sentences(source, rng, text.sentences)
        if self.rotate:
            source = rotate(source, rng, symbols)
        if self.mask is not None:
            source = mask_tokens(source, rng, symbols, rate=self.mask)
        if self.infill is not None:
            starts = symbols.word_starts(source) if self.whole_words else None
            source = infill(source, rng, symbols, rate=self.infill, mean=self.mean, starts=starts)
        if self.delete is not None:
            source = delete_tokens(source, rng, symbols, rate=self.delete)
        return Noised(source, text.ids)
