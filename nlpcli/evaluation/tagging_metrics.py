"""Metrics of tagged sentences: F1 of entities, as conlleval and seqeval define it, and the accuracy of tags.

An entity is correct if its type and both of its ends are:

    precision = correct / predicted      recall = correct / reference      F1 = 2·correct / (predicted + reference)

over the entities of all types together, in percent. Source: Tjong Kim Sang and De Meulder 2003, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.tag_schemes import (
    Entity,
    check_tags,
    detect_scheme,
    entities,
    scheme_name,
    split_tag,
    strict_entities,
)
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.classification_metrics import LabelCounts, f1_measurement, f1_scores
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once, shares
from nlpcli.evaluation.score import TAGS, Resampling, Score

Tags = Sequence[str]


class EntityF1(ExampleMetric):
    """F1 of entities over all types (micro average); details hold that of each type.

    strict: entities count only if they are written as `scheme` has them; scheme None: the one in which the reference
    tags are valid. Otherwise any sequence is read as conlleval reads it, whatever its scheme.

    Raises: NlpcliError for tags of another shape than `B-PER` or `O`, sentences of unequal length, a scheme without
    `strict`, and in strict mode for reference tags that are valid in no scheme.
    """

    name: ClassVar[str] = "entity-F1"
    needs: ClassVar[str] = TAGS
    options: ClassVar[frozenset[str]] = frozenset({"strict", "scheme"})

    def __init__(self, *, strict: bool = False, scheme: str | None = None) -> None:
        if scheme is not None and not strict:
            raise NlpcliError("--scheme has no effect without --strict", hint="add --strict")
        self.strict, self.scheme = strict, None if scheme is None else scheme_name(scheme)

    def choices(self) -> str:
        mode = f"strict|scheme:{self.scheme or 'auto'}" if self.strict else "conlleval"
        return f"average:micro|mode:{mode}"

    def check(self, tags: Tags) -> None:
        """Refuses a sentence with a tag that is none of an entity. Raises: NlpcliError."""
        for tag in tags:
            split_tag(tag)

    def measure(self, hypotheses: Sequence[Tags], references: Sequence[Sequence[Tags]]) -> Measurement:
        return f1_measurement(self._counts(hypotheses, references[0]), "micro")

    def sentences(self, hypotheses: Sequence[Tags], references: Sequence[Sequence[Tags]]) -> list[Score]:
        """F1 of each sentence; 100 for one in which there is no entity, and none was found."""
        self._measured(hypotheses, references)
        counts = self._counts(hypotheses, references[0])
        sides = (counts.correct, counts.predicted, counts.reference)
        correct, predicted, reference = (np.bincount(examples, minlength=counts.size) for examples, _ in sides)
        each = np.where(predicted + reference == 0, 1.0, f1_scores(correct, predicted, reference))
        return self.per_example(100 * each)

    def cautions(self, hypotheses: Sequence[Tags], references: Sequence[Sequence[Tags]]) -> list[str]:
        scheme = self.scheme or detect_scheme(references[0])
        if scheme is None:
            return [
                "the reference tags do not follow any known tagging scheme, so entities are read as the script "
                "conlleval reads them"
            ]
        invalid = sum(bool(check_tags(tags, scheme)) for tags in hypotheses)
        if not invalid:
            return []
        what = "is not valid" if invalid == 1 else "are not valid"
        done = "invalid entities do not count" if self.strict else "entities are read as conlleval reads them"
        return [f"{invalid:,} of {counted(len(hypotheses), 'predicted sentence')} {what} {scheme}, so {done}"]

    def _counts(self, predicted: Sequence[Tags], references: Sequence[Tags]) -> LabelCounts:
        _check_lengths(predicted, references)
        found, wanted = self._entities(predicted, references), self._entities(references, references)
        correct = [sorted(set(some) & set(others)) for some, others in zip(found, wanted, strict=True)]
        types = sorted({entity.type for side in (found, wanted) for some in side for entity in some})
        numbers = {name: number for number, name in enumerate(types)}
        return LabelCounts(
            tuple(types),
            len(references),
            correct=_events(correct, numbers),
            predicted=_events(found, numbers),
            reference=_events(wanted, numbers),
        )

    def _entities(self, sentences: Sequence[Tags], references: Sequence[Tags]) -> list[list[Entity]]:
        if not self.strict:
            return [entities(tags) for tags in sentences]
        scheme = self.scheme or detect_scheme(references)
        if scheme is None:
            raise NlpcliError(
                "the reference tags do not follow any known tagging scheme", hint="name their scheme with --scheme"
            )
        return [strict_entities(tags, scheme) for tags in sentences]


class TagAccuracy(ExampleMetric):
    """The share of words whose tag is correct, in percent; resampled by sentences."""

    name: ClassVar[str] = "tag-accuracy"
    needs: ClassVar[str] = TAGS

    def measure(self, hypotheses: Sequence[Tags], references: Sequence[Sequence[Tags]]) -> Measurement:
        correct, words = self._counts(hypotheses, references[0])
        values = shares(correct, words)
        details = {"correct": int(correct.sum()), "words": int(words.sum()), "examples": len(words)}
        summary = f"{details['correct']} of {counted(details['words'], 'word')} correct"
        return Measurement(len(words), once(values, len(words)), values, summary, details)

    def sentences(self, hypotheses: Sequence[Tags], references: Sequence[Sequence[Tags]]) -> list[Score]:
        self._measured(hypotheses, references)
        correct, words = self._counts(hypotheses, references[0])
        return self.per_example(100 * correct / np.where(words > 0, words, 1))

    @staticmethod
    def _counts(predicted: Sequence[Tags], references: Sequence[Tags]) -> tuple[np.ndarray, np.ndarray]:
        _check_lengths(predicted, references)
        correct = [sum(map(str.__eq__, tags, wanted)) for tags, wanted in zip(predicted, references, strict=True)]
        return np.array(correct, dtype=np.float64), np.array([len(tags) for tags in references], dtype=np.float64)


def entity_f1(
    reference_tags: Sequence[Tags],
    predicted_tags: Sequence[Tags],
    strict: bool = False,
    scheme: str | None = None,
    resampling: Resampling | None = None,
) -> Score:
    """F1 of entities in percent, see `EntityF1`. Raises: NlpcliError as there."""
    return EntityF1(strict=strict, scheme=scheme).corpus(predicted_tags, [reference_tags], resampling)


def token_accuracy(
    reference_tags: Sequence[Tags], predicted_tags: Sequence[Tags], resampling: Resampling | None = None
) -> Score:
    """The share of words whose tag is correct, in percent. Raises: NlpcliError for unequal lengths or nothing."""
    return TagAccuracy().corpus(predicted_tags, [reference_tags], resampling)


def _check_lengths(predicted: Sequence[Tags], references: Sequence[Tags]) -> None:
    for number, (found, wanted) in enumerate(zip(predicted, references, strict=True), start=1):
        if len(found) != len(wanted):
            words, tags = counted(len(wanted), "word"), counted(len(found), "tag")
            raise NlpcliError(f"sentence {number} has {words}, but its prediction has {tags}")


def _events(side: Sequence[Sequence[Entity]], numbers: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    found = [(example, numbers[entity.type]) for example, some in enumerate(side) for entity in some]
    table = np.array(found, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
