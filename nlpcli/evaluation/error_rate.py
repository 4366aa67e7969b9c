"""Word and character error rates, through jiwer.

With H hits, S substitutions, D deletions and I insertions of the cheapest alignment, summed over all segments,
N = H + S + D reference words and M = H + S + I hypothesis words:

    WER = (S + D + I) / N      MER = (S + D + I) / (N + I)      WIL = 1 - H/N · H/M

and CER is WER over characters, inner spaces included. All in percent. An empty reference is a segment like any
other: the words set against it are insertions. If no reference holds any word, jiwer's convention stands: WER = I,
MER and WIL are 1 (0 when the hypotheses are empty, too).

Source: Morris, Maier and Green 2004, "From WER and RIL to MER and WIL".
"""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.evaluation.bootstrap import interval, paired_p_value, resampled_sums
from nlpcli.evaluation.edit_counts import SUBSTITUTIONS, character_edits, word_edits
from nlpcli.evaluation.line_statistics import LineMetric, Statistics
from nlpcli.evaluation.reference_alternatives import nearest_reading
from nlpcli.evaluation.score import NO_BOUNDS, TEXT_PAIRS, Bounds, Lines, Resampling, Score, check_segments
from nlpcli.evaluation.unspaced_scripts import unspaced_script

if TYPE_CHECKING:
    import jiwer


class _WithoutPunctuation(dict[int, int | None]):
    """A table for str.translate that drops every character of a Unicode category P*."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_PUNCTUATION = _WithoutPunctuation()


@dataclass(frozen=True)
class Normalisation:
    """Transformations of both sides before they are aligned, in this order.

    1. `lowercase`: str.lower. 2. `remove_punctuation`: every character of a Unicode category P* goes, leaving no space.
    3. `collapse_whitespace`: each run of Unicode white space becomes one space. Whatever is chosen, jiwer's defaults
    follow: white space at both ends goes; for words runs of two or more white-space characters become one space and
    words are split at spaces, so that a single tab or no-break space inside a line joins two words unless it is
    collapsed.
    """

    lowercase: bool = False
    remove_punctuation: bool = False
    collapse_whitespace: bool = False

    def __call__(self, text: str) -> str:
        if self.lowercase:
            text = text.lower()
        if self.remove_punctuation:
            text = text.translate(_PUNCTUATION)
        if self.collapse_whitespace:
            text = " ".join(text.split())
        return text


class WordErrorRate(LineMetric):
    """WER; the base of the other rates. `alternatives` reads `{ A / B }` in references: see `alternatives`."""

    name: ClassVar[str] = "WER"
    unit: ClassVar[str] = "words"
    needs: ClassVar[str] = TEXT_PAIRS
    max_references: ClassVar[int | None] = 1
    options: ClassVar[frozenset[str]] = frozenset(
        {"lowercase", "remove_punctuation", "collapse_whitespace", "alternatives"}
    )

    def __init__(
        self,
        *,
        lowercase: bool = False,
        remove_punctuation: bool = False,
        collapse_whitespace: bool = False,
        alternatives: bool = False,
    ) -> None:
        self._normalise = Normalisation(lowercase, remove_punctuation, collapse_whitespace)
        self._alternatives = alternatives

    def align(self, hypotheses: Lines, references: Sequence[Lines]) -> jiwer.WordOutput | jiwer.CharacterOutput:
        """The cheapest alignments of all segments, as jiwer gives them."""
        check_segments(hypotheses, references, self.max_references)
        import jiwer

        process = jiwer.process_words if self.unit == "words" else jiwer.process_characters
        expected, written = self._normalised(hypotheses, references[0])
        return process(expected, written)

    def line_statistics(self, hypotheses: Lines, references: Sequence[Lines], first: int = 1) -> np.ndarray:
        """Hits, substitutions, deletions and insertions of jiwer's alignment, (lines, 4)."""
        expected, written = self._normalised(hypotheses, references[0], first)
        of = word_edits() if self.unit == "words" else character_edits
        return np.array([of(*pair) for pair in zip(expected, written, strict=True)], dtype=np.int64).reshape(-1, 4)

    def collector(self, *, resampled: bool) -> Statistics:
        return Statistics(np.int64 if resampled else None)

    def score_from(self, statistics: Statistics, references: str = "1", resampling: Resampling | None = None) -> Score:
        if resampling is None:
            return self._score(statistics.sums)
        [sums] = resampled_sums([statistics.rows], resampling)
        return self._score(statistics.sums, resampling=resampling, bounds=interval(self.rate(sums)))

    def sentences(self, hypotheses: Lines, references: Sequence[Lines], first: int = 1) -> list[Score]:
        check_segments(hypotheses, references, self.max_references)
        return [self._score(row) for row in self.line_statistics(hypotheses, references, first)]

    def compare_from(
        self, baseline: Statistics, systems: Sequence[Statistics], references: str, resampling: Resampling
    ) -> list[Score]:
        totals = [statistics.sums for statistics in (baseline, *systems)]
        tables = [statistics.rows for statistics in (baseline, *systems)]
        resampled = [self.rate(sums) for sums in resampled_sums(tables, resampling)]
        scores = [self._score(totals[0], resampling=resampling, bounds=interval(resampled[0]))]
        for total, scored in zip(totals[1:], resampled[1:], strict=True):
            difference = abs(float(self.rate(total)) - float(self.rate(totals[0])))
            p_value = paired_p_value(scored, resampled[0], difference)
            scores.append(self._score(total, resampling=resampling, bounds=interval(scored), p_value=p_value))
        return scores

    def caution_counts(self, hypotheses: Lines, references: Sequence[Lines]) -> np.ndarray:
        """References that are not blank, and those with alternatives."""
        filled = sum(bool(line) and not line.isspace() for line in references[0])
        choices = self._alternatives and sum("{" in line.split() for line in references[0])
        return np.array([filled, choices])

    def cautions_from(self, caution_counts: np.ndarray, sample: Lines, *, sentence: bool = False) -> list[str]:
        filled, choices = caution_counts.tolist()
        if not filled:
            return [
                f"no reference contains any {self.unit}, so the rate follows jiwer's convention for empty references"
            ]
        found = []
        if self._alternatives and not choices:
            found.append("--alternatives has no effect because no reference contains '{ A / B }'")
        script = unspaced_script(sample) if self.unit == "words" else None
        if script is not None:
            found.append(
                f"the references look like {script}, which {self.name} does not split into words; use cer, which "
                "counts characters"
            )
        return found

    def _normalised(self, hypotheses: Lines, references: Lines, first: int = 1) -> tuple[list[str], list[str]]:
        """References, each in the reading that is taken, and hypotheses."""
        written = [self._normalise(line) for line in hypotheses]
        if not self._alternatives:
            return [self._normalise(line) for line in references], written
        expected = [
            nearest_reading(reference, hypothesis, self._normalise, line=number)
            for number, (reference, hypothesis) in enumerate(zip(references, written, strict=True), start=first)
        ]
        return expected, written

    def rate(self, counts: np.ndarray) -> np.ndarray:
        """The rate in percent of counts (..., 4) in the order hits, substitutions, deletions, insertions."""
        hits, substitutions, deletions, insertions = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
        words = hits + substitutions + deletions
        return 100 * (substitutions + deletions + insertions) / np.where(words > 0, words, 1)

    def signature(self, resampling: Resampling | None = None) -> str:
        """Every choice that moves the number, in the manner of sacreBLEU."""
        bootstrap = f"|bs:{resampling.samples}|seed:{resampling.seed}" if resampling else ""
        normalise = self._normalise
        return (
            f"{self.name}|nrefs:1{bootstrap}"
            f"|case:{'lc' if normalise.lowercase else 'mixed'}"
            f"|punct:{'no' if normalise.remove_punctuation else 'yes'}"
            f"|space:{'collapsed' if normalise.collapse_whitespace else 'jiwer'}"
            f"|alternatives:{'yes' if self._alternatives else 'no'}"
            f"|jiwer:{_jiwer_version()}|nlpcli:{__version__}"
        )

    def _score(
        self,
        counts: np.ndarray,
        *,
        resampling: Resampling | None = None,
        bounds: Bounds = NO_BOUNDS,
        p_value: float | None = None,
    ) -> Score:
        hits, substitutions, deletions, insertions = (int(count) for count in counts)
        errors, total = substitutions + deletions + insertions, hits + substitutions + deletions
        kinds = f"sub = {substitutions} del = {deletions} ins = {insertions}"
        return Score(
            self.name,
            float(self.rate(counts)),
            self.signature(resampling),
            *bounds,
            p_value=p_value,
            summary=f"{counted(errors, 'error')} in {counted(total, self.unit[:-1])} ({kinds})",
            details={
                "errors": errors,
                "reference_length": total,
                "hits": hits,
                "substitutions": substitutions,
                "deletions": deletions,
                "insertions": insertions,
            },
        )


