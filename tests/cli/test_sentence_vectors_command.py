"""word2vec, Doc2Vec, Skip-Thought and InferSent as a user has them: trained in one line, then used by every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml
from nlpcli.data.word_vectors import read_word_vectors

SYSTEMS = {
    "word2vec": ["pretrain", "--objective", "word2vec"],
    "doc2vec": ["pretrain", "--objective", "paragraph-vector"],
    "skip-thought": ["pretrain", "--objective", "skip-thought"],
    "infersent": ["finetune", "--task", "similarity", "--model", "infersent"],
}
SMALL = ["--device", "cpu", "--threads", "1", "--set", "model.d_model=16", "--set", "tokenizer.type=words",
         "--set", "training.evaluate_every=2", "--set", "training.batch_tokens=512",
         "--set", "training.schedule=constant"]  # fmt: skip
LINES = ["The cat sleeps on the mat.", "A dog runs in the park.", "The train leaves at nine.", "We read an old book.",
         "She sees the red house.", "He writes a long letter.", "The children play a game.", "Rain falls on the roof.",
         "They eat bread and cheese.", "The shop opens at ten.", "The river is cold.",
         "Birds sing in the tree."]  # fmt: skip
LABELS = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence-vectors")
    documents = ["\n".join(LINES[i:] + LINES[:i]) for i in range(12)]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n", "utf-8")
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n", "utf-8")
    pairs = [f"{one}\t{LINES[(i + shift) % 12]}\t{LABELS[shift]}" for shift in range(3) for i, one in enumerate(LINES)]
    (folder / "pairs.tsv").write_text("\n".join(["text1\ttext2\tlabel", *pairs]) + "\n", "utf-8")
    return folder


def call(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def train(folder: Path, system: str, out: Path, steps: int, *more: object) -> None:
    given = [*SYSTEMS[system], *SMALL, "--max-steps", steps, "--out", out, *more]
    if system == "infersent":
        pairs = folder / "pairs.tsv"
        call(*given, "--train", pairs, "--dev", pairs, "--batch-size", 8)
    else:
        call(*given, "--data", folder / "text.txt", "--documents", "paragraphs", "--sentences", "lines")


@pytest.fixture(scope="module", params=SYSTEMS)
def run(request, folder):
    """A trained model of each system."""
    out = folder / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPCLI_CACHE", str(folder / "cache"))
        train(folder, request.param, out, 4)
    return out


def test_one_line_trains_the_usual_preset(run):
    config, info = load_yaml(run / "config.yaml"), load_yaml(run / "model.yaml")
    families = {"word2vec": "word-vectors", "doc2vec": "word-vectors"}
    assert config["model"]["family"] == families.get(run.name, "recurrent-encoder")
    assert info["metrics"]["loss"] > 0 and info["step"] in (2, 4)
    samples = json.loads((run / "samples.jsonl").read_text().splitlines()[0])
    assert all(item["text"] and item["output"] for item in samples["items"])


def test_infersent_has_the_head_of_its_paper(folder):
    out = folder / "infersent"
    if not out.exists():
        train(folder, "infersent", out, 4)
    info = load_yaml(out / "model.yaml")
    assert info["head"] == {"kind": "vector", "pooling": "max", "layers": "last", "classes": 3, "product": True}
    assert info["problem"]["objective"] == "softmax" and sorted(info["problem"]["labels"]) == sorted(LABELS)


def test_a_stopped_and_resumed_run_has_the_same_weights(run, folder, tmp_path):
    again = tmp_path / "again"
    train(folder, run.name, again, 3)
    command = SYSTEMS[run.name][0]
    call(command, "--resume", "--out", again, "--max-steps", 4)
    digests = [load_yaml(path / "checkpoints" / "step-00000004" / "state.yaml")["sha256"] for path in (run, again)]
    assert digests[0] == digests[1]


def test_lines_become_vectors_that_tell_them_apart(run, folder, tmp_path, capsys):
    call("embed", "--model", run, "--out", tmp_path / "v.npy", folder / "lines.txt")
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.shape == (12, 16) and np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(6), axis=0)) == 12
    ways = {"word2vec": "mean of all tokens, the word vectors", "doc2vec": "paragraph vector, inferred",
            "skip-thought": "last token, the last layer", "infersent": "maximum over all tokens"}  # fmt: skip
    assert f"dimension 16, {ways[run.name]}" in capsys.readouterr().err


def test_a_line_finds_itself_and_clusters_hold_all_lines(run, folder, capsys):
    call("search", "--model", run, "--corpus", folder / "lines.txt", "--top", 1, *LINES[:3])
    assert [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()] == LINES[:3]
    call("cluster", "--model", run, "--k", 3, folder / "lines.txt")
    groups = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [text for _, text in groups] == LINES and {group for group, _ in groups} == {"1", "2", "3"}


def test_a_run_is_inspected_and_reported(run, capsys):
    call("inspect", run, "--json")
    facts = json.loads(capsys.readouterr().out)["model"]
    parts = facts["parameters"]["by_part"]
    assert "other" not in parts and sum(parts.values()) == facts["parameters"]["total"] and facts["d_model"] == 16
    call("inspect", run)
    assert "No problems were found." in capsys.readouterr().out
    call("report", run)
    assert "loss" in capsys.readouterr().out


def test_sif_and_words_in_lines_need_vectors_of_words(run, folder, capsys):
    words = ["embed", "--model", run, "--tokens", "--word", "cat", folder / "lines.txt"]
    call(*words)
    assert json.loads(capsys.readouterr().out)["word"] == "cat"
    status = main([str(part) for part in ["embed", "--model", run, "--pooling", "sif", folder / "lines.txt"]])
    captured = capsys.readouterr()
    if run.name.endswith("2vec"):
        assert status == 0 and len(captured.out.splitlines()) == 12
        assert "weighted by smooth inverse frequency, without the first principal component" in captured.err
    else:
        assert status == 2 and "needs the frequencies of words" in captured.err


def test_vectors_of_words_are_written_as_word2vec_does_and_used_from_there(folder, tmp_path, capsys):
    out = folder / "word2vec"
    if not out.exists():
        train(folder, "word2vec", out, 4)
    call("convert", "--to", "word2vec", out, tmp_path / "words.txt")
    assert "word vectors" in capsys.readouterr().err
    vectors = read_word_vectors(tmp_path / "words.txt")
    assert vectors.width == 16 and "cat" in vectors
    call("embed", "--model", tmp_path / "words.txt", "--out", tmp_path / "v.npy", folder / "lines.txt")
    call("embed", "--model", tmp_path / "words.txt", "--pooling", "sif", "--normalize", folder / "lines.txt")
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in records] == LINES
    np.testing.assert_allclose([np.linalg.norm(record["vector"]) for record in records], 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--objective", "word2vec", "--preset", "doc2vec"], "trains skip-gram or cbow, but model.architecture"),
     (["--objective", "paragraph-vector", "--preset", "word2vec"], "trains pv-dm or pv-dbow, but model.architecture"),
     (["--objective", "word2vec", "--preset", "bert-nano"], "trains word vectors, but this model is of the family"),
     (["--objective", "skip-thought", "--preset", "word2vec"], "trains a recurrent encoder of sentences"),
     (["--objective", "skip-thought", "--set", "model.bidirectional=true"], "must read from left to right"),
     (["--objective", "word2vec", "--set", "model.output_vectors=false"], "trains the output vectors"),
     (["--objective", "mlm", "--preset", "word2vec"], "can't be pretrained with masked tokens"),
     (["--objective", "word2vec+skip-thought"], "need different inputs"),
     (["--objective", "word2vec", "--set", "noise.negatives=0"], "noise.negatives")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_any_work(folder, arguments, message, capsys, tmp_path):
    status = main(["pretrain", *arguments, "--data", str(folder / "text.txt"), "--out", str(tmp_path / "out")])
    assert status == 2 and message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
