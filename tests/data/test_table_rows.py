from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.table_rows import as_text, format_of, read_rows
from nlpcli.errors import NlpcliError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
CELL = TEXT.map(lambda text: text.translate({9: "", 10: "", 13: ""}))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path, format="auto", header=True):
    return list(read_rows(path, format, lambda cells: header))


def is_table(table):
    return all(not "".join(row).isspace() and "".join(row) for row in table) and not table[0][0].startswith("\ufeff")


# What was written comes back


@given(st.lists(st.lists(CELL, min_size=2, max_size=4), min_size=1, max_size=5).filter(is_table), st.booleans())
def test_cells_between_tabs_come_back_as_they_were_written(tmp_path_factory, table, carriage):
    end = "\r\n" if carriage else "\n"
    path = write(tmp_path_factory.mktemp("t") / "a.tsv", "".join("\t".join(row) + end for row in table))
    assert [row.cells for row in rows(path, header=False)] == table


@given(
    st.lists(st.lists(TEXT, min_size=2, max_size=4), min_size=1, max_size=5).filter(is_table), st.sampled_from(",\t")
)
def test_quoted_cells_come_back_with_their_line_ends_and_quotes(tmp_path_factory, table, separator):
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["a", *["b"] * 5], *table])
    path = write(tmp_path_factory.mktemp("t") / "a.csv", out.getvalue())
    read = rows(path, "csv", header=False)
    assert [row.cells for row in read[1:]] == table


@given(st.lists(st.dictionaries(TEXT, TEXT | st.booleans() | st.none() | st.lists(TEXT)), min_size=1, max_size=5))
def test_objects_come_back_as_they_were_written(tmp_path_factory, records):
    path = write(tmp_path_factory.mktemp("t") / "a.jsonl", "\n".join(json.dumps(record) for record in records))
    assert [dict(zip(row.names, row.cells, strict=True)) for row in rows(path)] == records


@given(st.from_regex(r"[a-z]+:[a-z]+", fullmatch=True), CELL.filter(lambda text: text.strip()))
def test_the_first_word_of_a_labelled_line_is_its_label(tmp_path_factory, label, text):
    path = write(tmp_path_factory.mktemp("t") / "a.txt", f"{label} {text}\n")
    (row,) = rows(path, "labeled-lines")
    assert dict(zip(row.names, row.cells, strict=True)) == {
        "label": label, "text": text, "coarse": label.split(":")[0],
    }  # fmt: skip


# Lines


def test_a_row_is_placed_where_it_begins(tmp_path):
    path = write(tmp_path / "a.csv", '\n\na,b\n"one\r\n\ntwo",1\n\n"three\n",2\n4,3\n')
    assert [(row.cells, row.place) for row in rows(path)] == [
        (["one\r\n\ntwo", "1"], f"{path}:4"),
        (["three\n", "2"], f"{path}:8"),
        (["4", "3"], f"{path}:10"),
    ]
    path = write(tmp_path / "a.tsv", "\n\na\tb\n\n1\t2\n")
    assert [row.place for row in rows(path)] == [f"{path}:5"]


def test_a_header_names_the_cells_below_it(tmp_path):
    path = write(tmp_path / "a.tsv", b"\xef\xbb\xbfQuality \t#1 ID\n1\t2\n")
    assert rows(path)[0].names == ("Quality", "#1 ID")
    assert rows(path, header=False)[0].names is None


