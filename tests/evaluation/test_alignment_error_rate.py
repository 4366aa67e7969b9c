from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.evaluation.alignment_error_rate import AlignmentErrorRate, Links, parse_links

PAIRS = st.frozensets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)
TEXTS = st.lists(st.tuples(PAIRS, PAIRS, PAIRS), min_size=1, max_size=5)  # found, sure, possible

GOLD = ["1-1 2-3 3p2", "1-2", "", "2?2"]
FOUND = ["0-0 1-2 2-2", "0-0", "", "1-1 1-1 0p0"]


def links(lines):
    return [parse_links(line, f"file:{number}") for number, line in enumerate(lines, start=1)]


def sides(text):
    """Hypotheses and gold of a text of triples."""
    return [Links(found, found) for found, _, _ in text], [Links(sure, sure | more) for _, sure, more in text]


def by_listing(text):
    """AER by going over every cell of every sentence pair."""
    right = acceptable = links = sures = 0
    for found, sure, possible in text:
        for cell in ((i, j) for i in range(5) for j in range(5)):
            links += cell in found
            sures += cell in sure
            right += cell in found and cell in sure
            acceptable += cell in found and (cell in sure or cell in possible)
    return 100 * (1 - (right + acceptable) / (links + sures)) if links + sures else 0.0


def test_a_line_holds_sure_and_possible_links_in_any_order():
    assert parse_links(" 3-4  0p1 5?2 3p4 ", "x:1") == Links(frozenset({(3, 4)}), frozenset({(3, 4), (0, 1), (5, 2)}))
    assert parse_links("", "x:1") == Links(frozenset(), frozenset())


@pytest.mark.parametrize(
    "word", ["1", "1-", "-1", "1-2-3", "1–2", "a-b", "1 - 2", "-1-2", "1.0-2", "²-1", "1_0-1", "١-0", "0-" + "9" * 5000]
)
def test_what_is_no_link_is_refused_with_its_place(word):
    with pytest.raises(NlpcliError, match=r"^gold:7: '.*' is not a link"):
        parse_links(f"0-0 {word}", "gold:7")


def test_a_small_text_has_the_rate_precision_and_recall_counted_by_hand():
    score = AlignmentErrorRate(one_based="ref").corpus(links(FOUND), [links(GOLD)])
    # A: 3, 1, 0 and 2 links; sure: 2, 1, 0 and 0; A ∩ S: 2, 0, 0, 0; A ∩ P: 2 sure ones, and 1-1 in the last pair
    assert score.value == pytest.approx(100 * (1 - (2 + 3) / (6 + 3)))
    assert score.details["precision"] == pytest.approx(100 * 3 / 6)
    assert score.details["recall"] == pytest.approx(100 * 2 / 3)
    assert score.summary == "precision = 50.00 recall = 66.67 (6 links; reference: 3 sure, 2 possible)"
    assert score.signature.startswith("AER|nrefs:1|base:ref1+hyp0|reverse:no|nlpcli:")
    each = AlignmentErrorRate(one_based="ref").sentences(links(FOUND), [links(GOLD)])
    assert [row.value for row in each] == pytest.approx([20.0, 100.0, 0.0, 50.0])


@given(TEXTS)
def test_the_rate_is_that_of_going_over_every_cell(text):
    found, gold = sides(text)
    assert AlignmentErrorRate().corpus(found, [gold]).value == pytest.approx(by_listing(text))


@given(TEXTS)
def test_numbering_and_direction_change_nothing_when_they_are_given(text):
    found, gold = sides(text)
    plain = AlignmentErrorRate().corpus(found, [gold])
    shifted = [
        Links(*(frozenset((i + 1, j + 1) for i, j in pairs) for pairs in (links.sure, links.possible)))
        for links in gold
    ]
    turned = [
        Links(*(frozenset((j, i) for i, j in pairs) for pairs in (links.sure, links.possible))) for links in found
    ]
    score = AlignmentErrorRate(one_based="ref", reverse="hyp").corpus(turned, [shifted])
    assert (score.value, score.details) == (plain.value, plain.details)


@given(TEXTS)
def test_the_sure_links_alone_are_faultless_and_so_is_finding_possible_ones_besides(text):
    _, gold = sides(text)
    metric = AlignmentErrorRate()
    assert metric.corpus([Links(links.sure, links.sure) for links in gold], [gold]).value == pytest.approx(0)
    assert metric.corpus([Links(links.possible, links.possible) for links in gold], [gold]).value == pytest.approx(0)


@given(TEXTS)
def test_a_link_that_is_nowhere_in_the_gold_never_lowers_the_rate(text):
    found, gold = sides(text)
    worse = [Links(links.sure | {(9, 9)}, links.possible | {(9, 9)}) for links in found]
    metric = AlignmentErrorRate()
    assert metric.corpus(worse, [gold]).value >= metric.corpus(found, [gold]).value - 1e-9


def test_a_resample_is_the_rate_of_the_drawn_pairs_together():
    gold, found = links(GOLD * 5), links(FOUND * 5)
    measured = AlignmentErrorRate(one_based="ref").measure(found, [gold])
    weights = np.zeros((1, len(gold)))
    weights[0, [0, 3, 5]] = (2, 1, 3)
    drawn = [0, 0, 3, 5, 5, 5]
    text = AlignmentErrorRate(one_based="ref").corpus([found[i] for i in drawn], [[gold[i] for i in drawn]])
    assert measured.values(weights)[0] == pytest.approx(text.value)
    score = AlignmentErrorRate(one_based="ref").corpus(found, [gold], Resampling(50, 1))
    assert score.low < score.value < score.high


@pytest.mark.parametrize("options", [{"one_based": "left"}, {"reverse": "both"}])
def test_an_unknown_side_is_refused(options):
    with pytest.raises(NlpcliError, match="unknown value of --"):
        AlignmentErrorRate(**options)


def test_a_word_zero_is_refused_on_the_side_that_is_numbered_from_one():
    metric = AlignmentErrorRate(one_based="ref")
    metric.check(parse_links("0-0", "x"))
    with pytest.raises(NlpcliError, match="3-0 contains 0, but the words of the reference are numbered from 1"):
        metric.check_reference(parse_links("1-1 3p0", "x"))
    with pytest.raises(NlpcliError, match="the link 0-1"):
        AlignmentErrorRate(one_based="both").check(parse_links("0-1", "x"))


def test_likely_slips_of_numbering_and_direction_are_reported():
    found, gold = links(["0-1 1-2 2-3"]), links(["1-2 2-3 3-4"])
    assert AlignmentErrorRate(one_based="ref").cautions(found, [gold]) == []
    [caution] = AlignmentErrorRate().cautions(found, [gold])
    assert "the links of the reference never contain 0" in caution and "--one-based ref" in caution
    [caution] = AlignmentErrorRate(one_based="ref", reverse="hyp").cautions(found, [gold])
    assert "match the reference is 0, but it is 3 with source and target exchanged" in caution
