"""`nlpcli finetune --align-train`: a translator learns links of words, and is then asked for them."""

from __future__ import annotations

import io
import json
import random
import sys

import pytest

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml

SETTINGS = {
    "model.d_model": 32, "model.heads": 2, "model.d_ff": 32, "model.encoder_layers": 1, "model.decoder_layers": 2,
    "model.dropout": 0, "tokenizer.type": "bpe", "tokenizer.vocab_size": 300, "training.precision": "float32",
    "training.warmup_steps": 20, "training.schedule": "constant", "training.lr": 0.004, "training.bleu_sentences": 0,
    "training.metric": "loss", "training.evaluate_every": 60, "training.log_every": 20, "alignment.weight": 1.0,
    "data.workers": 1, "training.device": "cpu", "training.label_smoothing": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sentences of different words, translated word for word by a dictionary, in another order."""
    folder = tmp_path_factory.mktemp("guided")
    rng = random.Random(1)
    letters = "abcdefgh"
    dictionary = {a + b: (b + a).upper() + a for a in letters[:5] for b in letters}  # several tokens a word
    for name, count in (("train", 1500), ("dev", 40)):
        lines = []
        for _ in range(count):
            words = rng.sample(sorted(dictionary), rng.randint(2, 5))
            order = rng.sample(range(len(words)), len(words))
            target = " ".join(dictionary[words[i]] for i in order)
            lines.append((" ".join(words), target, " ".join(f"{i}-{j}" for j, i in enumerate(order))))
        for side, texts in zip(("source", "target", "links"), zip(*lines, strict=True), strict=True):
            (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return folder


@pytest.fixture
def call(folder, capsys, monkeypatch, tmp_path):
    """A command in the folder, in this process: its stdout; it must succeed unless `status` is another."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NLPCLI_CACHE", str(folder / "cache"))

    def run_it(*arguments, status=0):
        assert main([str(argument) for argument in arguments]) == status, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.out if status == 0 else captured.err

    return run_it


def finetune(out, steps, *more, **settings):
    chosen = SETTINGS | settings
    return ["finetune", "--task", "translation", "--model", "transformer-mini", "--train", "train.source",
            "train.target", "--dev", "dev.source", "dev.target", "--batch-tokens", 600, "--max-steps", steps,
            "--out", out, *[f"--set={name}={value}" for name, value in chosen.items()], *more]  # fmt: skip


@pytest.fixture
def trained(folder, call):
    """A run of 180 steps with links of both sets, made once."""
    if not (folder / "run" / "README.md").exists():
        call(*finetune("run", 180, "--align-train", "train.links", "--align-dev", "dev.links"))
    return folder / "run"


def rows(run, kind):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_links_of_a_word_for_word_translation_are_learned(trained):
    dev = rows(trained, "dev")
    assert dev[-1]["aer"] < 3
    assert dev[-1]["alignment_loss"] < dev[0]["alignment_loss"]
    losses = [row["alignment_loss"] for row in rows(trained, "train")]
    assert losses[-1] < losses[0]  # tokens of one word share its links, so that it does not fall to 0
    info = load_yaml(trained / "model.yaml")
    assert info["alignment"] == {"layer": None, "head": 1, "context": "full", "step": "read"}
    assert "AER" in info["signatures"]["aer"]
    assert load_yaml(trained / "config.yaml")["alignment"]["links"] == "train.links"


def test_the_trained_head_is_what_links_are_read_off_unless_something_else_is_asked_for(
    trained, call, folder, monkeypatch
):
    def links(*more):
        source = (folder / "dev.source").read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source), encoding="utf-8"))
        return call(
            "visualize-attention", "--model", trained, "--target-file", "dev.target", "--format", "pharaoh", *more
        )

    reference = {(n, link) for n, line in enumerate((folder / "dev.links").read_text().splitlines())
                 for link in line.split()}  # fmt: skip

    def errors(text):
        found = {(n, link) for n, line in enumerate(text.splitlines()) for link in line.split()}
        return 100 * (1 - 2 * len(found & reference) / (len(found) + len(reference)))

    assert errors(links()) < 3
    assert errors(links()) == pytest.approx(rows(trained, "dev")[-1]["aer"], abs=1e-6)
    assert errors(links("--align", "grow-diag")) < 3
    assert links("--layer", "1") != links() and links("--gradient") != links()


