"""Scripts and odd characters are distinguished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.escaping import visible
from nlpcli.text.unusual_characters import ODDITIES, Scripts, oddities, script_of, spelled


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("An ordinary line, with digits 12 and “quotes” – naïve café.", set()),
        ("Привет, мир!", set()),
        ("日本語のテキスト。", set()),
        ("a\u00a0b", {"space"}),
        ("a\u200bb", {"invisible"}),
        ("a\x07b", {"control"}),
        ("a\u2028b", {"separator"}),
        ("a\ufffdb", {"replacement"}),
        ("a\ue000b", {"private"}),
        ("Tools &amp; more", {"entity"}),
        ("it &apos;s", {"entity"}),
        ("AT&T; R&D", set()),
        ("Grüße".encode().decode("cp1252"), {"mojibake"}),
        ("it’s".encode().decode("cp1252"), {"mojibake"}),
        ("Привет".encode().decode("latin-1"), {"mojibake", "control"}),
        ("cafe\u0301", {"decomposed"}),
    ],
)
def test_what_is_odd_in_a_line_is_named(line, names):
    assert set(oddities(line)) - {"separator" if "mojibake" in names else ""} == names
    assert names <= ODDITIES.keys()


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20))
def test_every_text_can_be_looked_at(text):
    assert set(oddities(text)) <= ODDITIES.keys()
    assert visible(text).replace("→", "").isprintable() or not text


@pytest.mark.parametrize(
    ("character", "script"),
    [("a", "Latin"), ("ß", "Latin"), ("ж", "Cyrillic"), ("語", "Han"), ("の", "Kana"), ("한", "Hangul"), ("α", "Greek"),
     ("5", None), (".", None), ("ª", None)],
)  # fmt: skip
def test_a_letter_has_the_script_of_its_name(character, script):
    assert script_of(character) == script


def test_a_line_is_in_the_script_of_most_of_its_letters():
    scripts = Scripts()
    found = scripts.of(["Tom and Мария", "Это Tom", "12:30", "", "日本 a"], least=2)
    assert [scripts.names[number] for number in found] == [
        "Latin",
        "Latin" if found[1] == found[0] else "Cyrillic",
        "",
        "",
        "Han",
    ]
    assert [scripts.names[number] for number in scripts.of(["ab", "аб"], least=3)] == ["", ""]


@given(st.lists(st.text(st.sampled_from("abжя語の 1"), max_size=8), max_size=5))
def test_scripts_of_many_lines_are_those_of_each(lines):
    scripts = Scripts()
    found = scripts.of(lines) if lines else []
    for line, number in zip(lines, found, strict=True):
        counts = {}
        for character in line:
            if script := script_of(character):
                counts[script] = counts.get(script, 0) + 1
        best = max(counts.values(), default=0)
        assert (scripts.names[number] or None) in ({s for s, n in counts.items() if n == best} or {None})


def test_characters_are_spelled_with_their_numbers():
    assert spelled("é") == "é U+00E9"
    assert spelled("\u00a0") == "U+00A0"
    assert visible("a\u00a0b\tc") == "a<U+00A0>b→c"
