from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as theirs
from seqeval.scheme import IOBES

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling, tagging_metrics
from nlpcli.evaluation.tagging_metrics import EntityF1, TagAccuracy

TAG = st.sampled_from(["O", "O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))])
SENTENCES = st.lists(st.lists(st.tuples(TAG, TAG), min_size=1, max_size=8), min_size=1, max_size=6)


def split(sentences):
    return tuple([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval's notices about 0 / 0
        yield


@given(SENTENCES)
def test_entity_f1_is_that_of_seqeval_on_any_tags(sentences):
    gold, predicted = split(sentences)
    score = tagging_metrics.entity_f1(gold, predicted)
    assert score.value == pytest.approx(100 * theirs.f1_score(gold, predicted))
    assert score.details["precision"] == pytest.approx(100 * theirs.precision_score(gold, predicted))
    assert score.details["recall"] == pytest.approx(100 * theirs.recall_score(gold, predicted))
    assert tagging_metrics.token_accuracy(gold, predicted).value == pytest.approx(
        100 * theirs.accuracy_score(gold, predicted)
    )
    table = score.details["labels"]
    if table:
        report = theirs.classification_report(gold, predicted, output_dict=True)
        for kind, row in table.items():
            expected = [100 * report[kind][key] for key in ("precision", "recall", "f1-score")]
            assert [row[key] for key in ("precision", "recall", "f1")] == pytest.approx(expected)
            assert row["support"] == report[kind]["support"]


@given(SENTENCES)
def test_strict_entity_f1_is_that_of_seqevals_strict_mode(sentences):
    gold, predicted = split(sentences)
    try:
        expected = theirs.f1_score(gold, predicted, mode="strict", scheme=IOBES, zero_division=0)
    except ValueError:  # seqeval cannot score texts without any entity
        expected = 0.0
    assert tagging_metrics.entity_f1(gold, predicted, strict=True, scheme="IOBES").value == pytest.approx(
        100 * expected
    )


def test_an_entity_needs_its_type_and_both_ends_and_a_wrong_beginning_is_forgiven():
    gold = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert tagging_metrics.entity_f1(gold, [["I-PER", "I-PER", "O", "I-LOC"]]).value == 100
    assert tagging_metrics.entity_f1(gold, [["I-PER", "I-PER", "O", "I-LOC"]], strict=True).value == 0
    assert tagging_metrics.entity_f1(gold, [["B-PER", "O", "O", "B-LOC"]]).value == 50
    assert tagging_metrics.entity_f1(gold, [["B-LOC", "I-LOC", "O", "B-LOC"]]).value == 50


def test_sentences_are_scored_one_by_one_and_drawn_whole():
    gold = [["B-X", "O"], ["O"], ["B-X", "I-X"], ["O", "B-Y"]]
    predicted = [["B-X", "O"], ["O"], ["B-X", "B-X"], ["B-Y", "B-Y"]]
    scores = EntityF1().sentences(predicted, [gold])
    assert [score.value for score in scores] == pytest.approx([100, 100, 0, 200 / 3])
    assert [score.value for score in TagAccuracy().sentences(predicted, [gold])] == [100, 100, 50, 50]
    drawn = np.random.default_rng(4).choice(4, size=(60, 4), replace=True)
    for score in (tagging_metrics.entity_f1, tagging_metrics.token_accuracy):
        values = sorted(score([gold[i] for i in row], [predicted[i] for i in row]).value for row in drawn)
        found = score(gold, predicted, resampling=Resampling(60, 4))
        assert (found.low, found.high) == pytest.approx((values[1], values[-2]))


def test_the_signature_says_how_tags_were_read():
    tags = [["B-X"]]
    assert "|average:micro|mode:conlleval|nlpcli" in tagging_metrics.entity_f1(tags, tags).signature
    assert "|mode:strict|scheme:auto|" in tagging_metrics.entity_f1(tags, tags, strict=True).signature
    assert "|mode:strict|scheme:BIO|" in tagging_metrics.entity_f1(tags, tags, strict=True, scheme="iob2").signature


def test_invalid_predictions_are_cautioned_against():
    gold = [["B-X", "I-X"], ["O", "B-Y"]]
    [caution] = EntityF1().cautions([["B-X", "I-X"], ["O", "I-Y"]], [gold])
    assert caution.startswith("1 of 2 predicted sentences is not valid BIO, so entities are read as conlleval")
    assert EntityF1().cautions(gold, [gold]) == []
    assert "do not follow any known tagging scheme" in EntityF1().cautions(gold, [[["I-X", "O"], ["B-Y", "I-Z"]]])[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: tagging_metrics.entity_f1([["O"], ["O", "O"]], [["O"], ["O"]]),
            "sentence 2 has 2 words, but its prediction has 1 tag",
        ),
        (lambda: tagging_metrics.token_accuracy([["O"]], [[]]), "sentence 1 has 1 word, but its prediction has 0 tags"),
        (lambda: tagging_metrics.entity_f1([["O"]], [["NOUN"]]), "'NOUN' is not a valid tag"),
        (lambda: tagging_metrics.entity_f1([["O"]], [["O"]], scheme="BIO"), "--scheme has no effect without --strict"),
        (
            lambda: tagging_metrics.entity_f1([["B-X", "I-Y", "I-X"]], [["O"] * 3], strict=True),
            "do not follow any known tagging scheme",
        ),
        (lambda: tagging_metrics.entity_f1([["O"]], [["O"]], True, "IBO"), "unknown tag scheme"),
    ],
)
def test_bad_calls_are_refused(call, words):
    with pytest.raises(NlpcliError, match=words):
        call()
