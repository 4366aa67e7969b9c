"""Metrics that are functions of statistics which each line has: summed for a score, resampled for its interval.

A text of any length can be scored in little memory: only sums are kept, and, where lines are resampled, one row of
numbers for each line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from nlpcli.evaluation.score import Items, Resampling, Score, check_segments, reference_count


class Statistics:
    """The statistics of one system's lines, added in the order of the lines.

    dtype: that of each line's own statistics, if they are kept. sums: (statistics,); the last digit of a sum of floats
    is that of adding line after line.
    """

    def __init__(self, dtype: type[np.generic] | None = None) -> None:
        self.lines = 0
        self.sums = np.zeros(0)
        self._dtype = dtype
        self._kept: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """rows: (lines, statistics)."""
        if rows.dtype.kind == "i":
            self.sums = rows.sum(axis=0) + (self.sums if self.lines else 0)
        else:
            before = self.sums[None] if self.lines else rows[:0]
            self.sums = np.add.accumulate(np.concatenate([before, rows]), axis=0)[-1]
        self.lines += len(rows)
        if self._dtype is not None:
            self._kept.append(rows.astype(self._dtype))

    @property
    def rows(self) -> np.ndarray:
        """Each line's own statistics, (lines, statistics)."""
        assert self._dtype is not None
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept)]
        return self._kept[0]


class LineMetric:
    """Base of these metrics; a subclass defines the statistics of a line, and the score that is computed from them.

    It is a `Metric`. Statistics and remarks may also be taken from portions of a text: the statistics of a text are
    those of its portions in order, its remarks are their sum.
    """

    needs: ClassVar[str]
    max_references: ClassVar[int | None] = None
    options: ClassVar[frozenset[str]] = frozenset()

    def line_statistics(self, hypotheses: Items, references: Sequence[Items], first: int = 1) -> np.ndarray:
        """The statistics of each line, (lines, statistics). first: the number of the first line, for messages."""
        raise NotImplementedError

    def collector(self, *, resampled: bool) -> Statistics:
        """The object that statistics are added to. resampled: whether the score gets an interval."""
        raise NotImplementedError

    def score_from(self, statistics: Statistics, references: str = "1", resampling: Resampling | None = None) -> Score:
        """references: how many a line has, see `reference_count`."""
        raise NotImplementedError

    def compare_from(
        self, baseline: Statistics, systems: Sequence[Statistics], references: str, resampling: Resampling
    ) -> list[Score]:
        """As `compare`, from statistics."""
        raise NotImplementedError

    def sentences(self, hypotheses: Items, references: Sequence[Items], first: int = 1) -> list[Score]:
        """The score of each line on its own, in order. first: the number of the first line, for messages."""
        raise NotImplementedError

    def check_resampling(self, resampling: Resampling) -> None:
        """Raises: NlpcliError for a paired test that this metric does not make."""

    def caution_counts(self, hypotheses: Items, references: Sequence[Items]) -> np.ndarray:
        """The numbers that the cautions depend on, summed over lines: (numbers,)."""
        return np.zeros(0, dtype=np.int64)

    def cautions_from(self, caution_counts: np.ndarray, sample: Items, *, sentence: bool = False) -> list[str]:
        """The cautions about a text. sample: the first lines of its first references, as `unspaced_script` needs."""
        return []

    def cautions(self, hypotheses: Items, references: Sequence[Items]) -> list[str]:
        return self.cautions_from(self.caution_counts(hypotheses, references), references[0])

    def sentence_cautions(self, hypotheses: Items, references: Sequence[Items]) -> list[str]:
        """The `cautions` that hold for the scores of single lines, too."""
        return self.cautions_from(self.caution_counts(hypotheses, references), references[0], sentence=True)

    def corpus(self, hypotheses: Items, references: Sequence[Items], resampling: Resampling | None = None) -> Score:
        check_segments(hypotheses, references, self.max_references)
        statistics = self._collected(hypotheses, references, resampled=resampling is not None)
        return self.score_from(statistics, reference_count(references), resampling)

    def compare(
        self, baseline: Items, systems: Sequence[Items], references: Sequence[Items], resampling: Resampling
    ) -> list[Score]:
        for lines in (baseline, *systems):
            check_segments(lines, references, self.max_references)
        self.check_resampling(resampling)
        first, *others = (self._collected(lines, references, resampled=True) for lines in (baseline, *systems))
        return self.compare_from(first, others, reference_count(references), resampling)

    def _collected(self, hypotheses: Items, references: Sequence[Items], *, resampled: bool) -> Statistics:
        found = self.collector(resampled=resampled)
        found.add(self.line_statistics(hypotheses, references))
        return found


class CautionCounts:
    """The inputs of the cautions about a text, from its portions: see `LineMetric.cautions_from`."""

    def __init__(self, sample: int) -> None:
        self.numbers: Any = 0
        self.sample: list[Any] = []
        self._most = sample

    def add(self, numbers: np.ndarray, references: Items) -> None:
        """numbers: of a portion; references: its first ones."""
        self.numbers = self.numbers + numbers
        self.sample += references[: self._most - len(self.sample)]
