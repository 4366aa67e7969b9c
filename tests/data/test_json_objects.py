from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.columns import Columns
from nlpcli.data.examples import read_texts
from nlpcli.data.json_objects import member, read_objects
from nlpcli.data.readers import read_documents
from nlpcli.data.table_rows import separator_note, separator_of
from nlpcli.errors import NlpcliError

KEY = st.text("ab.c", min_size=1, max_size=3)
VALUE = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.booleans(), max_size=2))
RECORD = st.dictionaries(KEY, VALUE, min_size=1, max_size=4)


def objects(text, name="a.json"):
    return list(read_objects(enumerate(text.split("\n"), start=1), name, numbers=True))


@given(st.lists(RECORD, min_size=1, max_size=4), st.sampled_from([None, 1]), st.sampled_from(["lines", "list", "held"]))
def test_records_come_back_from_lines_from_a_list_and_from_an_object_with_one_list(records, indent, form):
    if form == "lines":
        text = "\n".join(map(json.dumps, records))
    else:
        text = json.dumps(records if form == "list" else {"version": 1, "data": records}, indent=indent)
    if form == "lines" and len(records) == 1 and any(isinstance(v, list) and v for v in records[0].values()):
        return
    assert [record for record, _ in objects(text)] == records


def test_each_object_of_a_list_has_its_line():
    assert [place for _, place in objects('[\n{"a": 1},\n\n{"a":\n 2}, {"a": 3}]')] == [
        "a.json:2",
        "a.json:4",
        "a.json:5",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}\n{"a": 2}]', r"a.json:2: this is not valid JSON"),
        ('[{"a": 1},\n{"a": }]', r"a.json:2: this is not valid JSON"),
        ('[{"a": 1},\n', r"a.json:1: this is not valid JSON"),
        ('[1]', r"a.json:1: this item of the list is not a JSON object"),
        ('{"a": [{}], "b": [{}]}', r"a.json contains several lists of records: a, b"),
        ('[{"a": 1}] x', r"a.json:1: there is text after the end of the list"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_list_of_objects_is_named_with_its_line(text, message):
    with pytest.raises(NlpcliError, match=message):
        objects(text)


def test_a_broken_first_line_of_json_lines_is_named_as_such():
    with pytest.raises(NlpcliError, match=r"a.jsonl:1: this is not valid JSON"):
        objects('{"a": 1\n{"a": 2}', "a.jsonl")


@given(st.recursive(VALUE, lambda inner: st.dictionaries(KEY, inner, min_size=1, max_size=2), max_leaves=6), st.data())
def test_a_path_leads_to_a_value_unless_a_key_is_spelled_so(value, data):
    record, path = {"top": value}, ["top"]
    while isinstance(value, dict):
        path.append(data.draw(st.sampled_from(sorted(value))))
        value = value[path[-1]]
    name = ".".join(path)
    if all("." not in part for part in path):
        assert member(record, name) == value
    assert member({**record, name: "exact"}, name) == "exact"


def test_paths_name_columns_of_labelled_data_and_of_documents(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"data": {"text": "x"}, "meta": [{"label": "a"}]}]')
    [example] = read_texts(path, Columns(text="data.text", label="meta.0.label"))
    assert (example.texts, example.label) == (("x",), "a")
    assert list(read_documents(path, field="data.text")) == ["x"]
    with pytest.raises(NlpcliError, match=r"a.json:1: there is no column 'data.body'; the columns are: data, meta"):
        list(read_texts(path, Columns(text="data.body", label="meta.0.label")))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["text{0}label\n", ""])
def test_the_separator_of_a_table_is_found(tmp_path, separator, header):
    path = tmp_path / "a.csv"
    texts = ["Well, well, well; so be it|so", "plain", "one; two", "say hi"]
    rows = [f'"{text}"{separator}{label}\n' for text, label in zip(texts, "abab", strict=True)]
    path.write_text(header.format(separator) + "".join(rows))
    if separator != "\t":  # which has no quoting
        assert [example.label for example in read_texts(path, Columns())] == list("abab")
    assert separator_of([header.format(separator), *rows][not header :]) == separator
    assert (separator_note(path, "auto") is not None) == (separator in ";|")


def test_a_text_of_one_column_is_separated_by_commas():
    assert separator_of(["text\n", "a b\n"]) == separator_of([]) == ","


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"PAR1\x15\x04\x15", "a Parquet file"), (b"ARROW1\x00\x00", "an Arrow file"),
     (b"PK\x03\x04\x14\x00", "a zip archive"), (b"\x80\x04\x95", "a Python pickle file"),
     (b"SQLite format 3\x00", "an SQLite database"), (b"%PDF-1.7\n", "a PDF"),
     (b"BZh91AY&SY", "a bzip2 archive"), (b"\x89PNG\r\n\x1a\n", "an image")],
)  # fmt: skip
def test_a_binary_file_is_named_by_what_it_is(tmp_path, head, what):
    for name in ("a.tsv", "a.jsonl", "train.parquet"):
        path = tmp_path / name
        path.write_bytes(head + b"\x00" * 20)
        for read in (lambda p: read_texts(p, Columns()), read_documents, lambda p: read_documents(p, format="file")):
            with pytest.raises(NlpcliError, match=rf"{name} is {what}.*, not a text file"):
                list(read(path))


def test_a_text_that_begins_like_a_format_is_a_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("PAR1 is a word\nPKs\nBZh\n")
    assert len(list(read_documents(path, format="lines"))) == 3
