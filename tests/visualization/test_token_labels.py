"""Tokens as labels: one line each, in the order in which they are read."""

from __future__ import annotations

import pytest

matplotlib = pytest.importorskip("matplotlib")

from nlpcli.visualization.token_labels import TokenLabels  # noqa: E402


def label(token: str) -> str:
    return TokenLabels([token], []).label(token)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("word", "word"),
        ("", "∅"),
        (" ", "␣"),
        ("\u00a0", "␣"),
        ("\n", "↵"),
        ("\t\n", "⇥↵"),
        ("a b", "a b"),
        ("a\nb", "a↵b"),
        ("a\x00b\ud800", "a·b·"),
        ("$x_1$", "$x_1$"),
        ("\u202eevil\u202c", "evil"),
        ("x" * 60, "x" * 23 + "…"),
    ],
)
def test_a_token_is_one_line_that_can_be_seen(token, shown):
    assert label(token) == shown


def test_titles_are_not_cut():
    assert TokenLabels([], ["title " * 20]).line("title " * 20) == "title " * 20


@pytest.mark.parametrize(
    ("token", "turned"),
    [
        ("שלום", "םולש"),
        ("(שנה)", "(הנש)"),
        ("ש123", "123ש"),
        ("abcש", "abcש"),
        ("2026", "2026"),
        ("שָׁ", "שָׁ"),
        ("word", "word"),
    ],
)
def test_before_matplotlib_3_11_words_from_right_to_left_are_turned(monkeypatch, token, turned):
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 0, "final", 0))
    assert label(token) == turned
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 11, 0, "final", 0))
    assert label(token) == token


def test_only_fonts_that_are_needed_are_loaded_and_the_base_comes_first():
    assert TokenLabels(["word", "слово", "λόγος", "שלום"], []).families == ("DejaVu Sans",)
    assert TokenLabels(["中文"], []).families[0] == "DejaVu Sans"


def test_what_no_font_has_is_a_box_and_reported_once_with_its_number():
    warnings: list[str] = []
    labels = TokenLabels(["a\U000f0000", "\U000f0001"], ["\U000f0000"], warnings.append)
    assert labels.label("a\U000f0000") == "a□" and labels.line("\U000f0000") == "□"
    assert len(warnings) == 1 and "U+F0000" in warnings[0] and "U+F0001" in warnings[0]


def test_joiners_and_selectors_without_a_glyph_are_left_out_in_silence():
    warnings: list[str] = []
    assert TokenLabels(["a\U000e0101"], [], warnings.append).label("a\U000e0101") == "a"
    assert warnings == []
