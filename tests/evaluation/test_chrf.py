from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.chrf import Chrf, ChrfPlusPlus, chrf

LINES = st.lists(st.tuples(st.text(max_size=15), st.text(max_size=15), st.text(max_size=15)), min_size=1, max_size=5)


@given(
    LINES,
    st.fixed_dictionaries(
        {},
        optional={
            "lowercase": st.booleans(),
            "chrf_char_order": st.integers(1, 7),
            "chrf_word_order": st.integers(0, 3),
            "chrf_beta": st.integers(1, 3),
            "chrf_whitespace": st.booleans(),
            "chrf_eps_smoothing": st.booleans(),
        },
    ),
)
def test_chrf_equals_sacrebleus_on_any_text_with_any_option(lines, options):
    hypotheses, *references = (list(column) for column in zip(*lines, strict=True))
    theirs = CHRF(**{name.removeprefix("chrf_"): value for name, value in options.items()})
    expected = theirs.corpus_score(hypotheses, references)
    ours = chrf(hypotheses, references, **options)
    assert (ours.name, ours.value) == (expected.name, expected.score)
    assert ours.signature == f"{expected.name}|{theirs.get_signature()}"
    sentences = Chrf(**options).sentences(hypotheses, references)
    assert [s.value for s in sentences] == [
        theirs.sentence_score(h, list(r)).score for h, *r in zip(hypotheses, *references, strict=True)
    ]


def test_one_character_precision_and_recall_equal_the_equation_by_hand():
    # 2 of 3 hypothesis characters and 2 of 4 reference characters match: F2 = 5PR / (4P + R)
    precision, recall = 2 / 3, 2 / 4
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert chrf(["abx"], [["abcd"]], chrf_char_order=1).value == pytest.approx(expected)


def test_chrf_plus_plus_is_chrf_with_word_order_two():
    hypotheses, references = ["the cat sat", "on a mat"], [["the cat sits", "on the mat"]]
    assert ChrfPlusPlus().corpus(hypotheses, references) == chrf(hypotheses, references, chrf_word_order=2)
    assert ChrfPlusPlus().corpus(hypotheses, references).name == "chrF2++"


@pytest.mark.parametrize("options", [{"chrf_char_order": 0}, {"chrf_word_order": -1}, {"chrf_beta": 0}])
def test_orders_below_what_they_can_be_are_refused(options):
    with pytest.raises(NlpcliError, match="at least"):
        Chrf(**options)
