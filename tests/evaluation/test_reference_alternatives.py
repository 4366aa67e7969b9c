from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.error_rate import WordErrorRate, wer
from nlpcli.evaluation.reference_alternatives import nearest_reading, parse

WORD = st.sampled_from(["a", "b", "c", "d", "/"])
PLAIN = st.lists(WORD, max_size=4)
CHOICE = st.lists(st.lists(WORD.filter("/".__ne__), max_size=3), min_size=1, max_size=3)
REFERENCE = st.lists(PLAIN | CHOICE.map(tuple), max_size=5)


def written(parts):
    """A reference as text; a tuple stands for alternatives."""
    return " ".join(
        "{ " + " / ".join(" ".join(words) or "@" for words in part) + " }"
        if isinstance(part, tuple)
        else " ".join(part)
        for part in parts
    )


def readings(parts):
    """Every text the reference accepts."""
    choices = [part if isinstance(part, tuple) else [part] for part in parts]
    return {" ".join(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*choices)}


@given(REFERENCE, st.lists(WORD, max_size=10).map(" ".join))
def test_the_chosen_reading_is_one_of_the_readings_and_none_is_nearer(parts, hypothesis):
    chosen = nearest_reading(written(parts), hypothesis)
    accepted = readings(parts)
    assert chosen in accepted

    def errors(reading):
        return wer([hypothesis], [[reading]]).details["errors"]

    assert errors(chosen) == min(map(errors, accepted))


@given(st.lists(WORD, max_size=8).map(" ".join), st.lists(WORD, max_size=8).map(" ".join))
def test_a_reference_without_alternatives_reads_as_it_stands(reference, hypothesis):
    assert nearest_reading(reference, hypothesis) == reference


def test_errors_and_length_are_those_of_the_reading_chosen():
    references = ["for { @ / an } investor", "most { fidelity's / fidelity } shareholders", "in { @ / the } end"]
    score = wer(["for investor", "most fidelity holders", "in the end"], [references], alternatives=True)
    assert (score.details["errors"], score.details["reference_length"]) == (1, 8)
    assert "|alternatives:yes|" in score.signature


def test_both_sides_of_a_choice_are_normalised_after_its_marks_were_read():
    metric = WordErrorRate(lowercase=True, remove_punctuation=True, alternatives=True)
    assert metric.corpus(["the companys rules"], [["THE { COMPANIES' / COMPANY'S } RULES."]]).value == 0


def test_marks_are_ordinary_words_unless_alternatives_are_requested():
    assert wer(["a { b / c }"], [["a { b / c }"]]).details["reference_length"] == 6


def test_a_hundred_choices_in_one_reference_take_no_time():
    reference = " ".join("{ a / b / c d }" for _ in range(100))
    hypothesis = " ".join(["c d", "a", "b", "x"] * 25)
    assert wer([hypothesis], [[reference]], alternatives=True).details["errors"] == 25


@pytest.mark.parametrize(
    ("text", "words"), [("a { b / c", "no matching '}'"), ("a } b", "no matching '{'"), ("{ a / { b / c } }", "nested")]
)
def test_marks_that_do_not_match_are_refused_with_their_line(text, words):
    with pytest.raises(NlpcliError, match=f"reference line 2: .*{words}"):
        wer(["x", "y"], [["x", text]], alternatives=True)


def test_a_slash_outside_braces_is_a_word():
    assert parse("a / b") == [[["a", "/", "b"]]]
