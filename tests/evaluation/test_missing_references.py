"""Lines that have fewer references than others: a missing reference does not count, an empty one does."""

from __future__ import annotations

import os
from statistics import mean
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling
from nlpcli.evaluation.bleu import bleu
from nlpcli.evaluation.score import reference_count, reference_sets, without_blanks

SACRE = {
    "bleu": (BLEU, {}),
    "chrf": (CHRF, {}),
    "chrf++": (CHRF, {"word_order": 2}),
    "ter": (TER, {}),
}
SEVERAL = [
    name for name in METRICS if METRICS.load(name).needs == "text-pairs" and METRICS.load(name).max_references != 1
]

_WORDS = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "today", "!"])
_LINE = st.lists(_WORDS, min_size=1, max_size=6).map(" ".join)


@st.composite
def texts(draw):
    """Hypotheses (some of them blank), and two or three reference sets of which each line has one at least."""
    size, sets = draw(st.integers(1, 5)), draw(st.integers(2, 3))
    hypotheses = draw(st.lists(_LINE | st.just(""), min_size=size, max_size=size))
    rows = []
    for _ in range(size):
        row = draw(st.lists(st.none() | _LINE, min_size=sets, max_size=sets))
        rows.append(row if any(row) else [draw(_LINE), *row[1:]])
    return hypotheses, [list(lines) for lines in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", SACRE)
@given(text=texts())
def test_scores_and_signatures_are_sacrebleus_with_none(name, text):
    hypotheses, references = text
    kind, options = SACRE[name]
    metric = METRICS.load(name)()
    theirs = kind(**options)
    expected = theirs.corpus_score(hypotheses, references).score
    ours = metric.corpus(hypotheses, references)
    assert (ours.value, ours.signature.partition("|")[2]) == (expected, str(theirs.get_signature()))
    if name == "bleu":
        assert bleu(hypotheses, references) == ours


@pytest.mark.parametrize("name", SACRE)
@given(text=texts())
def test_sentence_scores_are_sacrebleus_of_the_references_that_are_there(name, text):
    hypotheses, references = text
    kind, options = SACRE[name]
    if name == "bleu":
        options = {"effective_order": True}
    rows = [[line for line in row if line is not None] for row in zip(*references, strict=True)]
    expected = [
        kind(**options).sentence_score(hypothesis, row).score for hypothesis, row in zip(hypotheses, rows, strict=True)
    ]
    found = METRICS.load(name)().sentences(hypotheses, references)
    counts = {len(row) for row in rows}
    assert [score.value for score in found] == expected
    part = f"|nrefs:{counts.pop() if len(counts) == 1 else 'var'}|"
    assert all(part in score.signature for score in found)


@pytest.mark.parametrize("name", SACRE)
@given(text=texts())
def test_intervals_and_comparisons_are_sacrebleus_with_none(name, text):
    hypotheses, references = text
    kind, options = SACRE[name]
    baseline = list(reversed(hypotheses))
    with mock.patch.dict(os.environ, {"SACREBLEU_SEED": "7"}):
        signatures, table = PairedTest(
            [("b", baseline), ("s", hypotheses)], {"m": kind(**options)}, references, "bs", 20
        )()
    first, second = METRICS.load(name)().compare(baseline, [hypotheses], references, Resampling(20, 7))
    ((key, signature),) = signatures.items()
    assert first.signature.endswith(str(signature))
    for ours, theirs in zip((first, second), table[key], strict=True):
        assert ours.value == theirs.score
        assert (ours.low, ours.high) == pytest.approx(
            (theirs.mean - theirs.ci, theirs.mean + theirs.ci),
            abs=1e-4,  # means of float32
        )
    alone = METRICS.load(name)().corpus(baseline, references, Resampling(20, 7))
    assert alone.value == first.value and "|bs:20|seed:7|" in alone.signature
    assert (alone.low, alone.high) == pytest.approx((first.low, first.high), abs=1e-4)


@pytest.mark.parametrize("several", ["best", "mean"])
@given(text=texts())
def test_rouge_is_that_of_the_references_that_are_there(several, text):
    hypotheses, references = text
    scorer = RougeScorer(["rouge1"])
    take = max if several == "best" else mean
    rows = [[line for line in row if line is not None] for row in zip(*references, strict=True)]
    expected = [
        100 * take([scorer.score(line, hypothesis)["rouge1"].fmeasure for line in row])
        for hypothesis, row in zip(hypotheses, rows, strict=True)
    ]
    metric = METRICS.load("rouge1")(rouge_references=several)
    score = metric.corpus(hypotheses, references)
    assert score.value == pytest.approx(mean(expected))
    assert f"|nrefs:{reference_count(references)}|" in score.signature
    assert [row.value for row in metric.sentences(hypotheses, references)] == pytest.approx(expected)


@pytest.mark.parametrize("name", SEVERAL)
@given(text=texts())
def test_a_set_without_any_reference_changes_nothing(name, text):
    hypotheses, references = text
    metric = METRICS.load(name)()
    with_it = [*references, [None] * len(hypotheses)]
    assert metric.corpus(hypotheses, with_it) == metric.corpus(hypotheses, references)
    assert metric.sentences(hypotheses, with_it) == metric.sentences(hypotheses, references)
    assert metric.cautions(hypotheses, with_it) == metric.cautions(hypotheses, references)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_line_without_any_reference_is_named(name):
    for call in (METRICS.load(name)().corpus, METRICS.load(name)().sentences):
        with pytest.raises(NlpcliError, match=r"^line 2 has no reference$"):
            call(["a", "b"], [["a", None], ["c", None]])
        with pytest.raises(NlpcliError, match=r"^line 1 has no reference$"):
            call(["a", "b"], [[None, "b"]])


@given(st.lists(st.lists(st.sampled_from(["", " ", "\t", "\u3000", "a", "b c"]), min_size=2, max_size=2), min_size=1))
def test_a_blank_line_is_missing_where_another_set_has_text_and_empty_where_none_has(rows):
    references = [list(lines) for lines in zip(*rows, strict=True)]
    for row, found in zip(rows, zip(*without_blanks(references), strict=True), strict=True):
        if any(line.strip() for line in row):
            assert list(found) == [line if line.strip() else None for line in row]
        else:
            assert list(found) == row


def test_a_single_set_is_left_as_it_is():
    assert without_blanks([["a", "", " "]]) == [["a", "", " "]]
    assert without_blanks([[], []]) == [[], []]


@given(st.lists(st.lists(_LINE, max_size=3), min_size=1, max_size=5))
def test_references_by_item_become_sets_and_back(rows):
    sets = reference_sets(rows)
    back = [[line for line in row if line is not None] for row in zip(*sets, strict=True)]
    assert back == [row or [""] for row in rows]
    assert reference_count(sets) == ("var" if len({len(row) for row in back}) > 1 else str(len(back[0])))


def test_right_answers_of_several_sets_count_where_they_are():
    metric = METRICS.load("exact-match")()
    score = metric.corpus(["x", "", "y"], [[("a",), (), ("z",)], [("x",), (), ()]])
    assert score.value == pytest.approx(200 / 3) and "|nrefs:var|" in score.signature
    full = metric.corpus(["x", ""], [[("a",), ()], [("x",), ()]])
    assert full.value == 100 and "|nrefs:2|" in full.signature
