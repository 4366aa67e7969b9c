"""`nlpcli inspect` as a shell runs it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

import nlpcli

ROOT = Path(nlpcli.__file__).resolve().parents[1]
DATA = ROOT / "sample_data" / "tatoeba-en-de"


@pytest.fixture
def corpus(tmp_path):
    for name in ("train.en", "train.de"):
        lines = gzip.decompress((DATA / f"{name}.gz").read_bytes()).decode("utf-8").splitlines()[:2000]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return tmp_path


def test_a_corpus_in_a_pipe_is_plain_text_of_80_columns(run, corpus):
    done = run("inspect", "train.en", "train.de", "--test", DATA / "test.en", DATA / "test.de")
    assert (done.returncode, done.stderr) == (0, "")
    assert "parallel corpus, 2,000 pairs" in done.stdout and "train – test" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80


def test_strict_fails_on_problems_and_json_has_every_line(run, corpus):
    with open(corpus / "train.de", "a", encoding="utf-8") as file:
        file.write("I have been waiting for you all the time.\n")
    with open(corpus / "train.en", "a", encoding="utf-8") as file:
        file.write("Ich habe die ganze Zeit auf dich gewartet.\n")
    done = run("inspect", "train.en", "train.de", "--strict", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert next(item for item in found["findings"] if item["name"] == "swapped")["lines"] == [2001]
    assert run("inspect", "train.en", "train.de").returncode == 0


def test_a_text_comes_from_a_pipe(run):
    done = run("inspect", "-", "--json", stdin="one two\n\nthree\n")
    assert done.returncode == 0
    assert json.loads(done.stdout)["lines"] == 3


def test_both_sides_may_be_compressed_and_what_is_odd_is_spelled_out(run, tmp_path):
    for name, text in (("a.en.gz", "one two three four\n"), ("a.de.gz", "eins zwei drei\u00a0vier\n")):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    done = run("inspect", "a.en.gz", "a.de.gz")
    assert "drei<U+00A0>vier" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "no such file or folder"),
        (["a", "b", "c"], "3 paths"),
        (["train.en", "--dev", "x", "y"], "--dev applies to a parallel corpus only"),
        (["train.en", "train.de", "--weights"], "--weights has no effect on a parallel corpus"),
        (["train.en", "."], "is a folder"),
        (["train.en", "absent"], "no such file"),
        (["train.en", "train.de", "--languages", "en", "dee"], "unknown language 'dee'"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(run, corpus, arguments, message):
    done = run("inspect", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_the_page_names_every_key_of_the_json(run, corpus, tmp_path):
    page = (ROOT / "docs" / "inspecting.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    tokenizer = tmp_path / "tok"
    assert run("tokenize", "train", "--type", "chars", "--out", tokenizer, "train.en").returncode == 0
    calls = [
        ["train.en"],
        ["train.en", "train.de", "--dev", "train.en", "train.de", "--tokenizer", tokenizer, "--languages", "en", "de"],
        [tokenizer, "--corpus", "train.de"],
    ]
    for call in calls:
        found = json.loads(run("inspect", *call, "--json").stdout)
        assert [key for key in found if key not in named] == []
        for inner in ("source", "text", "overlap"):
            if isinstance(found.get(inner), dict):
                assert [key for key in found[inner] if key not in named] == []
        for finding in found["findings"]:
            assert set(finding) <= named
