"""Facts, tables and findings fit the width they are given, and nothing is lost that is not marked as cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nlpcli.cli.fact_sections import cut, finding_lines, section_lines, wrapped
from nlpcli.commands.inspect.findings import Example, Finding, Section

TEXT = st.text(st.sampled_from("ab 語é|,/"), max_size=60)


def plain(lines):
    return ["".join(text for text, _ in line) for line in lines]


@given(TEXT, st.integers(2, 30))
def test_wrapped_text_fits_and_is_all_there(text, width):
    lines = wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(TEXT, st.integers(2, 30))
def test_what_is_cut_says_so(text, width):
    shown = cut(text, width)
    assert cell_len(shown) <= width
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 10**9).map(str)), min_size=1, max_size=4), st.integers(50, 100))
def test_tables_and_facts_fit_their_width(rows, width):
    table = Section("t", rows, ("one", "two", "three"))
    assert all(cell_len(line) <= width for line in plain(section_lines(table, width)))
    facts = Section("f", [(first[:20], second) for first, second, _ in rows])
    assert all(cell_len(line) <= width for line in plain(section_lines(facts, width)))


def test_numbers_are_set_to_the_right():
    table = Section("t", [("a", "1,000", "5 %"), ("long name", "7", "12.5 %")], ("part", "count", "share"))
    assert plain(section_lines(table, 80)) == [
        "part       count   share",
        "a          1,000     5 %",
        "long name      7  12.5 %",
    ]


@pytest.mark.parametrize("width", [50, 80])
def test_findings_name_lines_and_show_examples_with_problems_first(width):
    findings = [
        Finding("odd", "lines that are odd", 2, False, [3, 4]),
        Finding("bad", "lines that are wrong " * 4, 1200, True, list(range(1, 1201)),
                [Example(17, {"source": "a\u00a0b " + "語" * 60, "target": "x"})]),
    ]  # fmt: skip
    lines = plain(finding_lines(findings, width))
    assert lines[0].startswith("problem  1,200  lines that are wrong")
    assert lines[-2:] == ["note         2  lines that are odd", "                lines 3, 4"]
    assert any("17: source  a<U+00A0>b" in line for line in lines)
    assert all(cell_len(line) <= width for line in lines)