def test_the_alignments_of_translations_are_those_of_the_trained_head(trained, call, folder):
    letters = "abcdefgh"
    source_word = {(b + a).upper() + a: a + b for a in letters[:5] for b in letters}

    def right(*more):
        """The share of links that join a word with its translation, among target words with one in the source."""
        lines = call(
            "translate", "--model", trained, "--beam-size", 2, "--alignments", *more, "dev.source"
        ).splitlines()
        found = []
        for source, line in zip((folder / "dev.source").read_text().splitlines(), lines, strict=True):
            target, links = line.split("\t")
            for link in links.split():
                s, t = map(int, link.split("-"))
                if (word := source_word.get(target.split()[t])) in source.split():
                    found.append(source.split()[s] == word)
        assert len(found) > 20
        return sum(found) / len(found)

    assert right() > 0.95 > right("--alignment-layer", 1) + 0.2


def test_a_resumed_run_is_bit_for_bit_the_run_that_was_not_interrupted(trained, call, folder):
    call(*finetune("part", 100, "--align-train", "train.links", "--align-dev", "dev.links"))
    call("finetune", "--resume", "--out", "part", "--max-steps", 180)
    assert (folder / "part" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert load_yaml(folder / "part" / "model.yaml")["alignment"] == load_yaml(trained / "model.yaml")["alignment"]


def test_a_model_that_is_trained_further_without_links_has_no_alignment_head(trained, call, folder):
    call("finetune", "--task", "translation", "--model", trained, "--train", "train.source", "train.target", "--dev",
         "dev.source", "dev.target", "--max-steps", 2, "--out", "further", "--set=training.bleu_sentences=0",
         "--set=training.metric=loss", "--set=training.warmup_fraction=0")  # fmt: skip
    assert "alignment" not in load_yaml(folder / "further" / "model.yaml")


def test_links_that_do_not_fit_are_refused_before_anything_is_written(call, folder):
    (folder / "short").write_text("0-0\n")
    lines = (folder / "train.links").read_text().splitlines()
    (folder / "outside").write_text("\n".join([*lines[:6], "0-9", *lines[7:]]) + "\n")
    error = call(*finetune("none", 2, "--align-train", "short"), status=2)
    assert "short has 1 line, but there are 1,500 sentence pairs" in error
    error = call(*finetune("none", 2, "--align-train", "outside"), status=2)
    assert "outside:7: the link 0-9 is outside of the pair" in error
    error = call(*finetune("none", 2, "--align-dev", "dev.links"), status=2)
    assert "links of the training pairs are missing" in error
    error = call(*finetune("none", 2, "--align-train", "train.links", **{"data.subword_sampling": 0.1}), status=2)
    assert "data.subword_sampling and alignment.links (--align-train) can't be used together" in error
    error = call(*finetune("none", 2, "--align-train", "train.links", **{"training.r_drop": 1}), status=2)
    assert "training.r_drop and alignment.links" in error
    error = call(*finetune("none", 2, "--align-train", "train.links", **{"alignment.head": 3}), status=2)
    assert "alignment.head is 3" in error
    assert not (folder / "none").exists()


def test_settings_of_alignment_are_named_where_they_have_no_effect(call, folder, capsys):
    (folder / "labels.tsv").write_text("text\tlabel\n" + "aa bb\tx\ncc dd\ty\n" * 10)
    arguments = ["finetune", "--task", "classify", "--train", "labels.tsv", "--dev", "labels.tsv", "--max-steps", "1",
                 "--align-train", "train.links", "--out", "classes"]  # fmt: skip
    assert main(arguments) == 0
    assert "these settings have no effect on this run: alignment.links" in capsys.readouterr().err
