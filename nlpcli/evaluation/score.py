"""The result of every metric, and the options of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

Lines = Sequence[str]
ReferenceLines = Sequence[str | None]  # None: this set has no reference for the line
Items = Sequence[Any]

Bounds = tuple[float | None, float | None, float | None]
"""`low`, `high` and `mean` of a `Score`."""
NO_BOUNDS: Bounds = (None, None, None)

# What a metric is computed from (`Metric.needs`): for each example one item on either side.
TEXT_PAIRS = "text-pairs"  # lines
LABELS = "labels"  # str
NUMBERS = "numbers"  # float
TAGS = "tags"  # the tags of a sentence, tuple[str, ...]
ANSWERS = "answers"  # str | None (no prediction) beside tuple[str, ...], all reference answers, () where there is none
LINKS = "links"  # the word alignment of a sentence pair, nlpcli.evaluation.alignment_error_rate.Links


@dataclass(frozen=True)
class Score:
    """One number with everything needed to report it and to measure it again.

    `value` is on the scale the field prints: 0 to 100 for BLEU and chrF; percent for TER and the error rates (which may
    exceed 100); perplexities and bits are what they are. `signature` begins with the metric's name and names every
    choice that moves the number. `low` and `high` bound the 95 % bootstrap interval and `mean` is the mean of the
    resamples; `p_value` belongs to the difference from a baseline. `summary` is a short account for people, `details`
    the counts behind the value for programs.
    """

    name: str
    value: float
    signature: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    p_value: float | None = None
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def interval(self, precision: int = 2) -> str:
        """`[low, high]`, or an empty string where none was estimated."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.low:.{precision}f}, {self.high:.{precision}f}]"

    def line(self, precision: int = 2) -> str:
        """Name, value, interval, account and signature: one line to paste, with the value in its second column."""
        parts = [self.name, f"{self.value:.{precision}f}", self.interval(precision), self.summary, self.signature]
        return " ".join(part for part in parts if part)

    def as_dict(self, metric: str | None = None) -> dict[str, Any]:
        """All fields in full precision; low and high are None without an interval, others without a value left out.

        metric: the name by which a user selects the score, where it differs from that in print (bleu, BLEU).
        """
        bounds = {"low": self.low, "high": self.high}
        optional = {"mean": self.mean, "p_value": self.p_value}
        given = {key: value for key, value in optional.items() if value is not None}
        named = {"metric": metric or self.name, "value": self.value, **bounds}
        return {**named, **given, "signature": self.signature, **self.details}


@dataclass(frozen=True)
class Resampling:
    """How often the segments are resampled, with replacement, and from which seed."""

    samples: int = 1000
    seed: int = 12345

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise NlpcliError(f"a bootstrap needs at least 2 resamples, not {self.samples}")
        if self.seed < 0:
            raise NlpcliError(f"the seed must be at least 0, not {self.seed}")


class Metric(Protocol):
    """A metric of examples; a new one is a class of this shape and a line in `nlpcli.evaluation.METRICS`.

    `needs` is the kind of its inputs, `max_references` the most reference sets (None: any number), and
    `options` the keyword arguments of its constructor; an option's name is the same in every metric that has it
    and becomes the flag of `nlpcli score`. A metric that cannot score every item of its kind has a method `check` that
    raises NlpcliError for such an item, and `check_reference` where a reference may hold others than a hypothesis.

    Shapes: hypotheses is a list of n items; references a list of r lists of n items. For text one line is one item,
    blank or not; None is a missing reference, as in sacreBLEU, and does not count. Raises: NlpcliError where the
    numbers of items differ, there are none, or one has no reference.
    """

    needs: ClassVar[str]
    max_references: ClassVar[int | None]
    options: ClassVar[frozenset[str]]

    def corpus(self, hypotheses: Items, references: Sequence[Items], resampling: Resampling | None = None) -> Score:
        """The score of all items together, with an interval when `resampling` is given."""

    def sentences(self, hypotheses: Items, references: Sequence[Items]) -> list[Score]:
        """The score of each item on its own, in order. Raises: NlpcliError for a metric of whole texts only."""

    def compare(
        self, baseline: Items, systems: Sequence[Items], references: Sequence[Items], resampling: Resampling
    ) -> list[Score]:
        """Paired bootstrap: the baseline's score, then each system's with the p-value of its difference from it."""

    def cautions(self, hypotheses: Items, references: Sequence[Items]) -> list[str]:
        """Sentences about input that looks unfit for these options, though it can be scored."""


def check_segments(hypotheses: Items, references: Sequence[Items], max_references: int | None = None) -> None:
    """Refuses what would be scored wrongly in silence. Raises: NlpcliError."""
    if not references:
        raise NlpcliError("no references are given")
    if max_references is not None and len(references) > max_references:
        raise NlpcliError(f"this metric takes {counted(max_references, 'reference')}, but {len(references)} were given")
    if len(hypotheses) == 0:  # an array has no truth value
        raise NlpcliError("there are no lines to score")
    for number, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            lines, expected = counted(len(reference), "line"), counted(len(hypotheses), "line")
            raise NlpcliError(f"the hypotheses have {expected}, but reference {number} has {lines}")
    if all(None in reference for reference in references):
        for number, row in enumerate(zip(*references, strict=True), start=1):
            if all(item is None for item in row):
                raise NlpcliError(f"line {number} has no reference")


def without_blanks(references: Sequence[Lines]) -> list[list[str | None]]:
    """Reference sets in which a blank line is None, a missing reference, where another set has text in this line.

    A line that is blank in all sets, as in a single one, is the empty text.
    """
    rows = zip(*references, strict=True)
    kept = [[line if line.strip() else None for line in row] if "".join(row).strip() else row for row in rows]
    return [list(lines) for lines in zip(*kept, strict=True)] if kept else [list(lines) for lines in references]


def reference_sets(texts: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """The references of n items, (n, any number), as sets of n each: None where an item has fewer than others.

    An item without any has the empty text.
    """
    rows = [list(some) or [""] for some in texts]
    most = max(map(len, rows), default=1)
    return [[row[number] if number < len(row) else None for row in rows] for number in range(most)]


def reference_count(references: Sequence[Items]) -> str:
    """How many references an item has, for a signature: `2`, or `var` where some have more than others."""
    return count_for_signature(counts_of_references(references))


def counts_of_references(references: Sequence[Items]) -> set[int]:
    """How many references the items have, each number once.

    Of reference answers () is a missing reference, unless all sets have it: then there is no answer.
    """
    if len(references) == 1:
        return {1}
    return {sum(item is not None and item != () for item in row) or len(row) for row in zip(*references, strict=True)}


def count_for_signature(counts: Set[int]) -> str:
    """Numbers of references as a signature has them."""
    return str(next(iter(counts))) if len(counts) == 1 else "var"
