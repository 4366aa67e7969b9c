"""Text from outside, as people see it."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nlpcli.escaping import SENTENCE, escaped, printable, quoted, sentence, shortened, visible


@given(st.text(st.sampled_from("\\`*_[]<>|#~$&;!/ ab1().-")))
@example("d_ff <b>bold</b> *x* | &amp; [a](b) <!-- -->")
def test_what_is_escaped_is_read_as_it_was_written(text):
    page = f"| x{escaped(text)}x |\n|---|\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    (line,) = (token for token in tokens if token.type == "inline")
    assert {child.type for child in line.children} <= {"text", "text_special"}
    assert "".join(child.content for child in line.children) == f"x{' '.join(text.split())}x"


def test_a_comparison_of_numbers_stays_readable():
    assert escaped("p < 0.05") == "p < 0.05"


CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


@given(st.text(st.characters() | st.sampled_from("\x1b\x07\x9b\x90\n\r\t\u2028\u202e\x7f")))
@example("\x1b]0;title\x07")
def test_nothing_that_steers_a_terminal_is_left(text):
    for shown in (printable(text), visible(text), escaped(text), sentence(text), quoted(text), quoted([{text: text}])):
        assert not CONTROL.search(shown)
    if not CONTROL.search(text):
        assert printable(text) == text


def test_controls_are_spelled_by_their_numbers():
    assert printable("a\x1b]0;t\x07 b\nc\td") == "a<U+001B>]0;t<U+0007> b<U+000A>c\td"


@given(st.text(max_size=50), st.integers(1, 500), st.integers(0, 4000))
def test_a_sentence_is_bounded_and_keeps_both_ends(text, repeats, spaces):
    long = f"begin {text * repeats}{' x' * spaces} end"
    shown = sentence(long)
    assert len(shown) <= SENTENCE and shown.startswith("begin ") and shown.endswith(" end")
    assert len(shortened(long, 80)) <= 80


def test_a_long_value_leaves_what_is_around_it():
    shown = sentence("--set model: " + "x" * 100_000 + " is not a YAML value")
    assert shown.startswith("--set model: xxx") and shown.endswith("xxx is not a YAML value") and len(shown) < 400
