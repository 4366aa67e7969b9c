"""Accuracies on minimal pairs out of counted pairs."""

from __future__ import annotations

import numpy as np
import pytest

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.classification_metrics import accuracy
from nlpcli.evaluation.minimal_pair_accuracy import PairCounts
from nlpcli.evaluation.score import Resampling


def counted(*paradigms):
    """paradigms: name, phenomenon, field, correct, pairs."""
    counts = PairCounts()
    for name, phenomenon, field, correct, pairs in paradigms:
        for i in range(pairs):
            counts.add(name, phenomenon, field, good=0.0, bad=-1.0 if i < correct else 1.0)
    return counts


def test_groups_are_means_over_their_paradigms_whatever_the_number_of_pairs():
    scores = counted(
        ("a", "p", "f", 1, 2), ("b", "p", "f", 4, 4), ("c", "q", "f", 0, 10), ("d", "p", "g", 1, 4)
    ).scores("")
    assert {name: score.value for name, score in scores.paradigms.items()} == {"a": 50, "b": 100, "c": 0, "d": 25}
    assert {name: score.value for name, score in scores.phenomena.items()} == pytest.approx({"p": 175 / 3, "q": 0})
    assert {name: score.value for name, score in scores.fields.items()} == {"f": 50, "g": 25}
    assert (scores.mean.value, scores.pairs, scores.ties) == (43.75, 20, 0)
    assert "|level:mean|paradigms:4|pairs:20|ties:wrong|" in scores.mean.signature


def test_equally_probable_sentences_are_wrong():
    counts = counted(("a", None, None, 1, 1))
    counts.add("a", None, None, good=-3.5, bad=-3.5)
    scores = counts.scores("")
    assert (scores.mean.value, scores.ties, dict(scores.fields)) == (50, 1, {})


def test_the_interval_of_a_paradigm_is_that_of_resampled_pairs_and_independent_of_others():
    resampling = Resampling(4000, 1)
    alone = counted(("a", "p", "f", 70, 100)).scores("", resampling).mean
    found = counted(("b", "p", "f", 5, 50), ("a", "p", "f", 70, 100)).scores("", resampling)
    assert found.paradigms["a"].low == alone.low and found.paradigms["a"].high == alone.high
    drawn = accuracy([1] * 100, [1] * 70 + [0] * 30, resampling)
    assert (alone.low, alone.high) == pytest.approx((drawn.low, drawn.high), abs=1.01)
    deviation = np.sqrt(0.7 * 0.3 / 100 + 0.1 * 0.9 / 50) / 2 * 100
    assert found.mean.high - found.mean.low == pytest.approx(2 * 1.96 * deviation, rel=0.08)


def test_no_pairs_have_no_accuracy():
    with pytest.raises(NlpcliError, match="no minimal pairs"):
        PairCounts().scores("")
