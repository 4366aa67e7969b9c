"""Translation edit rate, through sacreBLEU.

    TER = 100 · (insertions + deletions + substitutions + shifts) / average length of the references

in words, lower being better; above 100 when there are more edits than words. Source: Snover et al. 2006, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict, cast

import numpy as np
import sacrebleu.metrics
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.ter import TERScore

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.sacrebleu_metrics import SacreMetric, with_plain_float
from nlpcli.evaluation.score import Lines, ReferenceLines, Score
from nlpcli.evaluation.unspaced_scripts import EAST_ASIAN, SOUTHEAST_ASIAN, unspaced_script


class _TER(sacrebleu.metrics.TER):
    def _compute_score_from_stats(self, stats: list[float]) -> TERScore:
        return with_plain_float(super()._compute_score_from_stats(stats))


class _Settings(TypedDict):
    normalized: bool
    no_punct: bool
    asian_support: bool
    case_sensitive: bool


class Ter(SacreMetric):
    """TER; like Tercom it ignores case by default, so `lowercase` only states what holds anyway."""

    options: ClassVar[frozenset[str]] = frozenset(
        {"lowercase", "ter_normalized", "ter_no_punct", "ter_asian_support", "ter_case_sensitive"}
    )

    def __init__(
        self,
        *,
        lowercase: bool = False,
        ter_normalized: bool = False,
        ter_no_punct: bool = False,
        ter_asian_support: bool = False,
        ter_case_sensitive: bool = False,
    ) -> None:
        if lowercase and ter_case_sensitive:
            raise NlpcliError(
                "--lowercase and --ter-case-sensitive can't be used together", hint="leave out one of them"
            )
        self._settings: _Settings = {
            "normalized": ter_normalized,
            "no_punct": ter_no_punct,
            "asian_support": ter_asian_support,
            "case_sensitive": ter_case_sensitive,
        }

    def build(self, *, sentence: bool = False) -> sacrebleu.metrics.TER:
        return _TER(**self._settings)

    def batch_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """Edits and mean length of the references, (lines, 2)."""
        lists = [list(lines) for lines in references]
        metric = self.build()
        return np.array(
            metric._extract_corpus_statistics(list(hypotheses), cast("list[list[str]]", lists)), dtype=float
        )

    def cautions_from(self, caution_counts: np.ndarray, sample: ReferenceLines, *, sentence: bool = False) -> list[str]:
        found = []
        normalized, asian = self._settings["normalized"], self._settings["asian_support"]
        if asian and not normalized and not self._settings["no_punct"]:
            found.append("--ter-asian-support has no effect without --ter-normalized or --ter-no-punct")
        script = unspaced_script(sample)
        if script == EAST_ASIAN and not (normalized and asian):
            remedy = "add --ter-normalized --ter-asian-support to split them into characters"
            found.append(f"the references look like {script}, which TER does not split into words; {remedy}")
        elif script == SOUTHEAST_ASIAN:
            found.append(
                f"the references look like {script}, which TER does not split into words; use chrf, which counts "
                "characters"
            )
        return found

    def details(self, score: SacreScore) -> dict[str, Any]:
        assert isinstance(score, TERScore)
        return {"edits": score.num_edits, "reference_length": float(score.ref_length)}


def ter(hypotheses: Lines, references: Sequence[Lines], **options: bool) -> Score:
    """TER of n hypotheses against r reference sets of n lines each, in percent; options as in `Ter`."""
    return Ter(**options).corpus(hypotheses, references)
