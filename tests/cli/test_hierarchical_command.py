"""A hierarchical attention network through every command that works with a classifier."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from nlpcli.cli.main import main

FILLER = ["the", "a", "room", "table", "street", "day", "we", "they", "went", "saw", "house", "tree", "river", "near"]
TELLING = {"good": ["great", "lovely"], "bad": ["awful", "poor"]}
SIZES = ["model.d_model=16", "model.d_embedding=16", "model.d_attention=16", "model.dropout=0", "training.threads=1",
         "training.precision=float32", "training.log_every=5", "tokenizer.type=words"]  # fmt: skip
SETTINGS = [part for size in SIZES for part in ("--set", size)]


def documents(count, seed, sentences=5):
    """Labels and texts: one sentence has a word that tells the label."""
    draw = random.Random(seed)
    for _ in range(count):
        label = draw.choice(sorted(TELLING))
        text = [draw.choices(FILLER, k=draw.randint(3, 5)) for _ in range(sentences)]
        draw.choice(text)[1] = draw.choice(TELLING[label])
        yield label, " ".join(" ".join(sentence).capitalize() + " ." for sentence in text)


def write(path, rows):
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows))
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("han")
    return write(folder / "train.tsv", documents(300, 1)), write(folder / "dev.tsv", documents(60, 2)), folder


def arguments(data, out, *more, task="classify", steps=60):
    train, dev, _ = data
    return ["finetune", "--task", task, "--model", "han", "--train", train, "--dev", dev, "--out", str(out),
            "--batch-size", "16", "--lr", "0.02", "--max-steps", str(steps), *SETTINGS, *more]  # fmt: skip


@pytest.fixture(scope="module")
def run(data):
    out = data[2] / "run"
    assert main(arguments(data, out)) == 0
    return str(out)


@pytest.fixture
def call(capsys):
    def run_it(*given, status=0):
        capsys.readouterr()
        found = main([str(argument) for argument in given])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out if status == 0 else captured.err

    return run_it


TEXT = "The great room they . We saw a tree . They went near then ."


def test_it_learns_the_words_that_tell_and_evaluates_and_predicts(call, data, run):
    found = json.loads(call("evaluate", data[1], "--model", run, "--json", "--confusion"))
    assert next(score["value"] for score in found["scores"] if score["metric"] == "accuracy") > 90
    text = data[2] / "texts.txt"
    text.write_text(f"{TEXT}\nThe poor room .\n")
    assert [line.split("\t")[0] for line in call("predict", "--model", run, text).splitlines()] == ["good", "bad"]


def test_inspect_describes_both_encoders_and_all_parameters_have_a_part(call, run):
    found = json.loads(call("inspect", run, "--json"))
    model = found.get("model", found)
    assert model["layers"] == {"word_encoder": 1, "sentence_encoder": 1}
    parts = model["parameters"]["by_part"]
    assert {
        "word_encoder",
        "sentence_encoder",
        "token_embeddings",
        "task_head",
    } <= parts.keys() and "other" not in parts
    assert "learned queries" in " ".join(call("inspect", run).split())


def test_embed_gives_the_state_of_the_document_and_of_words(call, data, run):
    text = data[2] / "embedded.txt"
    text.write_text(f"{TEXT}\n")
    vector = json.loads(call("embed", "--model", run, text))["vector"]
    first = json.loads(call("embed", "--model", run, text, "--pooling", "first"))["vector"]
    mean = json.loads(call("embed", "--model", run, text, "--pooling", "mean"))["vector"]
    assert vector == first != mean and len(vector) == 16
    words = [json.loads(line) for line in call("embed", "--model", run, text, "--tokens").splitlines()]
    assert [word["word"] for word in words] == TEXT.split()


def test_the_weights_of_words_and_sentences_are_drawn_over_the_text(call, data, run):
    attention = json.loads(call("visualize-attention", TEXT, "--model", run, "--json"))
    words, sentences = attention["sites"]
    assert [site["name"] for site in (words, sentences)] == ["words", "sentences"]
    weights = np.array(words["weights"])[0, 0]
    assert weights.shape == (3, 15) and np.allclose(weights.sum(1), 1, atol=1e-5)
    assert not weights[0, 5:].any() and words["keys"]["groups"] == ["1"] * 5 + ["2"] * 5 + ["3"] * 5
    assert words["keys"]["tokens"][int(weights[0].argmax())] == "great"
    share = np.array(sentences["weights"])[0, 0, 0]
    assert share.shape == (3,) and abs(share.sum() - 1) < 1e-5
    shown = call("visualize-attention", TEXT, "--model", run, "--color", "never", "--width", 70)
    lines = shown.splitlines()
    assert f"{share[0]:.2f}" in lines[2] and "great" in lines[2] and "numbers: share of the document" in shown
    assert (
        call("visualize-attention", TEXT, "--model", run, "--color", "never", "--width", 70, "--view", "text") == shown
    )
    assert "sentence" in call("visualize-attention", TEXT, "--model", run, "--view", "matrix").lower()
    for name in ("x.html", "x.png", "x.svg", "x.npz"):
        call("visualize-attention", TEXT, "--model", run, "--out", data[2] / name)
        assert (data[2] / name).stat().st_size > 500


def test_the_sentence_with_the_label_word_weighs_most(call, run):
    label_words = {word for words in TELLING.values() for word in words}
    found = []
    for _, text in documents(12, 3):
        attention = json.loads(call("visualize-attention", text, "--model", run, "--json"))
        share = np.array(attention["sites"][1]["weights"])[0, 0, 0]
        place = next(i for i, sentence in enumerate(text.split(" .")) if label_words & {*sentence.lower().split()})
        found.append((share.argmax() == place, share[place]))
    assert np.mean([first for first, _ in found]) >= 0.75  # 0.2 by chance


def test_gradient_times_attention_is_that_of_the_label(call, run):
    signed = json.loads(call("visualize-attention", TEXT, "--model", run, "--json", "--gradient"))
    other = json.loads(
        call("visualize-attention", TEXT, "--model", run, "--json", "--gradient", "--target-label", "bad")
    )
    weights = [np.array(found["sites"][0]["weights"])[0, 0] for found in (signed, other)]
    place = np.unravel_index(np.abs(weights[0]).argmax(), weights[0].shape)
    assert weights[0][place] * weights[1][place] < 0  # what speaks for one label speaks against the other


def test_report_and_compare_take_it_like_any_run(call, data, run, tmp_path, monkeypatch):
    assert "accuracy" in call("report", run)
    monkeypatch.chdir(tmp_path)
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"name: han\nbase:\n  extends: han\n  task: classify\n  data: {{train: ['{data[0]}'], dev: ['{data[1]}']}}\n"
        "  model: {d_model: 16, d_embedding: 16, d_attention: 16}\n"
        "equal: {steps: 3}\nrows:\n  - {name: attention}\n  - {name: mean, set: {model.aggregation: mean}}\n"
    )
    found = call("compare", grid)
    assert "attention" in found and "mean" in found and "accuracy" in found


def test_a_resumed_run_is_the_run_that_was_never_stopped(call, data, tmp_path):
    call(*arguments(data, tmp_path / "whole", "--set", "training.evaluate_every=5", steps=10))
    call(*arguments(data, tmp_path / "parts", "--set", "training.evaluate_every=5", "--set",
                    "training.schedule=constant", steps=5))  # fmt: skip
    call(*arguments(data, tmp_path / "constant", "--set", "training.evaluate_every=5", "--set",
                    "training.schedule=constant", steps=10))  # fmt: skip
    call("finetune", "--resume", "--out", tmp_path / "parts", "--max-steps", 10)
    resumed, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("parts", "constant"))
    assert resumed == whole


@pytest.mark.parametrize("task", ["multi-label", "regress"])
def test_other_tasks_of_texts_are_learned_too(call, data, tmp_path, task):
    labels = {"good": "1.5", "bad": "0.5"} if task == "regress" else {"good": "good,any", "bad": "any"}
    rows = [(labels[label], text) for label, text in documents(60, 3)]
    files = (write(tmp_path / "train.tsv", rows), write(tmp_path / "dev.tsv", rows), tmp_path)
    call(*arguments(files, tmp_path / "run", task=task, steps=3))
    call("evaluate", files[1], "--model", tmp_path / "run")


@pytest.mark.parametrize("objective", ["mlm", "clm", "nsp"])
def test_pretraining_is_refused_before_anything_is_read(call, tmp_path, objective):
    error = call("pretrain", objective, "--preset", "han", "--data", tmp_path / "no", status=2)
    assert "hierarchical" in error


def test_a_model_without_attention_draws_none(call, data, tmp_path):
    call(*arguments(data, tmp_path / "run", "--set", "model.aggregation=mean", steps=2))
    assert "attention" in call("visualize-attention", TEXT, "--model", tmp_path / "run", status=2)
