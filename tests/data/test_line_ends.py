"""A byte order mark and the line ends of Windows change nothing of what is read, whatever reads it."""

from __future__ import annotations

import codecs
import json

import pytest

from nlpcli.commands.inspect.line_scan import lenient_lines
from nlpcli.config.loading import load_yaml
from nlpcli.convert.tokenizer_in import read_json
from nlpcli.data.columns import Columns
from nlpcli.data.conll import read_tagged
from nlpcli.data.readers import count_lines, read_documents, read_lines, split_lines
from nlpcli.data.squad import read_questions
from nlpcli.data.table_rows import read_rows
from nlpcli.data.word_vectors import read_word_vectors

EMPTY = "\t_"
QUESTION = {"question": "q", "context": "a b", "id": "1", "answers": [{"text": "a", "answer_start": 0}]}
READERS = {
    "lines": ("one\ntwo\n\nthree\n", lambda path: list(read_lines(path))),
    "the number of lines": ("one\ntwo\n\nthree", count_lines),
    "lines to inspect": ("one\ntwo\n", lambda path: [line for line, _ in lenient_lines(path)]),
    "documents, a line each": ("one\ntwo\n", lambda path: list(read_documents([path], format="lines"))),
    "paragraphs": ("one\ntwo\n\nthree\n", lambda path: list(read_documents([path], format="paragraphs"))),
    "documents in JSON lines": ('{"text": "one"}\n', lambda path: list(read_documents([path], format="jsonl"))),
    "documents in a table": ("one\tx\ntwo\ty\n", lambda path: list(read_documents([path], format="tsv"))),
    "a table": ("text\tlabel\na b\tx\n", lambda path: rows(path, "tsv")),
    "a table with quotes": ('text,label\n"a, b",x\n', lambda path: rows(path, "csv")),
    "JSON lines": ('{"text": "a", "label": "x"}\n', lambda path: rows(path, "jsonl")),
    "labelled lines": ("__label__x a b\n", lambda path: rows(path, "auto")),
    "CoNLL columns": ("a X\nb O\n\nc O\n", lambda path: tagged(path, "conll")),
    "CoNLL-U": (f"# sent_id = 7\n1\ta\t_\tX{6 * EMPTY}\n2\tb\t_\tY{6 * EMPTY}\n", lambda path: tagged(path, "conllu")),
    "questions in lines": (json.dumps(QUESTION) + "\n", lambda path: list(read_questions(path))),
    "questions in articles": (
        json.dumps({"data": [{"paragraphs": [{"context": "a b", "qas": [QUESTION]}]}]}, indent=1),
        lambda path: list(read_questions(path)),
    ),
    "word vectors": ("a 1.5 2\nb 3 4\n", lambda path: sorted(read_word_vectors(path).places)),
    "YAML": ("# a note\ntraining:\n  lr: 0.1\n", load_yaml),
    "JSON": ('{\n"d_model": 4}\n', read_json),
}  # fmt: skip


def rows(path, format):
    return [(row.names, list(row.cells), row.place) for row in read_rows(path, format, lambda cells: "label" in cells)]


def tagged(path, format):
    return list(read_tagged(path, Columns(format=format)))


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CR LF"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["no mark", "marked"])
@pytest.mark.parametrize("kind", READERS)
def test_marks_and_line_ends_change_nothing(kind, mark, end, tmp_path):
    text, read = READERS[kind]
    plain, other = tmp_path / "plain" / "text", tmp_path / "other" / "text"
    for path, content in ((plain, text.encode()), (other, mark + text.replace("\n", end).encode())):
        path.parent.mkdir()
        path.write_bytes(content)
    assert str(read(other)).replace("/other/", "/plain/") == str(read(plain))


def test_no_other_character_ends_a_line(tmp_path):
    text = "a\u2028b\x85c\x0bd\x0ce\rf\x1cg\nh"
    path = tmp_path / "text"
    path.write_text(text, encoding="utf-8", newline="")
    assert list(read_lines(path)) == text.split("\n")
    assert [line for line, _ in lenient_lines(path)] == text.split("\n")
    assert list(split_lines(text)) == [text[:-1], "h"]
    assert "".join(split_lines(text)) == text
