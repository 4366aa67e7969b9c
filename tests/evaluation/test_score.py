from __future__ import annotations

import subprocess
import sys

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling, Score
from nlpcli.evaluation.score import TEXT_PAIRS, check_segments


def test_a_line_holds_name_value_interval_account_and_signature_in_this_order():
    score = Score("WER", 12.345, "WER|case:lc", low=10.0, high=14.0, summary="5 errors")
    assert score.line() == "WER 12.35 [10.00, 14.00] 5 errors WER|case:lc"
    assert score.line(0) == "WER 12 [10, 14] 5 errors WER|case:lc"
    assert Score("BLEU", 1.0, "BLEU|x").line(1) == "BLEU 1.0 BLEU|x"


def test_plain_data_leaves_out_what_was_not_estimated():
    assert Score("X", 1.0, "X|s", details={"n": 3}).as_dict() == {"name": "X", "value": 1.0, "signature": "X|s", "n": 3}
    assert Score("X", 1.0, "X|s", low=0.5, high=1.5, mean=1.0).as_dict()["low"] == 0.5


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        (["a"], [], "no reference"),
        ([], [[]], "no lines"),
        (["a", "b"], [["a", "b"], ["a"]], "2 hypotheses but 1 lines in reference 2"),
    ],
)
def test_segments_that_do_not_belong_together_are_refused(hypotheses, references, words):
    with pytest.raises(NlpcliError, match=words):
        check_segments(hypotheses, references)


def test_a_metric_of_one_reference_refuses_two():
    with pytest.raises(NlpcliError, match="takes 1 reference"):
        check_segments(["a"], [["a"], ["b"]], max_references=1)


@pytest.mark.parametrize("settings", [{"samples": 1}, {"seed": -1}])
def test_a_resampling_that_cannot_be_done_is_refused(settings):
    with pytest.raises(NlpcliError):
        Resampling(**settings)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_scores_a_perfect_text_as_perfect_and_signs_it(name):
    metric = METRICS.load(name)()
    text = ["the cat sat on the mat", "", "a second line of words"]
    assert metric.needs == TEXT_PAIRS
    score = metric.corpus(text, [text])
    assert score.value == pytest.approx(0.0 if METRICS.load(name).__module__.endswith(("ter", "error_rate")) else 100.0)
    assert score.signature.startswith(f"{score.name}|nrefs:1|")
    assert len(metric.sentences(text, [text])) == 3


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_compares_systems_with_the_scores_it_gives_them_alone(name):
    metric = METRICS.load(name)()
    reference = [f"line {number} of the reference text" for number in range(12)]
    better = ["a line" if number % 4 == 0 else line for number, line in enumerate(reference)]
    worse = ["a line" if number % 2 == 0 else line for number, line in enumerate(reference)]
    resampling = Resampling(50, 7)
    first, second, same = metric.compare(worse, [better, worse], [reference], resampling)
    assert first.value == pytest.approx(metric.corpus(worse, [reference]).value)
    assert second.value == pytest.approx(metric.corpus(better, [reference]).value)
    assert first.p_value is None and 0 < second.p_value < same.p_value <= 1
    assert second.low <= second.value <= second.high
    alone = metric.corpus(worse, [reference], resampling)
    assert (first.low, first.high, first.signature) == pytest.approx((alone.low, alone.high, alone.signature))


def test_listing_the_metrics_imports_no_scoring_library():
    code = (
        "import sys, nlpcli.evaluation as e; e.METRICS.names(); "
        "assert not {'sacrebleu', 'jiwer', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
