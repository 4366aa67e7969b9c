"""Texts, shard sets, vectors, indexes, suites and JSON lines are recognized and described; the rest is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from nlpcli.commands.inspect import inspect
from nlpcli.commands.inspect.line_scan import scan
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.text import train_tokenizer


def by_name(inspection):
    return {finding.name: list(map(int, finding.lines)) for finding in inspection.findings}


def test_a_text_is_described(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(
        "Der Mann ist in dem Haus.\r\n\nDER  Mann ist in dem Haus.\nИ вот\u00a0ещё.\n".encode() + b"\xff\n"
    )
    found = inspect(str(path))
    facts = found.as_dict()
    assert (facts["lines"], facts["blank_lines"], facts["bytes"]) == (5, 1, path.stat().st_size)
    assert by_name(found) == {"crlf": [1], "blank": [2], "duplicate": [3], "space": [4], "encoding": [5]}
    assert found.has_problems


def test_limit_reads_the_beginning_alone(tmp_path):
    (tmp_path / "text").write_text("one\ntwo\nthree\n", "utf-8")
    assert inspect(str(tmp_path / "text"), limit=2).facts["lines"] == 2


def test_a_shard_set_is_described_and_a_damaged_one_refused(tmp_path):
    (tmp_path / "text").write_text("one two\nthree\n", "utf-8")
    build_shards(tmp_path / "text", train_tokenizer("chars", ["one two three"]), out=tmp_path / "set", workers=1)
    found = inspect(str(tmp_path / "set"))
    assert (found.kind, found.facts["documents"], found.facts["text_words"]) == ("shards", 2, 3)
    shard = next((tmp_path / "set").glob("tokens-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(NlpcliError, match="the shard set is damaged"):
        inspect(str(tmp_path / "set"))


def test_vectors_and_an_index_are_described(tmp_path):
    vectors = np.array([[3, 4], [0, 0], [np.nan, 1]], dtype=np.float32)
    folder = tmp_path / "index"
    folder.mkdir()
    np.save(folder / "vectors.npy", vectors)
    (folder / "texts.txt").write_text("a\n\nc\n", "utf-8")
    (folder / "index.yaml").write_text("format: 1\nmodel: runs/x\npooling: mean\nindex: exact\n", "utf-8")
    found = inspect(str(folder / "vectors.npy"))
    assert (found.facts["vectors"], found.facts["dimension"], found.facts["norm"]["max"]) == (3, 2, 5.0)
    assert by_name(found) == {"not_finite": [3], "zero_norm": [2]}
    assert inspect(str(folder)).facts["texts"] == 3
    (folder / "texts.txt").write_text("a\n", "utf-8")
    with pytest.raises(NlpcliError, match=r"vectors\.npy has 3 vectors, but texts\.txt has 1 line"):
        inspect(str(folder))


def test_a_suite_is_recognised_by_its_tasks(tmp_path):
    for name in ("RTE", "CB"):
        (tmp_path / name).mkdir()
        record = {"premise": "a", "hypothesis": "b", "label": "entailment", "idx": 0}
        (tmp_path / name / "train.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
        (tmp_path / name / "val.jsonl").write_text((json.dumps(record) + "\n") * 2, "utf-8")
    found = inspect(str(tmp_path))
    assert (found.kind, found.facts["suite"]) == ("suite", "superglue")
    assert [(row["name"], row["train"], row["dev"]) for row in found.facts["tasks"]] == [("CB", 1, 2), ("RTE", 1, 2)]
    assert "BoolQ" in found.facts["missing_tasks"]


def test_json_lines_have_fields(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "four", "n": 1}\n[1]\n\n{"text": "ab"}\n', "utf-8")
    found = inspect(str(tmp_path / "a.jsonl"))
    assert found.facts["fields"]["text"]["records"] == 2
    assert found.facts["fields"]["n"]["types"] == {"integer": 1}
    assert by_name(found) == {"invalid_json": [2], "blank": [3]}


class Wicked:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.pt", pickle.dumps(Wicked()), "the file is a pickle"),
        ("w.bin", b"PK\x03\x04\x00\x00", "an archive"),
        ("w.npy", pickle.dumps(Wicked()), "is not a valid .npy file"),
        ("x", b"\x89PNG\r\n\x1a\n\x00", "is an image"),
        ("x.parquet", b"PAR1\x15\x04", "is a Parquet file, not a text file"),
        ("x", b"Obj\x01\x04\x14avro", "is an Avro file"),
        ("x", b"BZh91AY&SYxx", "a bzip2 archive"),
        ("x", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file"),
        ("x", bytes(range(256)), "the file is not a text"),
        ("x.gz", b"\x1f\x8b\x08", "data is incomplete"),
        ("wide", "text".encode("utf-16"), "the text is in UTF-16"),
        ("empty", b"", "the file is empty"),
        ("model.yaml", b"task: x\n", "the file describes its folder"),
        ("metrics.jsonl", b"no\n", "the file contains no log entries of a run"),
    ],
)
def test_what_can_t_be_inspected_is_refused_in_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NlpcliError, match=message):
        inspect(str(tmp_path / name))


@pytest.mark.parametrize("text", ["BZhang slept .", "GIF8 is a word .", "PAR1 of the report"])
def test_a_text_that_begins_like_the_name_of_a_format_is_a_text(tmp_path, text):
    (tmp_path / "x").write_text(f"{text}\n", "utf-8")
    assert inspect(str(tmp_path / "x")).kind == "text"


def test_no_side_of_a_corpus_is_a_binary_file(tmp_path):
    (tmp_path / "a.de").write_bytes(b"PAR1\x15\x04\n")
    with pytest.raises(NlpcliError, match="is a Parquet file, not a text file"):
        scan(tmp_path / "a.de")


def test_folders_that_are_nothing_are_refused_by_what_they_hold(tmp_path):
    with pytest.raises(NlpcliError, match="the folder is empty"):
        inspect(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x", "utf-8")
    with pytest.raises(NlpcliError, match=r"it contains notes\.txt"):
        inspect(str(tmp_path))
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(NlpcliError, match="the folder contains several checkpoints"):
        inspect(str(tmp_path))


def test_a_path_that_is_not_there_has_a_neighbour(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(NlpcliError) as caught:
        inspect(str(tmp_path / "corpsu" / "train.en"))
    assert caught.value.hint == f"did you mean '{tmp_path / 'corpus'}'?"
    with pytest.raises(NlpcliError) as caught:
        inspect("bert-base")
    assert "nlpcli config show bert-base" in caught.value.hint
