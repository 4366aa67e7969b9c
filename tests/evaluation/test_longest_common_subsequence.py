from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import lcs_ind

from nlpcli.evaluation.longest_common_subsequence import common_length, common_places

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@given(WORDS, WORDS)
def test_places_are_those_that_rouge_score_finds_and_their_number_is_the_length(first, second):
    places = common_places(first, second)
    assert sorted(places) == lcs_ind(first, second)
    assert len(places) == common_length(first, second) == common_length(second, first)


def test_sequences_longer_than_a_machine_word_are_compared_too():
    first, second = list(range(500)), list(range(0, 500, 3))
    assert common_length(first, second) == len(second)
    assert common_places(first, second) == second[::-1]
