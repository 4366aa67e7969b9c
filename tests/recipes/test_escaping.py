from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nlpcli.recipes.escaping import escaped


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
