"""Metrics of classification: accuracy, F1, Matthews' correlation, and the confusion matrix.

With TP, P and G the examples of a label that are correct, predicted and in the reference, of a text of N examples:

    precision = TP / P      recall = TP / G      F1 = 2·TP / (P + G)      accuracy = Σ TP / N
    MCC = (N·Σ TP - Σ P·G) / sqrt((N² - Σ P²) · (N² - Σ G²))

Σ is over labels; a quotient 0 / 0 is 0. All are on the scale of 0 to 100 as the field prints them (GLUE's table has
Matthews' correlation times 100, too). Source: Gorodkin 2004, eq. 8 (MCC for any number of labels); Wang et al. 2019
(GLUE).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once, shares
from nlpcli.evaluation.score import LABELS, Resampling, Score

AVERAGES = ("macro", "micro", "weighted", "binary")
Label = Hashable

_SHOWN = 5  # labels named in a caution


@dataclass(frozen=True)
class LabelCounts:
    """Which examples have which label: what is correct, what is predicted, and what is in the reference.

    Each of the three is a pair of arrays: examples (m,) and labels (m,), numbers of `labels`; an example may stand in
    it any number of times, so that sets of labels and the entities of sentences are counted alike. chosen: whether
    `labels` were given, so that one that does not occur counts as 0, or are those that were found.
    """

    labels: tuple[Label, ...]
    size: int
    correct: tuple[np.ndarray, np.ndarray]
    predicted: tuple[np.ndarray, np.ndarray]
    reference: tuple[np.ndarray, np.ndarray]
    chosen: bool = False

    @classmethod
    def of(
        cls,
        references: Sequence[Collection[Label]],
        predicted: Sequence[Collection[Label]],
        labels: Sequence[Label] | None,
    ) -> LabelCounts:
        """Counts of sets of labels, one or any number for each example.

        labels: those that are counted; None for all that occur, in alphabetical order.
        """
        expected, found = [set(some) for some in references], [set(some) for some in predicted]
        named = labels
        if named is None:
            named = sorted({label for side in (expected, found) for some in side for label in some}, key=str)
        numbers = {label: number for number, label in enumerate(named)}
        correct = [some & others for some, others in zip(expected, found, strict=True)]
        return cls(
            tuple(named),
            len(expected),
            correct=_events(correct, numbers),
            predicted=_events(found, numbers),
            reference=_events(expected, numbers),
            chosen=labels is not None,
        )

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Weights (rows, size) -> correct, predicted, reference of each label, (3, rows, labels)."""
        width = len(self.labels)
        return np.stack(
            [
                np.stack([np.bincount(labels, weights=row[examples], minlength=width) for row in weights])
                for examples, labels in (self.correct, self.predicted, self.reference)
            ]
        )


