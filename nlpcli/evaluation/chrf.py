"""chrF and chrF++, through sacreBLEU.

    chrF_β = (1 + β²) · P · R / (β² · P + R)

with P and R the character n-gram precision and recall averaged over n = 1..6; chrF++ averages over word n-grams
n = 1, 2 as well. Source: Popović 2015, section 2; Popović 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypedDict

import sacrebleu.metrics
from sacrebleu.metrics.chrf import CHRFScore

from nlpcli.errors import NlpcliError
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

    def cautions(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> list[str]:
        script = unspaced_script(references[0]) if self._settings["word_order"] else None
        if script is None:
            return []
        return [f"the references look like {script}, which chrF++ does not split into words; use chrf"]

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
