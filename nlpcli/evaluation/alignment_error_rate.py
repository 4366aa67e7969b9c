"""Word alignments against a reference: the alignment error rate.

With A the links of a system, S the sure links of the reference and P its possible ones, the sure ones among them:

    precision = |A ∩ P| / |A|     recall = |A ∩ S| / |S|     AER = 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|)

all sums over the whole text, in percent. Source: Och and Ney 2003, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_int
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once
from nlpcli.evaluation.score import LINKS, Score

Pairs = frozenset[tuple[int, int]]

_LINK = re.compile(r"([0-9]+)([-p?])([0-9]+)")
_SIDES = {"ref": "the reference", "hyp": "the hypothesis"}


@dataclass(frozen=True)
class Links:
    """The links of a sentence pair, (source word, target word), numbered as the file numbers them.

    `possible` holds all, `sure` those that are not marked as merely possible.
    """

    sure: Pairs
    possible: Pairs


def parse_links(line: str, place: str) -> Links:
    """`0-0 1p2 1?3`: a sure link, and two that are possible. Raises: NlpcliError for anything else."""
    sure: set[tuple[int, int]] = set()
    possible: set[tuple[int, int]] = set()
    for word in line.split():
        match = _LINK.fullmatch(word)
        source, target = (parse_int(match[1]), parse_int(match[3])) if match else (None, None)
        if match is None or source is None or target is None:
            raise NlpcliError(
                f"{place}: '{word[:40]}' is not a link such as 0-0",
                hint="a line lists the links of one sentence pair, such as 0-0 1-2; write 3p4 for a possible link",
            )
        possible.add((source, target))
        if match[2] == "-":
            sure.add((source, target))
    return Links(frozenset(sure), frozenset(possible))


class AlignmentErrorRate(ExampleMetric):
    """AER in percent, lower is better; resampled by sentence pairs. Details hold precision, recall and the counts.

    one_based: the side whose words are numbered from 1, "ref", "hyp" or "both"; from 0 otherwise. reverse: the side
    whose links are (target, source), "ref" or "hyp". Every link of a system counts, however it is marked. Without any
    link on either side nothing is wrong, and the rate is 0.

    Raises: NlpcliError for other sides, and for a word 0 where they are numbered from 1.
    """

    name: ClassVar[str] = "AER"
    needs: ClassVar[str] = LINKS
    options: ClassVar[frozenset[str]] = frozenset({"one_based", "reverse"})

    def __init__(self, *, one_based: str | None = None, reverse: str | None = None) -> None:
        if one_based is not None and one_based not in (*_SIDES, "both"):
            raise unknown("value of --one-based", one_based, (*_SIDES, "both"))
        if reverse is not None and reverse not in _SIDES:
            raise unknown("value of --reverse", reverse, _SIDES)
        self.reverse = reverse
        self._first = {side: int(one_based in (side, "both")) for side in _SIDES}

    def choices(self) -> str:
        return f"base:ref{self._first['ref']}+hyp{self._first['hyp']}|reverse:{self.reverse or 'no'}"

    def check(self, links: Links) -> None:
        """Refuses a hypothesis with a number that no word has. Raises: NlpcliError."""
        self._check(links, "hyp")

    def check_reference(self, links: Links) -> None:
        """The same of a reference. Raises: NlpcliError."""
        self._check(links, "ref")

    def measure(self, hypotheses: Sequence[Links], references: Sequence[Sequence[Links]]) -> Measurement:
        counts = self._counts(hypotheses, references[0])

        def values(weights: np.ndarray) -> np.ndarray:
            return _rates(weights @ counts)

        correct, acceptable, links, sure = (int(total) for total in counts.sum(axis=0))
        details = {
            "precision": 100 * acceptable / max(1, links),
            "recall": 100 * correct / max(1, sure),
            "links": links,
            "sure": sure,
            "possible": sum(len(links.possible - links.sure) for links in references[0]),
            "links_sure": correct,
            "links_possible": acceptable,
            "examples": len(counts),
        }
        summary = (
            f"precision = {details['precision']:.2f} recall = {details['recall']:.2f} ({counted(links, 'link')}; "
            f"reference: {sure} sure, {details['possible']} possible)"
        )
        return Measurement(len(counts), once(values, len(counts)), values, summary, details)

    def sentences(self, hypotheses: Sequence[Links], references: Sequence[Sequence[Links]]) -> list[Score]:
        self._measured(hypotheses, references)
        return self.per_example(_rates(self._counts(hypotheses, references[0])))

    def cautions(self, hypotheses: Sequence[Links], references: Sequence[Sequence[Links]]) -> list[str]:
        pairs = {"ref": self._all(references[0], "ref"), "hyp": self._all(hypotheses, "hyp")}
        first = {side: any(0 in pair for links in pairs[side] for pair in links) for side in _SIDES}
        found = [
            f"the links of {_SIDES[side]} never contain 0, so its words may be numbered from 1; "
            f"add --one-based {side} if they are"
            for side in _SIDES
            if any(pairs[side]) and not first[side] and any(first.values())
        ]
        correct, turned = _agreeing(pairs["hyp"], pairs["ref"])
        if turned > correct:
            found.append(
                f"the number of links that match the reference is {correct}, but it is {turned} with source and target "
                "exchanged; add --reverse hyp to exchange them"
            )
        return found

    def _counts(self, hypotheses: Sequence[Links], references: Sequence[Links]) -> np.ndarray:
        """|A ∩ S|, |A ∩ P|, |A| and |S| of each sentence pair, (pairs, 4)."""
        rows = [
            (len(found & sure), len(found & possible), len(found), len(sure))
            for found, sure, possible in zip(
                self._all(hypotheses, "hyp"),
                (self._pairs(links.sure, "ref") for links in references),
                self._all(references, "ref"),
                strict=True,
            )
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 4)

    def _all(self, texts: Iterable[Links], side: str) -> list[Pairs]:
        return [self._pairs(links.possible, side) for links in texts]

    def _pairs(self, pairs: Pairs, side: str) -> Pairs:
        """The pairs (source word, target word) with words numbered from 0."""
        first = self._first[side]
        if self.reverse == side:
            return frozenset((j - first, i - first) for i, j in pairs)
        return frozenset((i - first, j - first) for i, j in pairs) if first else pairs

    def _check(self, links: Links, side: str) -> None:
        zero = [pair for pair in sorted(links.possible) if self._first[side] and 0 in pair]
        if zero:
            raise NlpcliError(
                f"the link {zero[0][0]}-{zero[0][1]} contains 0, but the words of {_SIDES[side]} are numbered from 1 "
                "(--one-based)",
                hint="leave out --one-based, or name only the side whose words are numbered from 1",
            )


def _agreeing(predictions: Sequence[Pairs], references: Sequence[Pairs]) -> tuple[int, int]:
    """How many links are in the reference, as they are and with their two words exchanged."""
    correct = sum(len(links & expected) for links, expected in zip(predictions, references, strict=True))
    turned = sum((j, i) in expected for links, expected in zip(predictions, references, strict=True) for i, j in links)
    return correct, turned


def _rates(counts: np.ndarray) -> np.ndarray:
    """AER (rows,) of sums |A ∩ S|, |A ∩ P|, |A|, |S| (rows, 4)."""
    correct, acceptable, links, sure = counts.T
    total = links + sure
    return np.where(total > 0, 100 * (1 - (correct + acceptable) / np.where(total > 0, total, 1)), 0.0)
