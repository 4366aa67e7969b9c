from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling, classification_metrics
from nlpcli.evaluation.classification_metrics import F1, Accuracy

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=20)
SETS = st.lists(st.tuples(*(st.sets(st.sampled_from("abc")),) * 2), min_size=1, max_size=15)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's notices about 0 / 0
        yield


def indicators(sets):
    return np.array([[label in some for label in "abc"] for some in sets], dtype=int)


@given(PAIRS)
def test_accuracy_f1_and_matthews_are_those_of_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    assert classification_metrics.accuracy(gold, predicted).value == pytest.approx(
        100 * theirs.accuracy_score(gold, predicted)
    )
    assert classification_metrics.matthews(gold, predicted).value == pytest.approx(
        100 * theirs.matthews_corrcoef(gold, predicted)
    )
    for average in ("micro", "macro", "weighted"):
        expected = theirs.f1_score(gold, predicted, average=average, zero_division=0)
        assert classification_metrics.f1(gold, predicted, average).value == pytest.approx(100 * expected)
        some = theirs.f1_score(gold, predicted, average=average, labels=["a", "b"], zero_division=0)
        assert classification_metrics.f1(gold, predicted, average, labels=["a", "b"]).value == pytest.approx(100 * some)


@given(PAIRS)
def test_precision_and_recall_of_each_label_are_those_of_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    found = sorted(set(gold) | set(predicted))
    expected = theirs.precision_recall_fscore_support(gold, predicted, labels=found, zero_division=0)
    table = classification_metrics.f1(gold, predicted).details["labels"]
    for label, precision, recall, f1, support in zip(found, *expected, strict=True):
        row = table[label]
        assert [row[key] for key in ("precision", "recall", "f1")] == pytest.approx(
            [100 * precision, 100 * recall, 100 * f1]
        )
        assert row["support"] == support