def test_rows_come_from_compressed_files_and_standard_input(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(b'{"a": "b"}\n'))
    assert rows(path)[0].cells == ["b"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": "b"}\n')))
    assert rows("-") == [(("a",), ["b"], "<stdin>:1")]


def test_rows_are_given_as_soon_as_they_are_read(tmp_path):
    path = write(tmp_path / "a.tsv", b"a\tb\n1\t2\n\xff\n")
    read = read_rows(path, "tsv", lambda cells: True)
    assert next(read).cells == ["1", "2"]
    with pytest.raises(NlpcliError, match=r"a.tsv:3: the line is not valid UTF-8"):
        next(read)


def test_numbers_in_objects_stay_as_they_are_written(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 5.0, "b": 1e3, "c": 007, "d": true}\n'.replace("007", "7"))
    assert rows(path)[0].cells == ["5.0", "1e3", "7", True]


@pytest.mark.parametrize(
    ("line", "label", "text"),
    [
        ("__label__sad the end\n", "sad", "the end"),
        ("__label__sad __label__dark  the end\r\n", ["sad", "dark"], "the end"),
        ("__label__sad\tthe end", "sad", "the end"),
        ("1 a stirring , funny tale", "1", "a stirring , funny tale"),
        ("LOC:city\tWhere ?", "LOC:city", "Where ?"),
    ],
)
def test_labels_of_lines_are_those_of_trec_and_fasttext(tmp_path, line, label, text):
    (row,) = rows(write(tmp_path / "a.txt", line), "labeled-lines")
    assert list(row.cells[:2]) == [label, text]


# Formats


@pytest.mark.parametrize(
    ("name", "first", "format"),
    [
        ("a.tsv", "{", "tsv"),
        ("a.csv", "a,b\tc", "csv"),
        ("a.csv", "A dog, a cat\tA\t5", "tsv"),
        ("a.csv.gz", "a,b", "csv"),
        ("a.jsonl.xz", "[", "jsonl"),
        ("a.ndjson", "", "jsonl"),
        ("a.txt", '{"a": 1}', "jsonl"),
        ("a.txt", "a\tb", "tsv"),
        ("-", "__label__a b", "labeled-lines"),
        ("-", "plain text", "lines"),
    ],
)
def test_formats_are_recognized_by_name_and_first_line(name, first, format):
    assert format_of(name, first) == format


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", r"a.tsv is empty"),
        ("a.tsv", " \n\n", r"a.tsv is empty"),
        ("a.csv", "a,b\n", r"a.csv has a header but no examples"),
        ("a.tsv", b"a\tb\nx\x00\ty\n", r"a.tsv:2: the line contains a zero byte, so this is not a text file"),
        ("a.jsonl", '{"a": 1}\n\n{"a"\n', r"a.jsonl:3: this is not valid JSON \(Expecting ':' delimiter\)"),
        ("a.jsonl", "[1]\n", r"a.jsonl:1: this item of the list is not a JSON object"),
        ("a.csv", 'a,b\n1,2\n"open,2\n3,4\n', r"a.csv:3: the quotation marks of this row are wrong"),
        ("a.csv", 'a,b\n"1"x,2\n', r"a.csv:2: the quotation marks"),
    ],
)
def test_what_is_no_table_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(NlpcliError, match=message):
        rows(write(tmp_path / name, content))


@pytest.mark.parametrize("line", ["alone", "alone ", "__label__a", "__label__a __label__b ", " text"])
def test_a_labelled_line_without_text_or_label_is_named(tmp_path, line):
    with pytest.raises(NlpcliError, match=r"a.txt:2: the line must contain a label, a space and a text"):
        rows(write(tmp_path / "a.txt", f"a b\n{line}\n"), "labeled-lines")


def test_a_format_of_another_kind_is_refused(tmp_path):
    with pytest.raises(NlpcliError, match="the format 'conll' does not support texts with labels"):
        rows(write(tmp_path / "a", "a\n"), "conll")


def test_cells_are_text_as_it_is_in_the_data():
    assert [as_text(value, "", "") for value in ("x", "", True, False, 5.0, 3)] == [
        "x",
        "",
        "true",
        "false",
        "5.0",
        "3",
    ]
    for value in (None, [], {}):
        with pytest.raises(NlpcliError, match=r"f:1: 'a' must be text, not "):
            as_text(value, "'a'", "f:1")
    with pytest.raises(NlpcliError, match="half of a surrogate pair"):
        as_text("\ud800", "'a'", "f:1")
