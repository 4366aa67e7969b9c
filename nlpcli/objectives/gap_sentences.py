"""Gap sentences (PEGASUS; Zhang et al. 2020, section 3.1): a text's principal sentences are taken out and predicted.

Each selected sentence becomes one mask in the source; the selected sentences, in the order of the text, are the target,
a pseudo-summary. With `mlm` the encoder must also predict 15 % of the tokens of the sentences that stay (section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from nlpcli.errors import NlpcliError, unknown
from nlpcli.objectives.masking import Masking
from nlpcli.objectives.noise import Noised, Symbols, Text
from nlpcli.text import SpecialTokens

CHOICES = ("principal", "random", "lead")
SELECTIONS = ("independent", "sequential")
COUNTS = ("original", "unique")

# a Han or kana character is a word of its own; other words are runs of letters and digits
_WORD = re.compile("[぀-ヿ㐀-鿿]|(?:(?![぀-ヿ㐀-鿿])[^\\W_])+")


def words_of(text: str) -> list[str]:
    """The words that ROUGE compares: lowercased runs of letters and digits."""
    return _WORD.findall(text.lower())


def rouge_1(candidate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """ROUGE-1 F1 = 2 · matches / (candidate's words + reference's words), 0 where both are empty.

    candidate and reference (…, words): how often each word occurs; matches = Σ min of both.
    Source: Lin 2004; 2PR / (P + R) with P = matches / candidate's words and R = matches / reference's words.
    """
    sizes = candidate.sum(axis=-1) + reference.sum(axis=-1)
    return 2 * np.minimum(candidate, reference).sum(axis=-1) / np.maximum(sizes, 1)


def gap_count(sentences: int, ratio: float) -> int:
    """How many sentences are taken out: `ratio` of them rounded down, at least 1 where there is one."""
    return min(max(int(sentences * ratio + 1e-9), 1), sentences)


def principal_sentences(
    sentences: Sequence[Sequence[Hashable]], count: int, *, sequential: bool = False, unique: bool = False
) -> np.ndarray:
    """The `count` sentences (of lists of words) that resemble the rest most, in order.

    Independent (Ind): those of the highest s_i = ROUGE-1 F1(x_i, D \\ x_i). Sequential (Seq): one after the other, each
    time the i with the highest ROUGE-1 F1(S ∪ x_i, D \\ (S ∪ x_i)), S the selected (algorithm 1). unique (Uniq): words
    count as sets, otherwise (Orig) as often as they occur. Of equals the later one is taken, as in the authors' code.
    """
    number = {word: i for i, word in enumerate(dict.fromkeys(word for words in sentences for word in words))}
    counts = np.zeros((len(sentences), len(number)), dtype=np.int64)
    rows = np.repeat(np.arange(len(sentences)), [len(words) for words in sentences])
    columns = np.array([number[word] for words in sentences for word in words], dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    total = counts.sum(axis=0)

    def scores(selected: np.ndarray) -> np.ndarray:
        candidate = counts + selected
        reference = total - candidate
        return rouge_1(candidate > 0, reference > 0) if unique else rouge_1(candidate, reference)

    if not sequential:
        return np.sort(np.argsort(scores(np.zeros_like(total)), kind="stable")[len(sentences) - count :])
    taken: list[int] = []
    for _ in range(count):
        score = scores(counts[taken].sum(axis=0))
        score[taken] = -1.0
        taken.append(len(score) - 1 - int(np.argmax(score[::-1])))
    return np.sort(taken)


@lru_cache
def sentence_mask(special: SpecialTokens) -> int:
    """The id in place of a removed sentence."""
    own = (id_ for id_, spelling in special.spellings if spelling in ("<mask_1>", "[MASK1]"))
    return next(own, special.mask)


@dataclass(frozen=True)
class GapSentences:
    """Gap sentences as a noise; the names of the settings are those of the configuration's section `noise`.

    mlm: weight of the encoder's loss. Above 0, tokens of the other sentences are hidden by `Masking`: of `mlm_rate` of
        them `mask_share` become the mask (the paper's [MASK2]), `random_share` another token, and the others stay.

    Sentences become the paper's [MASK1] where the tokenizer has one, as PEGASUS's own has, otherwise the mask as well.
    """

    ratio: float = 0.3
    choice: str = "principal"
    selection: str = "independent"
    counts: str = "original"
    mlm: float = 0.0
    mlm_rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    needs_sentences = True
    least_sentences = 2  # with one there is nothing left to predict it from
    copies = False
    joined = False

    def __post_init__(self) -> None:
        for kind, name, names in (
            ("strategy for gap sentences", self.choice, CHOICES),
            ("selection of gap sentences", self.selection, SELECTIONS),
            ("ROUGE counts of gap sentences", self.counts, COUNTS),
        ):
            if name not in names:
                raise unknown(kind, name, names)
        if not 0.0 < self.ratio < 1.0:
            raise NlpcliError(f"noise 'gap-sentences': the ratio {self.ratio:g} is not between 0 and 1")
        if not 0.0 <= self.mlm < float("inf"):
            raise NlpcliError(
                f"noise 'gap-sentences': the weight of mlm must be at least 0 and finite, not {self.mlm:g}"
            )
        _ = self.masking  # refuses what makes no sense

    @cached_property
    def masking(self) -> Masking:
        """The masking of the sentences that stay."""
        return Masking(rate=self.mlm_rate, mask_share=self.mask_share, random_share=self.random_share)

    def text_length(self, limit: int) -> int:
        return limit - 1

    def check(self, special: SpecialTokens, length: int) -> None:
        special.check("mask")

    def select(self, sentences: Sequence[np.ndarray], rng: np.random.Generator, symbols: Symbols) -> np.ndarray:
        """Which sentences are taken out, in order."""
        count = gap_count(len(sentences), self.ratio)
        if self.choice == "lead":
            return np.arange(count)
        if self.choice == "random":
            return np.sort(rng.choice(len(sentences), count, replace=False))
        words = [words_of(text) for text in symbols.decode([ids.tolist() for ids in sentences])]
        return principal_sentences(
            words, count, sequential=self.selection == "sequential", unique=self.counts == "unique"
        )

    def __call__(self, text: Text, rng: np.random.Generator, symbols: Symbols) -> Noised:
        assert text.sentences is not None  # it needs sentences
        sentences = np.split(text.ids, np.cumsum(text.sentences)[:-1]) if len(text.sentences) else []
        if not sentences:
            return Noised(text.ids, text.ids)
        selected = self.select(sentences, rng, symbols)
        target = np.concatenate([sentences[i] for i in selected])
        for i in selected:
            sentences[i] = np.array([sentence_mask(symbols.special)])
        source = np.concatenate(sentences)
        if not self.mlm:
            return Noised(source, target)
        masked = self.masking(source, rng, symbols)  # never the masks of sentences
        return Noised(masked.corrupted, target, masked.places, masked.targets)
