from __future__ import annotations

import io
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.data.examples import Example
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.runs.task_model import open_task
from nlpcli.tasks import TASKS
from nlpcli.tasks.task import Context
from nlpcli.text import train_tokenizer

CORPUS = ["a dog runs in the snow", "the sun shines", "", "two dogs play", "rain falls on the sea", "a cat sleeps"] + [
    f"{one} {two}" for one in "abcdefgh" for two in "ijklmnop"
]
TOKENIZER = train_tokenizer("words", CORPUS, vocab_size=None, seed=1)
CONFIG = TransformerConfig(kind="encoder", d_model=16, heads=2, d_ff=16, encoder_layers=1, max_length=64, dropout=0.0)


def write_model(path, seed=1, task=None, labels=()):
    torch.manual_seed(seed)
    info = {"task": "encoder"}
    head = None
    if task is not None:
        examples = [Example(("a dog", "two dogs"), label, f"t:{i}") for i, label in enumerate(labels, 1)]
        made = TASKS.load(task).create(examples, Context(TOKENIZER, CONFIG, {}, 32))
        head = made.head()
        info = {"task": task, "problem": made.describe(), "head": head, "max_length": 32}
    model = build_model(CONFIG, TOKENIZER.vocab_size, head)
    save_model(path, weights=model.state_dict(), config=CONFIG, tokenizer=TOKENIZER, info=info)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("search") / "model")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("search") / "other", seed=2)


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs a command in this process, in an empty folder: (status, lines of stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object, stdin: str = "", command: str = "search") -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main([command, "--device", "cpu", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err

    return run_it


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus.txt").write_text("".join(f"{line}\n" for line in CORPUS), "utf-8")
    return tmp_path / "corpus.txt"


@pytest.fixture
def vectors(call, model, corpus, tmp_path):
    assert call("--model", model, "--output", "corpus.npy", corpus, command="embed")[0] == 0
    return tmp_path / "corpus.npy"


def test_a_line_of_the_corpus_finds_itself_first(run, model, corpus):
    done = run("search", "--model", model, "--corpus", corpus, "--top", 2, "two dogs play", "a b")
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "2"]
    assert rows[0][1:] == ["1.0000", "two dogs play"]
    assert float(rows[0][1]) >= float(rows[1][1])


def test_lines_of_standard_input_are_queries_and_blank_ones_find_nothing(call, model, corpus):
    status, lines, _ = call("--model", model, "--corpus", corpus, "--json", "-k", 3, stdin="a cat sleeps\n\nthe sun\n")
    found = [json.loads(line) for line in lines]
    assert status == 0 and [answer["text"] for answer in found] == ["a cat sleeps", "", "the sun"]
    assert [len(answer["hits"]) for answer in found] == [3, 0, 3]
    assert found[0]["hits"][0] == {"line": 6, "score": pytest.approx(1, abs=1e-5), "text": "a cat sleeps"}


def test_vectors_made_before_give_the_same_hits(call, model, corpus, vectors):
    _, fresh, _ = call("--model", model, "--corpus", corpus, "the dog")
    assert len(fresh) == 10
    assert call("--model", model, "--vectors", vectors, "--texts", corpus, "the dog")[1] == fresh
    assert len(call("--model", model, "--corpus", corpus, "-k", 1000, "the dog")[1]) == len(CORPUS)


@pytest.mark.parametrize("index", ["exact", "faiss", "hnsw"])
def test_a_saved_index_needs_nothing_beside_it(call, model, corpus, index, tmp_path):
    _, fresh, _ = call("--model", model, "--corpus", corpus, "the dog")
    status, lines, err = call(
        "--model", model, "--corpus", corpus, "--index", index, "--save-index", "idx", "--pooling", "mean", "the dog"
    )
    assert status == 0 and lines == fresh and f"the index was written to idx ({len(CORPUS)} lines, {index})" in err
    corpus.unlink()
    assert call("--vectors", "idx", "the dog")[:2] == (0, fresh)
    assert call("--vectors", "idx", "--index", "exact", "the dog")[:2] == (0, fresh)
    assert call("--vectors", "idx", "--save-index", "idx", "x")[0] == 2


def test_a_saved_index_remembers_how_vectors_were_made(call, model, corpus):
    options = ["--pooling", "first", "--layers", "mean:2"]
    _, fresh, _ = call("--model", model, "--corpus", corpus, *options, "--save-index", "idx", "the dog")
    status, lines, err = call("--vectors", "idx", "the dog")
    assert (status, lines) == (0, fresh) and "first token, mean:2" in err


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("regress", ["0.5", "2", "3"], "the score of"),
        ("classify", ["entailment", "not"], "the probability of 'entailment'"),
        ("classify", ["left", "right"], "the probability of 'right'"),
        ("similarity", ["0.5", "2", "3"], "the score of"),
    ],
)
def test_a_model_of_pairs_orders_the_hits_anew(call, model, corpus, tmp_path, task, labels, message):
    pairs = write_model(tmp_path / "pairs", seed=3, task=task, labels=labels)
    status, lines, err = call(
        "--model", model, "--corpus", corpus, "--rerank", pairs, "--candidates", 20, "-k", 5, "--json", "the dog"
    )
    assert status == 0 and message in err
    hits = json.loads(lines[0])["hits"]
    assert len(hits) == 5 and sorted(hits, key=lambda hit: -hit["score"]) == hits
    _, plain, _ = call("--model", model, "--corpus", corpus, "-k", 20, "--json", "the dog")
    nearest = {hit["line"]: hit["score"] for hit in json.loads(plain[0])["hits"]}
    assert all(nearest[hit["line"]] == hit["cosine"] for hit in hits)
    applied = open_task(pairs, device="cpu")
    label = message.split("'")[1] if "'" in message else None
    for prediction, hit in zip(applied.predict([Example(("the dog", hit["text"])) for hit in hits]), hits, strict=True):
        score = prediction["score"] if label is None else prediction["probabilities"][label]
        assert hit["score"] == pytest.approx(score, abs=1e-5)


