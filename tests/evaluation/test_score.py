from __future__ import annotations

import subprocess
import sys

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling, Score
from nlpcli.evaluation.alignment_error_rate import parse_links
from nlpcli.evaluation.score import ANSWERS, LABELS, LINKS, NUMBERS, TAGS, TEXT_PAIRS, check_segments


def test_a_line_holds_name_value_interval_details_and_signature_in_this_order():
    score = Score("WER", 12.345, "WER|case:lc", low=10.0, high=14.0, summary="5 errors")
    assert score.line() == "WER 12.35 [10.00, 14.00] 5 errors WER|case:lc"
    assert score.line(0) == "WER 12 [10, 14] 5 errors WER|case:lc"
    assert Score("BLEU", 1.0, "BLEU|x").line(1) == "BLEU 1.0 BLEU|x"


def test_plain_data_has_null_bounds_where_none_were_estimated():
    plain = {"metric": "X", "value": 1.0, "low": None, "high": None, "signature": "X|s", "n": 3}
    assert Score("X", 1.0, "X|s", details={"n": 3}).as_dict() == plain
    assert Score("X", 1.0, "X|s", low=0.5, high=1.5, mean=1.0).as_dict()["low"] == 0.5


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        (["a"], [], "no reference"),
        ([], [[]], "no lines"),
        (["a", "b"], [["a", "b"], ["a"]], "the hypotheses have 2 lines, but reference 2 has 1 line"),
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


ITEMS = {  # what a metric needs, made of a line
    TEXT_PAIRS: lambda line: line,
    LABELS: lambda line: line,
    NUMBERS: lambda line: float(sum(map(ord, line))),
    TAGS: lambda line: ("O", f"B-{len(line) % 7}"),
    ANSWERS: lambda line: line,
    LINKS: lambda line: parse_links(" ".join(f"{i}-{len(word)}" for i, word in enumerate(line.split())), "here"),
}
ERRORS = ("ter", "error_rate", "alignment")  # the modules of metrics that are 0 for a perfect text
WITHOUT_SENTENCES = ("f1", "mcc", "pearson", "spearman")


def items(metric, lines):
    return [ITEMS[metric.needs](line) for line in lines]


def answers(metric, lines):
    """The same as a reference."""
    return [(line,) for line in lines] if metric.needs == ANSWERS else items(metric, lines)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_scores_a_perfect_text_as_perfect_and_signs_it(name):
    metric = METRICS.load(name)()
    text = ["the cat sat on the mat", "", "a second line of words"]
    if name.startswith("rouge"):
        text.remove("")  # a summary without words has nothing in common with its reference
    predictions, gold = items(metric, text), answers(metric, text)
    score = metric.corpus(predictions, [gold])
    assert score.value == pytest.approx(0.0 if METRICS.load(name).__module__.endswith(ERRORS) else 100.0)
    assert score.signature.startswith(f"{score.name}|nrefs:1|")
    if name in WITHOUT_SENTENCES:
        with pytest.raises(NlpcliError, match="defined only for a whole test set"):
            metric.sentences(predictions, [gold])
    else:
        assert len(metric.sentences(predictions, [gold])) == len(text)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_compares_systems_with_the_scores_it_gives_them_alone(name):
    metric = METRICS.load(name)()
    reference = [f"line {number} of the reference text" for number in range(12)]
    better = items(metric, ["a line" if number % 4 == 0 else line for number, line in enumerate(reference)])
    worse = items(metric, ["a line" if number % 2 == 0 else line for number, line in enumerate(reference)])
    gold = [answers(metric, reference)]
    resampling = Resampling(50, 7)
    first, second, same = metric.compare(worse, [better, worse], gold, resampling)
    assert first.value == pytest.approx(metric.corpus(worse, gold).value)
    assert second.value == pytest.approx(metric.corpus(better, gold).value)
    assert first.p_value is None and 0 < second.p_value < same.p_value == 1
    assert second.low <= second.value <= second.high
    alone = metric.corpus(worse, gold, resampling)
    assert (first.low, first.high, first.signature) == pytest.approx((alone.low, alone.high, alone.signature))


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_says_what_it_is_computed_from(name):
    kind = METRICS.load(name)
    assert kind.needs in ITEMS and isinstance(kind.options, frozenset)


def test_listing_the_metrics_imports_no_scoring_library():
    code = (
        "import sys, nlpcli.evaluation as e; e.METRICS.names(); "
        "assert not {'sacrebleu', 'jiwer', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
