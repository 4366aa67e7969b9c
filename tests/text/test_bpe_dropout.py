"""BPE-dropout against the paper's algorithm, followed through all its choices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text.bpe_dropout import MergeDropout, uniform

MERGES = [("a", "b"), ("b", "c"), ("ab", "c"), ("c", "a"), ("abc", "a"), ("ca", "b"), ("a", "a")]
VOCABULARY = {piece: id_ for id_, piece in enumerate(["a", "b", "c", *(left + right for left, right in MERGES)])}
MODEL = MergeDropout({(VOCABULARY[a], VOCABULARY[b]): (rank, VOCABULARY[a + b]) for rank, (a, b) in enumerate(MERGES)})
RANKS = {merge: rank for rank, merge in enumerate(MERGES)}


def encode(word: str, dropout: float, draws: Iterator[float]) -> tuple[str, ...]:
    """The pieces of one word."""
    names = list(VOCABULARY)
    ids = MODEL.encode([[VOCABULARY[char] for char in word]], dropout, draws)
    return tuple(names[id_] for id_ in ids)


def all_outcomes(word: tuple[str, ...], dropout: float) -> Counter:
    """Provilkov et al. 2020, algorithm 1, exactly: every segmentation with its probability."""
    places = [place for place in range(len(word) - 1) if word[place : place + 2] in RANKS]
    places.sort(key=lambda place: (RANKS[word[place : place + 2]], place))
    outcomes: Counter = Counter({word: dropout ** len(places)})
    for before, place in enumerate(places):
        probability = dropout**before * (1 - dropout)
        if probability:
            merged = (*word[:place], word[place] + word[place + 1], *word[place + 2 :])
            for outcome, rest in all_outcomes(merged, dropout).items():
                outcomes[outcome] += probability * rest
    return outcomes


@pytest.mark.parametrize(("word", "dropout"), [("abcab", 0.1), ("abcab", 0.5), ("aabcca", 0.3), ("aaaa", 0.8)])
def test_segmentations_come_with_the_probabilities_of_the_paper(word, dropout):
    expected, draws = all_outcomes(tuple(word), dropout), 10_000
    assert math.isclose(sum(expected.values()), 1.0)
    numbers = uniform(np.random.default_rng(1))
    counts = Counter(encode(word, dropout, numbers) for _ in range(draws))
    assert counts.keys() <= expected.keys()
    for outcome, probability in expected.items():
        deviation = math.sqrt(draws * probability * (1 - probability)) + 1
        assert abs(counts[outcome] - draws * probability) < 5 * deviation


@given(st.text("abc", max_size=30))
def test_dropping_none_is_plain_bpe_and_dropping_all_is_the_symbols(word):
    numbers = uniform(np.random.default_rng(0))
    (plain,) = (outcome for outcome, probability in all_outcomes(tuple(word), 0.0).items() if probability)
    assert encode(word, 0.0, numbers) == plain
    assert encode(word, 1.0, numbers) == tuple(word)


def test_a_very_long_word_takes_no_quadratic_time():
    word = "abc" * 20_000
    assert "".join(encode(word, 0.1, uniform(np.random.default_rng(0)))) == word
