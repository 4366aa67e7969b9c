"""Accuracy on minimal pairs: the share in which a model gives the acceptable sentence the higher probability.

A paradigm's accuracy is that of its pairs; a phenomenon's, a field's and the whole's are the means over their
paradigms, which all count the same (Warstadt et al. 2020, section 4). In percent; chance is 50. Two sentences with the
same probability are counted as wrong, so that a model that never prefers one gets 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.bootstrap import interval
from nlpcli.evaluation.score import NO_BOUNDS, Resampling, Score

_NAME = "accuracy"


@dataclass
class _Paradigm:
    phenomenon: str | None
    field: str | None
    pairs: int = 0
    correct: int = 0


@dataclass(frozen=True)
class MinimalPairScores:
    """Accuracies in percent. mean: over the paradigms. paradigms, phenomena, fields: by name; phenomena and fields are
    empty where the data name none. pairs: how many there are; ties: how many of them are equally probable sentences."""

    mean: Score
    paradigms: Mapping[str, Score]
    phenomena: Mapping[str, Score]
    fields: Mapping[str, Score]
    pairs: int
    ties: int

    def levels(self) -> dict[str, Mapping[str, Score]]:
        """The scores of each level that has any, from the smallest group to the whole."""
        found = {"paradigm": self.paradigms, "phenomenon": self.phenomena, "field": self.fields}
        return {**{level: scores for level, scores in found.items() if scores}, "mean": {"mean": self.mean}}


@dataclass
class PairCounts:
    """Counts the correct pairs of each paradigm as they come."""

    ties: int = 0
    _paradigms: dict[str, _Paradigm] = field(default_factory=dict)

    def add(self, paradigm: str, phenomenon: str | None, field: str | None, *, good: float, bad: float) -> None:
        """A pair whose sentences have the log-probabilities `good` and `bad`. Of a paradigm that is named with several
        phenomena or fields the first counts."""
        counts = self._paradigms.setdefault(paradigm, _Paradigm(phenomenon, field))
        counts.pairs += 1
        counts.correct += good > bad
        self.ties += good == bad

    def scores(self, protocol: str, resampling: Resampling | None = None) -> MinimalPairScores:
        """The accuracies, with 95 % intervals when `resampling` is given: the pairs of each paradigm are resampled.

        protocol: how sentences are scored, for the signatures: `logprob:sum|tok:bpe-8000`. A resample of n pairs of
        which k are correct has Binomial(n, k / n) correct ones; that number is sampled.
        Raises: NlpcliError where there are no pairs.
        """
        if not self._paradigms:
            raise NlpcliError("there are no minimal pairs to score")
        resampled = {} if resampling is None else {name: self._resampled(name, resampling) for name in self._paradigms}

        def score(level: str, group: str, names: Sequence[str]) -> Score:
            some = [self._paradigms[name] for name in names]
            value = 100 * sum(counts.correct / counts.pairs for counts in some) / len(some)
            bounds = NO_BOUNDS if resampling is None else interval(np.mean([resampled[name] for name in names], axis=0))
            pairs = sum(counts.pairs for counts in some)
            of = "" if level == "paradigm" else f"|paradigms:{len(some)}"
            bootstrap = "" if resampling is None else f"|bs:{resampling.samples}|seed:{resampling.seed}"
            return Score(
                _NAME, value,
                f"{_NAME}|level:{level}{of}|pairs:{pairs}|ties:wrong|{protocol}{bootstrap}|nlpcli:{__version__}",
                *bounds,
                summary=f"({counted(pairs, 'pair')})",
                details={"level": level, "group": group, "pairs": pairs},
            )  # fmt: skip

        def groups(level: str) -> dict[str, Score]:
            members: dict[str, list[str]] = {}
            for name, counts in self._paradigms.items():
                group = getattr(counts, level)
                if group is not None:
                    members.setdefault(group, []).append(name)
            return {group: score(level, group, names) for group, names in sorted(members.items())}

        return MinimalPairScores(
            mean=score("mean", "mean", list(self._paradigms)),
            paradigms={name: score("paradigm", name, [name]) for name in self._paradigms},
            phenomena=groups("phenomenon"),
            fields=groups("field"),
            pairs=sum(counts.pairs for counts in self._paradigms.values()),
            ties=self.ties,
        )

    def _resampled(self, name: str, resampling: Resampling) -> np.ndarray:
        """Resampled accuracies of a paradigm (samples,); which ones does not depend on the others."""
        counts = self._paradigms[name]
        rng = np.random.default_rng([resampling.seed, zlib.crc32(name.encode())])
        return 100 * rng.binomial(counts.pairs, counts.correct / counts.pairs, resampling.samples) / counts.pairs