def test_the_label_that_counts_can_be_chosen(call, model, corpus, tmp_path):
    pairs = write_model(tmp_path / "pairs", task="classify", labels=["no", "yes"])
    arguments = ["--model", model, "--corpus", corpus, "--rerank", pairs, "the dog"]
    assert "'no'" in call(*arguments, "--positive", "no")[2]
    status, _, err = call(*arguments, "--positive", "nope")
    assert status == 2 and "unknown label 'nope'" in err


def test_vectors_of_another_model_or_of_other_lines_are_refused(call, model, other, corpus, vectors, tmp_path):
    status, _, err = call("--model", other, "--vectors", vectors, "--texts", corpus, "dog")
    assert status == 2 and "was not made from line" in err
    status, _, err = call("--model", model, "--layers", "concat:2", "--vectors", vectors, "--texts", corpus, "dog")
    assert status == 2 and "has vectors of dimension 16, but those of the model have dimension 32" in err
    (tmp_path / "fewer.txt").write_text("one\ntwo\n", "utf-8")
    status, _, err = call("--model", model, "--vectors", vectors, "--texts", "fewer.txt", "dog")
    assert status == 2 and f"{len(CORPUS)} vectors, but fewer.txt has 2 lines" in err


def test_a_saved_index_refuses_weights_that_differ_by_a_hair_and_takes_a_copy(call, model, corpus, tmp_path):
    loaded = load_model(model)
    for name, change in (("copy", 0.0), ("tuned", 1e-4)):
        weights = {key: value + change for key, value in loaded.model.state_dict().items()}
        save_model(tmp_path / name, weights=weights, config=CONFIG, tokenizer=TOKENIZER, info={"task": "encoder"})
    assert call("--model", model, "--corpus", corpus, "--save-index", "idx", "dog")[0] == 0
    assert call("--vectors", "idx", "--model", tmp_path / "copy", "dog")[0] == 0
    status, _, err = call("--vectors", "idx", "--model", tmp_path / "tuned", "dog")
    assert status == 2 and f"idx was made with another model, not with {tmp_path / 'tuned'}" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no text to search is given"),
        (["--corpus", "none.txt"], "none.txt: no such file"),
        (["--corpus", "empty.txt"], "there are no lines to search in empty.txt"),
        (["--corpus", "c.txt", "--vectors", "v.npy"], "can't be used together"),
        (["--vectors", "v.npy"], "contains only vectors, so their texts are needed"),
        (["--vectors", "v.npy", "--texts", "c.txt"], "v.npy is not a valid .npy file"),
        (["--vectors", "idx", "--texts", "c.txt"], "a saved index contains its texts"),
        (["--vectors", "idx"], "idx does not exist"),
        (["--vectors", "."], ". is not a saved index"),
        (["--corpus", "c.txt", "--index", "tree"], "unknown index 'tree'"),
        (["--corpus", "c.txt", "--positive", "yes"], "--positive has no effect without --rerank"),
        (["--corpus", "c.txt", "--rerank", "nowhere"], "nowhere: the model folder does not exist"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, model, arguments, message, tmp_path):
    (tmp_path / "c.txt").write_text("a dog\n", "utf-8")
    (tmp_path / "empty.txt").write_text("", "utf-8")
    (tmp_path / "v.npy").write_bytes(b"no vectors")
    status, out, err = call("--model", model, *arguments, "dog")
    assert status == 2 and out == []
    assert message in err and "internal error" not in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are a matter of POSIX")
def test_a_pipe_in_a_saved_index_is_not_waited_for(call, model, corpus, tmp_path, capsys):
    assert call("--model", model, "--corpus", corpus, "--index", "faiss", "--save-index", "idx", "dog")[0] == 0
    files = sorted((tmp_path / "idx").iterdir())
    assert len(files) == 4
    for file in files:
        file.rename("aside")
        os.mkfifo(file)
        status, _, err = call("--vectors", "idx", "dog")
        assert status == 2 and "nlpcli: " in err
        assert main(["inspect", "idx"]) in (0, 2)
        file.unlink()
        (tmp_path / "aside").rename(file)


def test_a_saved_index_whose_model_is_gone_says_so(call, model, corpus, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    call("--model", moved, "--corpus", corpus, "--save-index", "idx", "dog")
    shutil.rmtree(moved)
    status, _, err = call("--vectors", "idx", "dog")
    assert status == 2 and f"was made with the model {moved}, which does not exist" in err
    assert call("--vectors", "idx", "--model", model, "dog")[0] == 0
    (tmp_path / "idx" / "vectors.npy").write_bytes(b"")
    assert "vectors.npy is not a valid .npy file" in call("--vectors", "idx", "--model", model, "dog")[2]


def test_a_library_that_is_not_there_is_named_with_its_extra(call, model, corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    status, _, err = call("--model", model, "--corpus", corpus, "--index", "hnsw", "dog")
    assert status == 2
    assert "an approximate index needs faiss, which is not installed" in err and "pip install 'nlpcli[search]'" in err


def test_hits_are_what_a_plain_product_of_all_vectors_says(call, model, corpus, vectors):
    rows = np.load(vectors)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    _, lines, _ = call("--model", model, "--corpus", corpus, "--json", "-k", 7, stdin=f"{CORPUS[0]}\n")
    hits = json.loads(lines[0])["hits"]
    expected = np.argsort(-(rows @ rows[0]), kind="stable")[:7]
    assert [hit["line"] for hit in hits] == (expected + 1).tolist()