@given(st.lists(st.tuples(st.sampled_from("01"), st.sampled_from("01")), min_size=1, max_size=20))
def test_binary_f1_is_that_of_the_label_1_unless_another_is_named(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    for positive in {"0", "1"} & {*gold, *predicted}:
        expected = 100 * theirs.f1_score(gold, predicted, pos_label=positive, labels=[positive], average="micro")
        assert classification_metrics.f1(gold, predicted, "binary", positive).value == pytest.approx(expected)
        if positive == "1":
            assert classification_metrics.f1(gold, predicted, "binary").value == pytest.approx(expected)


@given(SETS)
def test_metrics_of_label_sets_are_those_of_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    truth, prediction = indicators(gold), indicators(predicted)
    expected = 100 * theirs.accuracy_score(truth, prediction)
    assert classification_metrics.subset_accuracy(gold, predicted).value == pytest.approx(expected)
    for average in ("micro", "macro", "weighted", "samples"):
        expected = 100 * theirs.f1_score(truth, prediction, average=average, zero_division=0)
        assert classification_metrics.multilabel_f1(gold, predicted, "abc", average).value == pytest.approx(expected)
    each = classification_metrics.MultiLabelF1(average="samples", labels="abc").sentences(predicted, [gold])
    assert np.mean([score.value for score in each]) == pytest.approx(expected)


@given(PAIRS)
def test_the_confusion_matrix_is_that_of_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    expected = theirs.confusion_matrix(gold, predicted, labels=list("abcde"))
    assert classification_metrics.confusion(gold, predicted, "abcde").tolist() == expected.tolist()


@pytest.mark.parametrize(
    "score",
    [
        classification_metrics.accuracy,
        classification_metrics.matthews,
        classification_metrics.f1,
        lambda g, p, resampling: classification_metrics.f1(g, p, "weighted", resampling=resampling),
        lambda g, p, resampling: classification_metrics.multilabel_f1(
            [{x} for x in g], [{x} for x in p], resampling=resampling
        ),
    ],
)
def test_the_interval_is_that_of_scoring_each_resample_by_itself(score):
    rng = np.random.default_rng(1)
    gold = list(rng.choice(list("abc"), 60))
    predicted = [label if rng.random() < 0.7 else "b" for label in gold]
    drawn = np.random.default_rng(5).choice(60, size=(80, 60), replace=True)
    values = sorted(score([gold[i] for i in row], [predicted[i] for i in row], resampling=None).value for row in drawn)
    found = score(gold, predicted, resampling=Resampling(80, 5))
    assert (found.low, found.high, found.mean) == pytest.approx((values[2], values[-3], np.mean(values)))
    assert found.value == score(gold, predicted, resampling=None).value
    assert "|bs:80|seed:5|" in found.signature


def test_a_better_system_differs_from_the_baseline_and_the_baseline_from_itself_does_not():
    rng = np.random.default_rng(2)
    gold = list(rng.choice(list("ab"), 300))
    better = [label if rng.random() < 0.9 else "b" for label in gold]
    worse = [label if rng.random() < 0.6 else "b" for label in gold]
    first, same, other = F1().compare(worse, [worse, better], [gold], Resampling(200))
    assert (first.p_value, same.p_value) == (None, 1.0)
    assert other.p_value < 0.05 and other.value == classification_metrics.f1(gold, better).value


def test_sentence_scores_exist_where_one_example_has_a_value():
    assert [score.value for score in Accuracy().sentences(["a", "b"], [["a", "a"]])] == [100.0, 0.0]
    with pytest.raises(NlpcliError, match="F1 is defined only for a whole test set"):
        F1().sentences(["a"], [["a"]])


def test_the_signature_names_every_choice():
    assert classification_metrics.f1(["a"], ["a"]).signature.startswith("F1|nrefs:1|average:macro|nlpcli:")
    assert "|average:binary|positive:a|" in classification_metrics.f1(["a"], ["a"], "binary", "a").signature
    assert "|average:micro|labels:a,b|" in classification_metrics.f1(["a"], ["a"], "micro", labels=["a", "b"]).signature


def test_labels_out_of_the_ordinary_are_cautioned_against():
    assert classification_metrics.F1().cautions(["c", "a"], [["a", "b"]]) == [
        "the predicted label 'c' does not occur in the reference"
    ]
    assert "'z' of --labels does not occur" in F1(labels=["z"]).cautions(["a"], [["a"]])[0]
    assert "every prediction is 'a'" in classification_metrics.Matthews().cautions(["a", "a"], [["a", "b"]])[0]
    assert Accuracy().cautions(["a"], [["a"]]) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: classification_metrics.f1(["a"], ["a"], "mean"), "unknown average 'mean'"),
        (
            lambda: classification_metrics.f1(["a"], ["a"], "macro", "a"),
            "--positive has no effect on the average 'macro'",
        ),
        (lambda: classification_metrics.f1(["yes"], ["no"], "binary"), "a positive label, and the labels are no, yes"),
        (lambda: classification_metrics.f1(["a"], ["b"], "binary", "c"), "unknown positive label 'c'"),
        (lambda: classification_metrics.f1(["a"], ["b"], "binary", "a", ["a"]), "counts only the positive label"),
        (
            lambda: classification_metrics.accuracy(["a"], ["a", "b"]),
            "the hypotheses have 2 lines, but reference 1 has 1 line",
        ),
        (lambda: classification_metrics.accuracy([], []), "no lines to score"),
        (lambda: classification_metrics.confusion(["a"], ["b"], ["a"]), "unknown label 'b'"),
        (
            lambda: classification_metrics.confusion(["a"], [], ["a"]),
            "predicted labels \\(0\\) and reference labels \\(1\\)",
        ),
        (lambda: classification_metrics.multilabel_f1([{"a"}], [{"a"}], average="binary"), "unknown average 'binary'"),
    ],
)
def test_bad_calls_are_refused(call, words):
    with pytest.raises(NlpcliError, match=words):
        call()
