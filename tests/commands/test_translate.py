from __future__ import annotations

import json

import pytest

from nlpcli.commands.translate import Layout
from nlpcli.decoding.line_translator import Candidate, Request, Translation
from nlpcli.errors import NlpcliError
from nlpcli.runs.translation import TranslateRequest, read_requests

BEST = Candidate("ein\tHaus ||| ja", -0.25, -1.5, ((0, 0), (1, 1)))
OTHER = Candidate("das Haus", -0.5, -2.0, ((0, 1),))


def translation(origin=None):
    return Translation(Request("a house", origin=origin), (BEST, OTHER))


def test_plain_text_is_the_translation_alone():
    assert Layout().lines(translation(), 4) == ["ein\tHaus ||| ja"]


def test_columns_are_separated_by_the_only_tabs():
    assert Layout(scores=True, alignments=True).lines(translation(), 4) == ["ein Haus ||| ja\t-0.2500\t0-0 1-1"]


def test_the_list_of_the_best_has_moses_fields_and_no_other_bars():
    assert Layout(n_best=2, alignments=True).lines(translation(), 4) == [
        "4 ||| ein\tHaus | | | ja ||| logprob= -1.5000 ||| -0.2500 ||| 0-0 1-1",
        "4 ||| das Haus ||| logprob= -2.0000 ||| -0.5000 ||| 0-1",
    ]


def test_an_object_keeps_its_fields_in_their_order():
    [line] = Layout(output_field="de", scores=True).lines(translation({"id": 1, "text": "a house", "ä": "ö"}), 0)
    assert line == '{"id": 1, "text": "a house", "ä": "ö", "de": "ein\\tHaus ||| ja", "de_score": -0.25}'


def test_the_best_of_an_object_are_a_list_in_it():
    record = json.loads(Layout(n_best=2, as_json=True).lines(translation(), 0)[0])
    assert record["translation"] == record["translation_nbest"][0]["translation"] == BEST.text
    assert [entry["logprob"] for entry in record["translation_nbest"]] == [-1.5, -2.0]


def test_lines_of_several_files_have_their_own_places(tmp_path):
    (tmp_path / "a").write_text("x\ny\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "z"}\n\n', encoding="utf-8")
    (tmp_path / "prefixes").write_text("1\n2\n3\n4\n", encoding="utf-8")
    files = [str(tmp_path / "a"), str(tmp_path / "b.jsonl")]
    found = list(read_requests(TranslateRequest(files=files, prefix_file=tmp_path / "prefixes")))
    assert [request.text for request in found] == ["x", "y", "z", ""]
    assert [request.place for request in found] == [f"{files[0]}:1", f"{files[0]}:2", f"{files[1]}:1", f"{files[1]}:2"]
    assert [request.prefix for request in found] == ["1", "2", "3", "4"]
    assert [request.origin for request in found] == [None, None, {"text": "z"}, None]


def test_prefixes_left_over_are_an_error(tmp_path):
    (tmp_path / "a").write_text("x\n", encoding="utf-8")
    (tmp_path / "prefixes").write_text("1\n2\n", encoding="utf-8")
    with pytest.raises(NlpcliError, match="has more lines than the input, which has 1 line"):
        list(read_requests(TranslateRequest(files=[str(tmp_path / "a")], prefix_file=tmp_path / "prefixes")))


def test_text_format_reads_braces_as_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "z"}\n', encoding="utf-8")
    job = TranslateRequest(files=[str(tmp_path / "a.jsonl")], format="text")
    assert [request.text for request in read_requests(job)] == ['{"text": "z"}']
