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
from typing import Any, ClassVar

import jiwer
import numpy as np

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.evaluation.bootstrap import interval, paired_p_value, resampled_sums
from nlpcli.evaluation.reference_alternatives import nearest_reading
from nlpcli.evaluation.score import NO_BOUNDS, TEXT_PAIRS, Bounds, Lines, Resampling, Score, check_segments
from nlpcli.evaluation.unspaced_scripts import unspaced_script

HITS, SUBSTITUTIONS, DELETIONS, INSERTIONS = range(4)  # columns of a table of counts


class _WithoutPunctuation(dict[int, int | None]):
    """A table for str.translate that drops every character of a Unicode category P*."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_PUNCTUATION = _WithoutPunctuation()


@dataclass(frozen=True)
class Normalisation:
    """What is done to both sides before they are aligned, in this order.

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


class WordErrorRate:
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
        written = [self._normalise(line) for line in hypotheses]
        if self._alternatives:
            expected = [
                nearest_reading(reference, hypothesis, self._normalise, line=number)
                for number, (reference, hypothesis) in enumerate(zip(references[0], written, strict=True), start=1)
            ]
        else:
            expected = [self._normalise(line) for line in references[0]]
        return self._process(expected, written)

    def corpus(self, hypotheses: Lines, references: Sequence[Lines], resampling: Resampling | None = None) -> Score:
        counts = count_edits(self.align(hypotheses, references))
        if resampling is None:
            return self._score(counts.sum(axis=0))
        [sums] = resampled_sums([counts], resampling)
        return self._score(counts.sum(axis=0), resampling=resampling, bounds=interval(self.rate(sums)))

    def sentences(self, hypotheses: Lines, references: Sequence[Lines]) -> list[Score]:
        return [self._score(row) for row in count_edits(self.align(hypotheses, references))]

    def compare(
        self, baseline: Lines, systems: Sequence[Lines], references: Sequence[Lines], resampling: Resampling
    ) -> list[Score]:
        tables = [count_edits(self.align(lines, references)) for lines in (baseline, *systems)]
        totals = [table.sum(axis=0) for table in tables]
        resampled = [self.rate(sums) for sums in resampled_sums(tables, resampling)]
        scores = [self._score(totals[0], resampling=resampling, bounds=interval(resampled[0]))]
        for total, scored in zip(totals[1:], resampled[1:], strict=True):
            difference = abs(float(self.rate(total)) - float(self.rate(totals[0])))
            p_value = paired_p_value(scored, resampled[0], difference)
            scores.append(self._score(total, resampling=resampling, bounds=interval(scored), p_value=p_value))
        return scores

    def cautions(self, hypotheses: Lines, references: Sequence[Lines]) -> list[str]:
        if any(line and not line.isspace() for line in references[0]):
            return self._idle(references[0]) + self._unfit(references[0])
        return [f"no reference contains any {self.unit}, so the rate follows jiwer's convention for empty references"]

    def _idle(self, references: Lines) -> list[str]:
        if not self._alternatives or any("{" in line.split() for line in references):
            return []
        return ["--alternatives has no effect because no reference contains '{ A / B }'"]

    def _unfit(self, references: Lines) -> list[str]:
        script = unspaced_script(references) if self.unit == "words" else None
        if script is None:
            return []
        return [
            f"the references look like {script}, which {self.name} does not split into words; use cer, which counts "
            "characters"
        ]

    def rate(self, counts: np.ndarray) -> np.ndarray:
        """The rate in percent of counts (..., 4) in the order hits, substitutions, deletions, insertions."""
        hits, substitutions, deletions, insertions = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
        words = hits + substitutions + deletions
        return 100 * (substitutions + deletions + insertions) / np.where(words > 0, words, 1)

    def signature(self, resampling: Resampling | None = None) -> str:
        """Every choice that moves the number, in the manner of sacreBLEU."""
        drawn = f"|bs:{resampling.samples}|seed:{resampling.seed}" if resampling else ""
        normalise = self._normalise
        return (
            f"{self.name}|nrefs:1{drawn}"
            f"|case:{'lc' if normalise.lowercase else 'mixed'}"
            f"|punct:{'no' if normalise.remove_punctuation else 'yes'}"
            f"|space:{'collapsed' if normalise.collapse_whitespace else 'jiwer'}"
            f"|alternatives:{'yes' if self._alternatives else 'no'}"
            f"|jiwer:{_jiwer_version()}|nlpcli:{__version__}"
        )

    def _process(self, references: list[str], hypotheses: list[str]) -> jiwer.WordOutput | jiwer.CharacterOutput:
        return jiwer.process_words(references, hypotheses)

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

    def _process(self, references: list[str], hypotheses: list[str]) -> jiwer.CharacterOutput:
        return jiwer.process_characters(references, hypotheses)


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


def count_edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> np.ndarray:
    """Hits, substitutions, deletions and insertions of each segment, (segments, 4)."""
    column = {"equal": HITS, "substitute": SUBSTITUTIONS, "delete": DELETIONS, "insert": INSERTIONS}
    counts = np.zeros((len(output.alignments), 4), dtype=np.int64)
    for row, chunks in zip(counts, output.alignments, strict=True):
        for chunk in chunks:
            length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            row[column[chunk.type]] += length
    return counts


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
