"""Minimal pairs in the files that they are distributed in."""

from __future__ import annotations

import gzip
import json

import pytest

from nlpcli.data.minimal_pair_files import read_pairs
from nlpcli.errors import NlpcliError

RECORD = {
    "sentence_good": "Who should Derek hug?", "sentence_bad": "Who Derek should hug?", "field": "syntax/semantics",
    "linguistics_term": "island_effects", "UID": "adjunct_island", "simple_LM_method": True, "pairID": "0",
}  # fmt: skip


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def test_blimp_names_paradigm_phenomenon_and_field(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(RECORD))
    [pair] = read_pairs([tmp_path / "a.jsonl"])
    assert (pair.good, pair.bad) == (RECORD["sentence_good"], RECORD["sentence_bad"])
    assert (pair.paradigm, pair.phenomenon, pair.field) == ("adjunct_island", "island_effects", "syntax_semantics")
    assert pair.place == f"{tmp_path / 'a.jsonl'}:1"


def test_a_folder_is_all_files_of_pairs_in_it_and_a_file_without_uid_is_a_paradigm(tmp_path):
    bare = {name: RECORD[name] for name in ("sentence_good", "sentence_bad")}
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(bare, bare).encode()))
    (tmp_path / "a.tsv").write_text("A cat sits.\tA cat sit.\n")
    (tmp_path / "c.csv").write_text('bad,good\n"A, a cat sit.","A, a cat sits."\n')
    (tmp_path / "README.md").write_text("no pairs")
    found = list(read_pairs([tmp_path]))
    assert [(pair.paradigm, pair.field) for pair in found] == [("a", None), ("b", None), ("b", None), ("c", None)]
    assert (found[0].good, found[0].bad) == ("A cat sits.", "A cat sit.")
    assert (found[3].good, found[3].bad) == ("A, a cat sits.", "A, a cat sit.")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"sentence_good": "a"}\n', "a.jsonl:1: there is no field 'sentence_bad'"),
        ("a.jsonl", '{"sentence_good": "a", "sentence_bad": " "}\n', "a.jsonl:1: the unacceptable sentence is blank"),
        ("a.jsonl", '{"sentence_good": 3.5, "sentence_bad": null}\n', "a.jsonl:1: the unacceptable sentence must be"),
        ("a.tsv", "a\tb\na\tb\tc\n", "a.tsv:2: a minimal pair without a header needs 2 columns, but there are 3"),
        ("a.txt", "a b\n", "a.txt:1: a minimal pair without a header needs 2 columns, but there are 1"),
    ],
)
def test_what_is_no_pair_is_named_with_its_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(NlpcliError, match=message):
        list(read_pairs([tmp_path / name]))


def test_a_missing_file_and_a_folder_without_pairs_are_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a.tsv").write_text("a\tb\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NlpcliError, match="nowhere: no such file"):
        next(read_pairs([tmp_path / "a.tsv", tmp_path / "nowhere"]))
    with pytest.raises(NlpcliError, match="empty contains no file of minimal pairs"):
        next(read_pairs([tmp_path / "empty"]))
