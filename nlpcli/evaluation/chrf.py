"""chrF and chrF++, through sacreBLEU.

    chrF_β = (1 + β²) · P · R / (β² · P + R)

with P and R the character n-gram precision and recall averaged over n = 1..6; chrF++ averages over word n-grams
n = 1, 2 as well. Source: Popović 2015, section 2; Popović 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
import sacrebleu.metrics
from sacrebleu.metrics.chrf import CHRFScore

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.ngram_matches import Units, WordIds, characters, clipped_matches
from nlpcli.evaluation.sacrebleu_metrics import SacreMetric, with_plain_float
from nlpcli.evaluation.score import Lines, ReferenceLines, Score
from nlpcli.evaluation.unspaced_scripts import unspaced_script

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _CHRF(sacrebleu.metrics.CHRF):
    def _compute_score_from_stats(self, stats: list[int]) -> CHRFScore:
        return with_plain_float(super()._compute_score_from_stats(stats))


class _Settings(TypedDict):
    lowercase: bool
    char_order: int
    word_order: int
    beta: int
    whitespace: bool
    eps_smoothing: bool


class ChrfPlusPlusOptions(TypedDict, total=False):
    """The arguments of `ChrfPlusPlus`."""

    lowercase: bool
    chrf_char_order: int
    chrf_beta: int
    chrf_whitespace: bool
    chrf_eps_smoothing: bool


class ChrfOptions(ChrfPlusPlusOptions, total=False):
    """The arguments of `Chrf`."""

    chrf_word_order: int


class Chrf(SacreMetric):
    """chrF; with `chrf_word_order=2` it is chrF++. Raises: NlpcliError for orders or a beta below what they can be."""

    options: ClassVar[frozenset[str]] = frozenset(
        {
            "lowercase",
            "chrf_char_order",
            "chrf_word_order",
            "chrf_beta",
            "chrf_whitespace",
            "chrf_eps_smoothing",
        }
    )

    def __init__(
        self,
        *,
        lowercase: bool = False,
        chrf_char_order: int = 6,
        chrf_word_order: int = 0,
        chrf_beta: int = 2,
        chrf_whitespace: bool = False,
        chrf_eps_smoothing: bool = False,
    ) -> None:
        for name, value, least in (
            ("character order", chrf_char_order, 1),
            ("word order", chrf_word_order, 0),
            ("beta", chrf_beta, 1),
        ):
            if value < least:
                raise NlpcliError(f"chrF's {name} must be at least {least}, not {value}")
        self._settings: _Settings = {
            "lowercase": lowercase,
            "char_order": chrf_char_order,
            "word_order": chrf_word_order,
            "beta": chrf_beta,
            "whitespace": chrf_whitespace,
            "eps_smoothing": chrf_eps_smoothing,
        }
        self._words = WordIds(self.build()._remove_punctuation)

    def cautions_from(self, caution_counts: np.ndarray, sample: ReferenceLines, *, sentence: bool = False) -> list[str]:
        script = unspaced_script(sample) if self._settings["word_order"] else None
        if script is None:
            return []
        return [f"the references look like {script}, which chrF++ does not split into words; use chrf"]

    def batch_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """For each order n-grams of the hypothesis, of the reference, and matches, (lines, 3 · orders).

        Of several references those of the one with the highest score, and of these the first.
        """
        self._words.forget()
        ours = self._units(hypotheses)
        first, *others = (self._against(ours, lines) for lines in references)
        if not others:
            return first
        score = self.build()._compute_f_score
        for line, best in enumerate(first):
            there = [
                table[line].tolist()
                for table, lines in zip((first, *others), references, strict=True)
                if lines[line] is not None
            ]
            best[:] = max(there, key=score)
        return first

    def _against(self, ours: tuple[Units, Units], references: ReferenceLines) -> np.ndarray:
        theirs = self._units([line or "" for line in references])
        orders = (self._settings["char_order"], self._settings["word_order"])
        found = []
        for hypothesis, reference, order in zip(ours, theirs, orders, strict=True):
            totals = reference.totals(order)
            matches = clipped_matches([hypothesis, reference], order)
            found.append(np.stack([hypothesis.totals(order) * (totals > 0), totals, matches], axis=-1))
        joined = np.concatenate(found, axis=1)
        return joined.reshape(len(joined), -1)

    def _units(self, lines: Lines) -> tuple[Units, Units]:
        """Characters and words."""
        if self._settings["lowercase"]:
            lines = [line.lower() for line in lines]
        words = self._words.units(lines if self._settings["word_order"] else [""] * len(lines))
        if not self._settings["whitespace"]:
            lines = ["".join(line.split()) for line in lines]
        return characters(lines), words

    def build(self, *, sentence: bool = False) -> sacrebleu.metrics.CHRF:
        return _CHRF(**self._settings)


class ChrfPlusPlus(Chrf):
    """chrF++: chrF with word unigrams and bigrams."""

    options: ClassVar[frozenset[str]] = Chrf.options - {"chrf_word_order"}

    def __init__(self, **options: Unpack[ChrfPlusPlusOptions]) -> None:
        super().__init__(chrf_word_order=2, **options)


def chrf(hypotheses: Lines, references: Sequence[Lines], **options: Unpack[ChrfOptions]) -> Score:
    """chrF of n hypotheses against r reference sets of n lines each, 0 to 100; options as in `Chrf`."""
    return Chrf(**options).corpus(hypotheses, references)