def f1_scores(correct: np.ndarray, predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """2·correct / (predicted + reference), 0 where both are 0; any shape."""
    below = predicted + reference
    return 2 * correct / np.where(below > 0, below, 1)


def averaged_f1(sums: np.ndarray, average: str, *, chosen: bool = False) -> np.ndarray:
    """F1 in percent of correct, predicted, reference (3, rows, labels) -> (rows,); `binary`: of the one label counted.

    The macro average is over the labels that occur in a row, or over all if they were chosen.
    """
    correct, predicted, reference = sums
    if average == "micro":
        return 100 * f1_scores(correct.sum(-1), predicted.sum(-1), reference.sum(-1))
    each = f1_scores(correct, predicted, reference)  # (rows, labels)
    shares = reference if average == "weighted" else (predicted + reference > 0) | chosen
    total = shares.sum(-1)
    return 100 * (each * shares).sum(-1) / np.where(total > 0, total, 1)


def label_table(sums: np.ndarray, labels: Sequence[Label]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 in percent and counts of each label, from correct, predicted, reference (3, labels)."""
    return {
        str(label): {
            **precision_recall(correct, predicted, reference),
            "support": int(reference),
            "predicted": int(predicted),
        }
        for label, correct, predicted, reference in zip(labels, *sums, strict=True)
    }


def precision_recall(correct: float, predicted: float, reference: float) -> dict[str, float]:
    """Precision, recall and F1 in percent; 0 for 0 / 0."""
    return {
        "precision": 100 * float(correct) / max(float(predicted), 1.0),
        "recall": 100 * float(correct) / max(float(reference), 1.0),
        "f1": 100 * float(f1_scores(np.float64(correct), np.float64(predicted), np.float64(reference))),
    }


class Accuracy(ExampleMetric):
    """The share of examples whose label is correct; of sets of labels the share that is correct as a whole."""

    name: ClassVar[str] = "accuracy"
    needs: ClassVar[str] = LABELS

    def measure(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> Measurement:
        correct = np.array(
            [label == wanted for label, wanted in zip(hypotheses, references[0], strict=True)], dtype=float
        )
        values, count = shares(correct), int(correct.sum())
        details = {"correct": count, "examples": len(correct)}
        return Measurement(
            len(correct), once(values, len(correct)), values, f"{count} of {len(correct)} correct", details
        )

    def sentences(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> list[Score]:
        self._measured(hypotheses, references)
        return self.per_example([100.0 * (a == b) for a, b in zip(hypotheses, references[0], strict=True)])

    def cautions(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> list[str]:
        return unseen_labels(set(references[0]), set(hypotheses))


class F1(ExampleMetric):
    """F1 of labels, averaged over them.

    average: `macro`: the mean of the labels' own. `micro`: of all labels together (of one label an example: the
    accuracy, unless `labels` leaves some out). `weighted`: the mean weighted by the reference counts. `binary`: that of
    the label `positive` alone, which is "1" or True where these are the labels.
    labels: those that are counted (a negative class is left out so); None for all that occur.

    Raises: NlpcliError for an unknown average, or a positive label that is not given or does not occur.
    """

    name: ClassVar[str] = "F1"
    needs: ClassVar[str] = LABELS
    options: ClassVar[frozenset[str]] = frozenset({"average", "positive", "labels"})

    def __init__(
        self, *, average: str = "macro", positive: Label | None = None, labels: Sequence[Label] | None = None
    ) -> None:
        if average not in AVERAGES:
            raise unknown("average", average, AVERAGES)
        if positive is not None and average != "binary":
            raise NlpcliError(f"--positive has no effect on the average '{average}'", hint="add --average binary")
        if labels is not None and average == "binary":
            raise NlpcliError(
                "--labels has no effect on a binary F1, which counts only the positive label", hint="leave out --labels"
            )
        self.average, self.positive, self.labels = average, positive, None if labels is None else tuple(labels)

    def choices(self) -> str:
        positive = "" if self.positive is None else f"|positive:{self.positive}"
        return f"average:{self.average}{positive}{_chosen(self.labels)}"

    def measure(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> Measurement:
        reference, predicted = [(label,) for label in references[0]], [(label,) for label in hypotheses]
        labels = self.labels
        if self.average == "binary":
            labels = (self._positive({label for side in (reference, predicted) for (label,) in side}),)
        return f1_measurement(LabelCounts.of(reference, predicted, labels), self.average)

    def cautions(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> list[str]:
        found = unseen_labels(set(references[0]), set(hypotheses))
        missing = [label for label in self.labels or () if label not in references[0]]
        return found + [f"the label '{label}' of --labels does not occur in the reference" for label in missing]

    def _positive(self, labels: set[Label]) -> Label:
        usual = [label for label in ("1", 1, True) if label in labels]
        if self.positive is None:
            if len(labels) > 2 or not usual:
                named = ", ".join(sorted(map(str, labels)))
                raise NlpcliError(
                    f"a binary F1 needs a positive label, and the labels are {named}",
                    hint="name the positive label with --positive LABEL",
                )
            return usual[0]
        if self.positive not in labels:
            raise unknown("positive label", str(self.positive), sorted(map(str, labels)))
        return self.positive


class Matthews(ExampleMetric):
    """Matthews' correlation times 100, of any number of labels; 0 where a side has one label only."""

    name: ClassVar[str] = "MCC"
    needs: ClassVar[str] = LABELS

    def measure(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> Measurement:
        counts = LabelCounts.of([(label,) for label in references[0]], [(label,) for label in hypotheses], None)

        def values(weights: np.ndarray) -> np.ndarray:
            correct, predicted, reference = counts.sums(weights)
            total = reference.sum(-1)
            above = total * correct.sum(-1) - (predicted * reference).sum(-1)
            below = (total**2 - (predicted**2).sum(-1)) * (total**2 - (reference**2).sum(-1))
            return 100 * above / np.sqrt(np.where(below > 0, below, np.inf))

        details = {"labels": len(counts.labels), "examples": counts.size}
        summary = f"{counted(len(counts.labels), 'label')}, {counted(counts.size, 'example')}"
        return Measurement(counts.size, once(values, counts.size), values, summary, details)

    def cautions(self, hypotheses: Sequence[Label], references: Sequence[Sequence[Label]]) -> list[str]:
        found = unseen_labels(set(references[0]), set(hypotheses))
        for side, lines in (("reference", references[0]), ("prediction", hypotheses)):
            if len(set(lines)) == 1:
                found.append(
                    f"every {side} is '{next(iter(lines))}', so the correlation is undefined and reported as 0"
                )
        return found


def _chosen(labels: Sequence[Label] | None) -> str:
    """The labels that are counted, for a signature; one with a comma or a bar stands in quotation marks."""
    if labels is None:
        return ""
    quoted = (f'"{label}"' if {",", "|"} & set(str(label)) else str(label) for label in labels)
    return f"|labels:{','.join(quoted)}"


def f1_measurement(counts: LabelCounts, average: str) -> Measurement:
    """The averaged F1 of counted labels, with a table of all labels in its details."""

    def values(weights: np.ndarray) -> np.ndarray:
        return averaged_f1(counts.sums(weights), average, chosen=counts.chosen)

    sums = counts.sums(np.ones((1, counts.size)))[:, 0]  # (3, labels)
    together = precision_recall(*sums.sum(-1))
    details = {**together, "examples": counts.size, "labels": label_table(sums, counts.labels)}
    shown = f"precision = {together['precision']:.2f} recall = {together['recall']:.2f}"
    if average not in ("micro", "binary"):
        shown = f"{average} average of {counted(len(counts.labels), 'label')}"
        details = {key: value for key, value in details.items() if key not in together}
    return Measurement(counts.size, once(values, counts.size), values, shown, details)


def unseen_labels(reference: set[Label], predicted: set[Label]) -> list[str]:
    """A caution where labels are predicted that the reference does not have."""
    strange = sorted(map(str, predicted - reference))
    if not strange:
        return []
    named = ", ".join(f"'{label}'" for label in strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
    if len(strange) == 1:
        return [f"the predicted label {named} does not occur in the reference"]
    return [f"these predicted labels do not occur in the reference: {named}"]


def accuracy(references: Sequence[Label], predicted: Sequence[Label], resampling: Resampling | None = None) -> Score:
    """Accuracy in percent. Raises: NlpcliError where the lengths differ or there is nothing."""
    return Accuracy().corpus(predicted, [references], resampling)


def f1(
    references: Sequence[Label],
    predicted: Sequence[Label],
    average: str = "macro",
    positive: Label | None = None,
    labels: Sequence[Label] | None = None,
    resampling: Resampling | None = None,
) -> Score:
    """F1 in percent, see `F1`. Raises: NlpcliError as there, and where the lengths differ or there is nothing."""
    return F1(average=average, positive=positive, labels=labels).corpus(predicted, [references], resampling)


def matthews(references: Sequence[Label], predicted: Sequence[Label], resampling: Resampling | None = None) -> Score:
    """Matthews' correlation times 100. Raises: NlpcliError where the lengths differ or there is nothing."""
    return Matthews().corpus(predicted, [references], resampling)


def subset_accuracy(
    references: Sequence[Collection[Label]],
    predicted: Sequence[Collection[Label]],
    resampling: Resampling | None = None,
) -> Score:
    """The share of examples whose set of labels is correct as a whole, in percent. Raises: NlpcliError."""
    return Accuracy().corpus(
        [frozenset(some) for some in predicted], [[frozenset(some) for some in references]], resampling
    )


class MultiLabelF1(ExampleMetric):
    """F1 of sets of labels: micro, macro or weighted over labels, or the mean F1 of the examples (`samples`).

    Two empty sets have F1 0 in the average over samples, as in scikit-learn.
    """

    name: ClassVar[str] = "F1"
    needs: ClassVar[str] = "sets of labels"

    def __init__(self, *, average: str = "micro", labels: Sequence[Label] | None = None) -> None:
        averages = ("micro", "macro", "weighted", "samples")
        if average not in averages:
            raise unknown("average", average, averages)
        self.average, self.labels = average, None if labels is None else tuple(labels)

    def choices(self) -> str:
        return f"average:{self.average}|multi-label:yes{_chosen(self.labels)}"

    def measure(
        self, hypotheses: Sequence[Collection[Label]], references: Sequence[Sequence[Collection[Label]]]
    ) -> Measurement:
        counts = LabelCounts.of(references[0], hypotheses, self.labels)
        if self.average != "samples":
            return f1_measurement(counts, self.average)
        values = shares(self._each(counts))
        micro = f1_measurement(counts, "micro")
        return Measurement(counts.size, once(values, counts.size), values, "mean of the examples", micro.details)

    def sentences(
        self, hypotheses: Sequence[Collection[Label]], references: Sequence[Sequence[Collection[Label]]]
    ) -> list[Score]:
        self._measured(hypotheses, references)
        return self.per_example(100 * self._each(LabelCounts.of(references[0], hypotheses, self.labels)))

    @staticmethod
    def _each(counts: LabelCounts) -> np.ndarray:
        sides = (counts.correct, counts.predicted, counts.reference)
        return f1_scores(*(np.bincount(examples, minlength=counts.size) for examples, _ in sides))


def multilabel_f1(
    references: Sequence[Collection[Label]],
    predicted: Sequence[Collection[Label]],
    labels: Sequence[Label] | None = None,
    average: str = "micro",
    resampling: Resampling | None = None,
) -> Score:
    """F1 of sets of labels in percent, see `MultiLabelF1`. Raises: NlpcliError."""
    return MultiLabelF1(average=average, labels=labels).corpus(predicted, [references], resampling)


def confusion(references: Sequence[Label], predicted: Sequence[Label], labels: Sequence[Label]) -> np.ndarray:
    """How often label i of the reference was predicted as label j, (labels, labels) integers.

    Raises: NlpcliError for a label that is not among `labels`, and where the lengths differ.
    """
    if len(references) != len(predicted):
        raise NlpcliError(
            f"the numbers of predicted labels ({len(predicted):,}) and reference labels ({len(references):,}) "
            "are not equal"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for wanted, found in zip(references, predicted, strict=True):
        for label in (wanted, found):
            if label not in numbers:
                raise unknown("label", str(label), map(str, labels))
        table[numbers[wanted], numbers[found]] += 1
    return table


def _events(side: Sequence[Collection[Label]], numbers: Mapping[Label, int]) -> tuple[np.ndarray, np.ndarray]:
    found = [(example, numbers[label]) for example, some in enumerate(side) for label in some if label in numbers]
    table = np.array(found, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