class CharacterErrorRate(WordErrorRate):
    """CER: WER over Unicode code points. With `alternatives` the reading nearest in words is taken."""

    name: ClassVar[str] = "CER"
    unit: ClassVar[str] = "characters"


class MatchErrorRate(WordErrorRate):
    """MER: the share of aligned positions that are wrong; never above 100."""

    name: ClassVar[str] = "MER"

    def rate(self, counts: np.ndarray) -> np.ndarray:
        counts = np.asarray(counts, dtype=np.float64)
        errors, total = counts[..., SUBSTITUTIONS:].sum(axis=-1), counts.sum(axis=-1)
        return 100 * errors / np.where(total > 0, total, 1)


class WordInformationLost(WordErrorRate):
    """WIL: the share of word information lost between reference and hypothesis."""

    name: ClassVar[str] = "WIL"

    def rate(self, counts: np.ndarray) -> np.ndarray:
        hits, substitutions, deletions, insertions = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
        reference, hypothesis = hits + substitutions + deletions, hits + substitutions + insertions
        kept = hits / np.where(reference > 0, reference, 1) * (hits / np.where(hypothesis > 0, hypothesis, 1))
        return 100 * np.where(reference + hypothesis > 0, 1 - kept, 0.0)


def edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> list[list[dict[str, Any]]]:
    """The alignment as plain data: for each segment its runs of equal, substituted, deleted or inserted units."""
    return [
        [
            {
                "edit": chunk.type,
                "reference": reference[chunk.ref_start_idx : chunk.ref_end_idx],
                "hypothesis": hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx],
            }
            for chunk in chunks
        ]
        for reference, hypothesis, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True)
    ]


def wer(hypotheses: Lines, references: Sequence[Lines], **options: bool) -> Score:
    """WER of n hypotheses against one reference set of n lines, in percent; options as in `WordErrorRate`."""
    return WordErrorRate(**options).corpus(hypotheses, references)


def cer(hypotheses: Lines, references: Sequence[Lines], **options: bool) -> Score:
    """CER of n hypotheses against one reference set of n lines, in percent; options as in `CharacterErrorRate`."""
    return CharacterErrorRate(**options).corpus(hypotheses, references)


@functools.cache
def _jiwer_version() -> str:
    return importlib.metadata.version("jiwer")
