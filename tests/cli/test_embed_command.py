from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.commands.embed import words_in
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

LINES = ["the plane landed at the airport", "", "a plane has no end", "we drew a line in the plane"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    tokenizer = train_tokenizer("words", LINES, vocab_size=None, seed=1)
    config = TransformerConfig(kind="encoder", d_model=16, heads=2, d_ff=16, encoder_layers=2, max_length=64)
    path = tmp_path_factory.mktemp("embed") / "model"
    weights = build_model(config, tokenizer.vocab_size).state_dict()
    save_model(path, weights=weights, config=config, tokenizer=tokenizer, info={"task": "encoder"})
    return path


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs the command in this process: (status, lines of stdout, stderr)."""

    def run_it(*arguments: object, stdin: str = "") -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main(["embed", "--device", "cpu", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err

    return run_it


@pytest.fixture
def text(tmp_path):
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in LINES), "utf-8")
    return tmp_path / "lines.txt"


def test_every_line_has_a_vector_blank_ones_too(run, model):
    done = run("embed", "--model", model, stdin="".join(f"{line}\n" for line in LINES))
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] for record in records] == LINES
    assert all(len(record["vector"]) == 16 for record in records)
    assert (
        done.stderr == "vectors: dimension 16, mean of all tokens, the last layer; texts are truncated to 512 tokens\n"
    )


def test_both_forms_hold_the_same_numbers_in_the_order_of_the_lines(call, model, text, tmp_path):
    status, _, err = call("--model", model, "--output", tmp_path / "v.npy", text, text, "--batch-tokens", 8)
    assert status == 0 and "8 vectors of dimension 16" in err
    vectors = np.load(tmp_path / "v.npy")
    _, lines, _ = call("--model", model, text)
    np.testing.assert_array_equal(vectors[:4], vectors[4:])
    listed = np.array([json.loads(line)["vector"] for line in lines], dtype=np.float32)
    np.testing.assert_allclose(listed, vectors[:4], atol=1e-6)
    call("--model", model, "--output", tmp_path / "v.jsonl", text)
    assert (tmp_path / "v.jsonl").read_text("utf-8").splitlines() == lines


def test_numbers_in_json_read_back_as_the_same_ones(call, model, text, tmp_path):
    call("--model", model, "--output", tmp_path / "v.npy", text)
    _, lines, _ = call("--model", model, text)
    listed = np.array([json.loads(line)["vector"] for line in lines], dtype=np.float32)
    np.testing.assert_array_equal(listed, np.load(tmp_path / "v.npy"))


def test_json_lines_keep_their_other_fields(call, model, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 7, "text": "a plane", "note": 0}\n\n', "utf-8")
    _, lines, _ = call("--model", model, tmp_path / "in.jsonl")
    first, second = map(json.loads, lines)
    assert (first["id"], first["text"], first["note"], len(first["vector"])) == (7, "a plane", 0, 16)
    assert (second["text"], len(second["vector"])) == ("", 16)
    _, lines, _ = call("--model", model, "--field", "said", stdin='{"said": "a plane"}\n')
    assert json.loads(lines[0])["vector"] == first["vector"]


def test_nothing_in_gives_nothing_out(call, model, tmp_path):
    assert call("--model", model)[:2] == (0, [])
    assert call("--model", model, "-o", tmp_path / "v.npy")[0] == 0
    assert np.load(tmp_path / "v.npy").shape == (0, 16)


def test_words_have_vectors_of_their_contexts(call, model, text):
    status, lines, err = call("--model", model, "--tokens", "--static", "--word", "plane", text)
    assert status == 0 and "vectors of words: dimension 16, mean of the word's tokens" in err
    found = [json.loads(line) for line in lines]
    assert all(one["text"] == LINES[one["line"] - 1] for one in found)
    assert [(one["line"], one["index"], one["word"]) for one in found] == [
        (1, 1, "plane"),
        (3, 1, "plane"),
        (4, 6, "plane"),
    ]
    assert found[0]["static"] == found[1]["static"] and found[0]["vector"] != found[1]["vector"]
    _, lines, _ = call("--model", model, "--tokens", text)
    assert [json.loads(line)["word"] for line in lines] == " ".join(LINES).split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी भाषा है।", ["हिन्दी", "भाषा", "है", "।"]),
        ("un cafe\u0301, don't", ["un", "cafe\u0301", ",", "don't"]),
        ("می\u200cخواهم شِعر", ["می\u200cخواهم", "شِعر"]),
        ("か\u3099っ漢字 ❤\ufe0f!", ["か\u3099", "っ", "漢", "字", "❤\ufe0f", "!"]),
        ("well-known naïve_x 3.5", ["well-known", "naïve_x", "3", ".", "5"]),
    ],
)
def test_words_keep_their_marks(text, words):
    assert [text[start:end] for start, end in words_in(text)] == words


def test_only_finds_what_the_listing_has_as_words(call, model):
    lines = "a plane’s end, a PLANE, aplane\nthe plane has a plane\nplane has\n"
    _, listed, _ = call("--model", model, "--tokens", stdin=lines)
    words = [(one["line"], one["index"], one["word"]) for one in map(json.loads, listed)]
    _, found, _ = call("--model", model, "--tokens", "--word", "plane", stdin=lines)
    chosen = [(one["line"], one["index"], one["word"]) for one in map(json.loads, found)]
    assert chosen == [one for one in words if one[2].lower() == "plane"]
    assert len(chosen) == 4
    options = ["--word", "plane", "--word", "plane  has", "--word", "plane’s"]
    _, found, _ = call("--model", model, "--tokens", *options, stdin=lines)
    assert [json.loads(line)["word"] for line in found] == ["plane’s", "PLANE", "plane has", "plane", "plane has"]


def test_one_word_in_several_contexts_is_compared_with_itself(call, model, text):
    _, lines, _ = call("--model", model, "--tokens", "--word", "plane", "--similarity", "--static", text)
    assert lines[0].split() == ["cosine", "static", "first", "word", "second", "word"]
    assert len(lines) == 4
    cosine, static, *rest = lines[1].split()
    assert -1 <= float(cosine) < 1 and static == "1.0000"
    assert " ".join(rest) == "1: the [plane] landed at 3: a [plane] has no"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "nowhere: the model folder does not exist"),
        (["missing.txt"], "missing.txt: no such file"),
        (["-", "-"], "standard input can be read only once"),
        (["--pooling", "men"], "unknown pooling 'men'"),
        (["--layers", "concat:9"], "the number must be from 1 to 3 (layers and embeddings)"),
        (["--output", "v.txt"], "--out needs a file that ends in .npy or .jsonl"),
        (["--output", "v.npy", "--tokens"], "--tokens writes JSON lines, but v.npy is a NumPy file"),
        (["--word", "plane"], "--word has no effect without --tokens"),
        (["--tokens", "--word", "boat"], "the word 'boat' does not occur in 1 line"),
        (["--tokens", "--word", "plane", "--similarity"], "a comparison needs at least 2 words, but"),
        (["--tokens", "--word", " "], "--word needs a word, but the given one is empty"),
        (["--tokens", "--word-pooling", "last"], "unknown word pooling 'last'"),
        (["--format", "xml"], "unknown format 'xml'"),
        (["--format", "jsonl"], "<stdin>:1: this is not valid JSON"),
        (["--max-length", "2"], "leaves no room"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, model, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [] if "--model" in arguments else ["--model", model]
    status, out, err = call(*given, *arguments, stdin="the plane\n")
    assert status == 2 and out == []
    assert message in err and "internal error" not in err
    assert not (tmp_path / "v.npy").exists()


def test_what_has_no_effect_and_what_was_cut_is_reported(call, model):
    assert "--pooling has no effect" in call("--model", model, "--tokens", "--pooling", "max", stdin="a plane\n")[2]
    assert (
        "2 lines have more than 4 tokens (--max-length) and are truncated"
        in call("--model", model, "--max-length", 4, stdin="a b c\nd e f\n")[2]
    )


def test_without_a_run_it_says_how_to_make_one(run):
    done = run("embed", stdin="a\n")
    assert done.returncode == 2
    assert "runs/ contains no encoder" in done.stderr
