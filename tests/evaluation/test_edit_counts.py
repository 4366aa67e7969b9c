"""The counts of edits beside those of jiwer's alignments."""

from __future__ import annotations

import jiwer
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.evaluation import edit_counts
from nlpcli.evaluation.edit_counts import character_edits, word_edits, words

TEXT = st.text("abc  \t\u00a0\x1c\n", max_size=30) | st.text(max_size=12)
WORDS = st.lists(st.sampled_from("abcd"), max_size=40).map(" ".join)


def jiwers(output):
    return output.hits, output.substitutions, output.deletions, output.insertions


@settings(max_examples=300)
@given(st.tuples(TEXT, TEXT) | st.tuples(WORDS, WORDS))
def test_counts_over_words_and_characters_are_jiwers(pair):
    assert word_edits()(*pair) == jiwers(jiwer.process_words(*pair))
    assert character_edits(*pair) == jiwers(jiwer.process_characters(*pair))


@given(TEXT)
def test_words_are_those_of_jiwer(text):
    assert words(text) == jiwer.process_words([text], [""]).references[0]


def test_words_that_are_forgotten_do_not_change_the_counts(monkeypatch):
    monkeypatch.setattr(edit_counts, "_KNOWN", 3)
    count = word_edits()
    for number in range(30):
        pair = f"a{number} b c", f"a{number} c d{number} {number % 4}"
        assert count(*pair) == jiwers(jiwer.process_words(*pair))
