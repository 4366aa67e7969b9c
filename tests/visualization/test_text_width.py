from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nlpcli.visualization import text_width

PLAIN = st.characters(min_codepoint=0x20, max_codepoint=0x2FF)
SCRIPTS = st.sampled_from("aä中文かкשלאبन한é😀👍✓░\u0301\u200d\ufe0f\t\x1b\u202e ")
TEXT = st.text(st.one_of(st.characters(), PLAIN, SCRIPTS), max_size=12)


@pytest.mark.parametrize(
    ("token", "expected", "columns"),
    [
        ("Mann", "Mann", 4),
        ("中文", "中文", 4),
        ("한", "한", 2),
        ("e\u0301", "é", 1),
        ("\u0301", "◌\u0301", 1),
        ("👩\u200d👩\u200d👧", "👩👩👧", 6),
        ("👍🏽", "👍", 2),
        ("❤\ufe0f", "❤", 1),
        ("🇩🇪", "🇩🇪", 2),
        ("🇩", r"\U0001f1e9", 10),
        ("می\u200cخواهم", "می\u200cخواهم", 7),
        ("\u200d", r"\u200d", 6),
        ("a b", "a␣b", 3),
        ("\n", r"\n", 2),
        ("\x1b[31m", r"\x1b[31m", 8),
        ("\u202eabc", r"\u202eabc", 9),
        ("\udc80", r"\udc80", 6),
        ("a\\b", r"a\b", 3),
        ("", "", 0),
    ],
)
def test_tokens_are_shown_in_a_form_of_known_width(token, expected, columns):
    assert text_width.printable(token) == expected
    assert text_width.cells(expected) == columns
    assert columns == cell_len(expected)


@given(TEXT)
def test_what_is_shown_has_no_control_character_and_can_be_written(token):
    shown = text_width.printable(token)
    assert all(char >= " " and char not in "\x7f\u2028\u2029\u202d\u202e\u2066\u2067\u2068\u2069" for char in shown)
    shown.encode("utf-8")
    plain = text_width.printable(token, unicode=False)
    assert plain.isascii() and plain.isprintable()


@given(TEXT)
def test_clusters_are_one_or_two_columns_and_make_up_the_text(token):
    shown = text_width.printable(token)
    parts = list(text_width.clusters(shown))
    assert "".join(parts) == shown
    assert all(text_width.cells(part) in (1, 2) for part in parts)


@given(TEXT, st.integers(1, 12))
def test_a_cut_text_fits_and_begins_like_the_whole(token, columns):
    shown = text_width.printable(token)
    cut = text_width.cut(shown, columns)
    assert text_width.cells(cut) <= columns
    assert cut == shown or (cut.endswith("…"[: columns - 0]) and shown.startswith(cut[:-1]))


@given(TEXT, st.integers(0, 4))
def test_padding_fills_the_columns_on_either_side(token, more):
    shown = text_width.printable(token)
    columns = text_width.cells(shown) + more
    for padded in (text_width.to_left(shown, columns), text_width.to_right(shown, columns)):
        assert text_width.cells(padded) == columns


@given(st.lists(TEXT, max_size=6), st.integers(2, 20))
def test_wrapped_lines_fit_and_lose_no_letter(words, columns):
    text = " ".join(map(text_width.printable, words))
    lines = text_width.wrapped(text, columns)
    assert all(text_width.cells(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_right_to_left_letters_are_kept_apart_and_others_left_alone():
    assert text_width.isolated("שלום") == "\u2066שלום\u2069"
    assert text_width.isolated("Mann") == "Mann"


@given(st.text(st.one_of(PLAIN, SCRIPTS, st.characters(min_codepoint=0x3041, max_codepoint=0x9FFF)), max_size=12))
def test_widths_agree_with_those_of_rich(token):
    shown = text_width.printable(token)
    assert text_width.cells(shown) == cell_len(shown)
