from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import scheme as theirs
from seqeval.metrics.sequence_labeling import get_entities

from nlpcli.data import tag_schemes
from nlpcli.data.tag_schemes import SCHEMES, Entity
from nlpcli.errors import NlpcliError

TAGS = st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("X", "Y-Z")), "B", "I"]), max_size=9)
SENTENCE = st.lists(st.tuples(st.sampled_from(["X", "Y-Z", "_"]), st.integers(1, 3), st.integers(0, 2)), max_size=4)
STRICT = {"BIO": ("BI", theirs.IOB2), "IOE2": ("IE", theirs.IOE2), "IOBES": ("BIES", theirs.IOBES)}
STRICT["BILOU"] = ("BILU", theirs.BILOU)


def laid(sentence):
    """Entities and the length of a sentence from types, lengths and the gaps after them."""
    found, end = [], 0
    for kind, length, gap in sentence:
        found.append(Entity(kind, end, end + length))
        end += length + gap
    return found, end


@given(TAGS)
def test_entities_are_those_of_seqeval_whatever_the_tags(tags):
    assert tag_schemes.entities(tags) == [(kind, start, end + 1) for kind, start, end in get_entities(tags)]


@pytest.mark.parametrize("scheme", STRICT)
@given(data=st.data())
def test_strict_entities_are_those_of_seqevals_strict_mode(scheme, data):
    letters, kind = STRICT[scheme]
    tags = data.draw(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in letters for t in "XY")]), max_size=9))
    expected = [(entity.tag, entity.start, entity.end) for entity in theirs.Tokens(tags, kind).entities]
    assert tag_schemes.strict_entities(tags, scheme) == expected
    assert tag_schemes.strict_entities(tuple(tags), scheme) == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@given(sentence=SENTENCE)
def test_what_a_scheme_writes_is_read_back_and_valid(scheme, sentence):
    found, length = laid(sentence)
    tags = tag_schemes.write_tags(found, length, scheme)
    assert tag_schemes.entities(tags) == found
    assert tag_schemes.check_tags(tags, scheme) == []
    assert tag_schemes.strict_entities(tags, scheme) == found


@given(SENTENCE, st.sampled_from(SCHEMES), st.sampled_from(SCHEMES))
def test_conversion_between_any_two_schemes_keeps_the_entities(sentence, source, target):
    found, length = laid(sentence)
    tags = tag_schemes.write_tags(found, length, source)
    assert tag_schemes.convert_scheme(tags, source, target) == tag_schemes.write_tags(found, length, target)
    assert tag_schemes.convert_scheme(tags, None, source) == tags


@given(TAGS)
def test_problems_are_the_tags_that_conversion_without_a_source_would_change(tags):
    mended = tag_schemes.convert_scheme(tags, None, "BIO")
    problems = tag_schemes.check_tags(tags, "BIO")
    assert [problem.position for problem in problems] == [n for n, t in enumerate(tags) if t != mended[n]]
    if problems:
        with pytest.raises(NlpcliError, match="not valid BIO"):
            tag_schemes.convert_scheme(tags, "BIO", "IOBES")


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-X B-X I-X O I-Y"),
        ("iob2", "B-X B-X I-X O B-Y"),
        ("IOE1", "E-X I-X I-X O I-Y"),
        ("IOE2", "E-X I-X E-X O E-Y"),
        ("bioes", "S-X B-X E-X O S-Y"),
        ("BILOU", "U-X B-X L-X O U-Y"),
    ],
)
def test_each_scheme_writes_two_touching_entities_in_its_own_way(scheme, tags):
    found = [Entity("X", 0, 1), Entity("X", 1, 3), Entity("Y", 4, 5)]
    assert " ".join(tag_schemes.write_tags(found, 5, scheme)) == tags


def test_the_scheme_is_found_from_the_sentences():
    assert tag_schemes.detect_scheme([["O", "B-X", "I-X"], ["B-Y"]]) == "BIO"
    assert tag_schemes.detect_scheme([["I-X", "B-X"], ["O", "I-Y"]]) == "IOB1"
    assert tag_schemes.detect_scheme([["S-X", "B-X", "E-X"]]) == "IOBES"
    assert tag_schemes.detect_scheme([["U-X", "B-X", "L-X"]]) == "BILOU"
    assert tag_schemes.detect_scheme([["I-X", "E-X", "E-X"]]) == "IOE2"
    assert tag_schemes.detect_scheme([["B-X", "I-X"], ["I-X", "O"]]) is None


def test_a_problem_says_where_it_is_and_what_was_expected():
    [problem] = tag_schemes.check_tags(["O", "I-PER"], "BIO")
    assert str(problem) == "word 2 has the tag 'I-PER', but 'B-PER' is expected"
    [shapeless] = tag_schemes.check_tags(["O", "NOUN", "I-PER"], "BIO")
    assert str(shapeless) == "word 2 has the tag 'NOUN', which is not a valid tag"


@pytest.mark.parametrize("tag", ["NOUN", "B-", "B_PER", "", "-PER", "O-PER", "b-PER"])
def test_a_tag_of_another_shape_is_refused(tag):
    with pytest.raises(NlpcliError, match="is not a valid tag"):
        tag_schemes.entities([tag])


def test_unknown_schemes_and_impossible_entities_are_refused():
    with pytest.raises(NlpcliError, match="unknown tag scheme 'BOI'"):
        tag_schemes.check_tags([], "BOI")
    for found in ([Entity("X", 0, 2), Entity("Y", 1, 3)], [Entity("X", 2, 5)], [Entity("X", 1, 1)]):
        with pytest.raises(NlpcliError, match="overlaps another one, or is not inside"):
            tag_schemes.write_tags(found, 4, "BIO")
