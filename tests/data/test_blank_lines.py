"""Filters write one line for each line they read: a blank line between rows is an example without text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.generate.prompt_data import read_records
from nlpcli.data.columns import Columns
from nlpcli.data.conll import read_tagged
from nlpcli.data.examples import Example, read_choices, read_texts
from nlpcli.data.json_objects import read_objects
from nlpcli.data.squad import read_questions
from nlpcli.data.table_rows import read_rows
from nlpcli.runs.text_inputs import read_inputs

BLANK = st.sampled_from(["", " ", "\t", "  \t"])
WORD = st.text("abcdefgh", min_size=1, max_size=5)
ROWS = {
    "tsv": lambda word: f"{word}\tx y",
    "csv": lambda word: f'"{word}","x y"',
    "jsonl": lambda word: json.dumps({"text": word}),
    "lines": lambda word: word,
    "labeled-lines": lambda word: f"x {word}",
}
BLANK_LINES = Columns(blank_lines=True)


@pytest.mark.parametrize("format", ROWS)
@given(lines=st.lists(st.tuples(st.booleans(), WORD, BLANK), min_size=1, max_size=12))
def test_every_blank_line_is_a_row_at_its_place(tmp_path_factory, format, lines):
    path = tmp_path_factory.mktemp("b") / "a.txt"
    path.write_text("".join((ROWS[format](word) if filled else blank) + "\n" for filled, word, blank in lines))
    found = list(read_rows(path, format, lambda cells: False, blank_lines=True))
    assert [not row.is_blank for row in found] == [filled for filled, _, _ in lines]
    assert [row.place for row in found] == [f"{path}:{number}" for number in range(1, len(lines) + 1)]
    if any(filled for filled, _, _ in lines):
        without = list(read_rows(path, format, lambda cells: False))
        assert without == [row for row in found if not row.is_blank]


def test_a_line_without_text_inside_a_quoted_cell_is_no_blank_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n\n"one\n\ntwo",1\n\n"three",2\n\n')
    found = list(read_rows(path, "csv", lambda cells: True, blank_lines=True))
    assert [row.cells[0] if row.cells else None for row in found] == [None, "one\n\ntwo", None, "three", None]


def test_white_space_in_a_list_of_objects_is_no_blank_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\n\n[\n\n{"text": "a"},\n\n{"text": "b"}\n]\n\n')
    assert [row.cells for row in read_rows(path, "jsonl", lambda cells: True, blank_lines=True)] == [["a"], ["b"]]
    assert [one.text for one in read_inputs(str(path), "auto", None)] == ["a", "b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
@given(lines=st.lists(st.tuples(st.booleans(), WORD, BLANK), max_size=8))
def test_objects_on_lines_keep_their_blank_lines_whatever_the_file_is_called(tmp_path_factory, name, lines):
    path = tmp_path_factory.mktemp("b") / name
    lines = [(True, "first", ""), *lines, (True, "last", "")]
    path.write_text("".join((ROWS["jsonl"](word) if filled else blank) + "\n" for filled, word, blank in lines))
    expected = [word if filled else None for filled, word, _ in lines]
    numbered = enumerate(path.read_text().splitlines(), start=1)
    found = [record and record["text"] for record, _ in read_objects(numbered, path, blank_lines=True)]
    assert found == expected
    assert [one.text if one.record else None for one in read_inputs(str(path), "auto", None)] == expected


READERS = {
    "texts": (read_texts, '{"text": "a"}'),
    "choices": (read_choices, '{"text": "a", "choices": ["b", "c"]}'),
    "tags": (read_tagged, '{"words": ["a"]}'),
}


@pytest.mark.parametrize("name", READERS)
def test_a_blank_line_between_rows_is_an_example_without_text(tmp_path, name):
    read, line = READERS[name]
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{line}\n \n{line}\n\n")
    found = list(read(path, BLANK_LINES, labelled=False))
    assert [example.texts[0] for example in found] == ["", "a", "", "a", ""]
    assert found[2] == Example(("",), place=f"{path}:3")
    assert list(read(path, Columns(), labelled=False)) == [found[1], found[3]]


def test_a_blank_line_between_questions_is_an_example_without_text(tmp_path):
    path = tmp_path / "a.jsonl"
    line = '{"question": "a", "context": "b", "id": 1}'
    path.write_text(f"\n{line}\n\n{line}\n\n")
    found = list(read_questions(path, labelled=False, blank_lines=True))
    assert [example.texts for example in found] == [("",), ("a", "b"), ("",), ("a", "b"), ("",)]
    assert [example.place.rpartition(":")[2] for example in found] == ["1", "2", "3", "4", "5"]
    assert list(read_questions(path, labelled=False)) == [found[1], found[3]]


def test_a_table_without_a_header_finds_its_columns_behind_blank_lines(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("\nlong text here\tx\n\nanother text\ty\n")
    found = list(read_texts(path, Columns(header="no", blank_lines=True), labelled=False))
    assert [example.texts for example in found] == [("",), ("long text here",), ("",), ("another text",)]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.txt"])
def test_a_file_of_blank_lines_is_as_many_examples_without_text(tmp_path, name):
    path = tmp_path / name
    path.write_text("\n \n\n")
    assert [example.texts for example in read_texts(path, BLANK_LINES, labelled=False)] == [("",)] * 3


def test_a_blank_line_is_a_record_without_fields_for_a_prompt(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\na\tx\n\nb\ty\n")
    found = list(read_records(path, BLANK_LINES, ["text"]))
    assert [record.fields.get("text") for record in found] == ["a", None, "b"]
    assert [record.is_blank for record in found] == [False, True, False]
