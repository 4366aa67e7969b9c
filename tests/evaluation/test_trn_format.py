from __future__ import annotations

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.trn_format import in_order, parse_trn


def test_utterances_are_found_by_their_id_whatever_its_case():
    lines = [";; a comment", "HELLO (there) (4T0C0201)", "", "  (b-1)  ", "x(c)"]
    assert parse_trn(lines, "f") == {"4t0c0201": "HELLO (there)", "b-1": "", "c": "x"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a (1)", "b"], r"f:2: the line does not end with an utterance id"),
        (["a (A)", ";;", "b (a)"], r"f:3: the utterance id 'a' occurs a second time"),
    ],
)
def test_a_line_that_is_no_utterance_is_refused_with_its_place(lines, words):
    with pytest.raises(NlpcliError, match=words):
        parse_trn(lines, "f")


def test_utterances_are_put_in_the_order_of_the_other_file():
    assert in_order({"a": "1", "b": "2"}, "hyp", ["b", "a"], "ref") == ["2", "1"]
    with pytest.raises(NlpcliError, match="'c' of ref is missing from hyp"):
        in_order({"a": "1"}, "hyp", ["a", "c"], "ref")
    with pytest.raises(NlpcliError, match="'b' of hyp is missing from ref"):
        in_order({"a": "1", "b": "2"}, "hyp", ["a"], "ref")
