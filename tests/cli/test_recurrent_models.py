"""Recurrent encoder-decoders from the command line: each preset does what a Transformer does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nlpcli.cli.main import main

PRESETS = [
    "rnn-seq2seq",
    "bahdanau",
    "luong-global",
    "luong-local-m",
    "luong-local-p",
    "luong-location",
    "hard-attention",
]
ATTENDING = PRESETS[1:]
WORDS = ["eins zwei", "zwei drei vier", "drei", "vier eins zwei drei", "eins vier"]
SMALL = {
    "model.d_model": 16,
    "model.d_embedding": 8,
    "tokenizer.type": "words",
    "tokenizer.vocab_size": 20,
    "training.evaluate_every": 3,
    "training.average_last": 0,
    "training.metric": "loss",
    "training.lr": 0.02,
    "training.warmup_steps": 1,
    "training.log_every": 1,
    "training.batch_tokens": 100,
    "training.bleu_sentences": 3,
    "training.device": "cpu",
    "training.precision": "float32",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "a.de").write_text("\n".join(WORDS * 12) + "\n")
    (folder / "a.en").write_text("\n".join(line.upper() for line in WORDS * 12) + "\n")
    return [folder / "a.de", folder / "a.en"]


def train(preset, files, out, steps, *more):
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    command = ["finetune", "--task", "translation", "--model", preset, "--train", *files, "--dev", *files]
    command += ["--out", out, "--max-steps", steps, *settings, *more]
    assert main([str(word) for word in command]) == 0
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("runs")
    return {preset: train(preset, files, folder / preset, 6) for preset in PRESETS}


@pytest.fixture
def nlpcli(capsys):
    """nlpcli(*arguments) -> what a command writes to standard output."""

    def ran(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert status == 0, found.err
        return found.out

    return ran


@pytest.fixture
def refused(capsys):
    """refused(*arguments) -> the error of a command."""

    def ran(*arguments):
        assert main([str(argument) for argument in arguments]) != 0
        return capsys.readouterr().err

    return ran


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_learns_and_translates_greedily_and_with_a_beam(preset, runs, files, nlpcli):
    lines = (runs[preset] / "metrics.jsonl").read_text().splitlines()
    losses = [step["loss"] for step in map(json.loads, lines) if step["kind"] == "dev"]
    assert losses[1] < losses[0]
    translate = ("translate", "--model", runs[preset], files[0], "--max-length", 6)
    greedy = nlpcli(*translate, "--beam-size", 1).splitlines()
    assert len(greedy) == 60 and greedy[:5] == greedy[5:10]
    several = nlpcli(*translate, "--beam-size", 4, "--n-best", 3).splitlines()
    assert len(several) == 180
    for first, second in zip(several[::3], several[1::3], strict=True):
        assert float(first.split(" ||| ")[3]) >= float(second.split(" ||| ")[3])
    assert nlpcli(*translate, "--batch-tokens", 8) == nlpcli(*translate)


@pytest.mark.parametrize("preset", ATTENDING)
def test_attention_gives_alignments_and_coverage(preset, runs, files, nlpcli):
    translate = ("translate", "--model", runs[preset], files[0], "--max-length", 6)
    for line in nlpcli(*translate, "--alignments").splitlines():
        text, links = line.split("\t")
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert all(0 <= source < 4 for source, _ in pairs)
        assert {target for _, target in pairs} == set(range(len(text.split())))
    scored = (*translate, "--scores", "--min-length", 2)
    penalized = nlpcli(*scored, "--coverage-penalty", 0.5)
    assert penalized != nlpcli(*scored)
    assert nlpcli(*scored, "--coverage-penalty", 0.5, "--batch-tokens", 1) == penalized  # padding costs nothing
    aligned = nlpcli(
        "visualize-attention", "--model", runs[preset], "eins zwei", "--target", "EINS ZWEI", "--format", "pharaoh"
    )
    assert {link.split("-")[1] for link in aligned.split()} == {"0", "1"}


def test_without_attention_alignments_coverage_and_pictures_are_refused(runs, files, refused):
    run = runs["rnn-seq2seq"]
    for more in (["--alignments"], ["--coverage-penalty", 0.5]):
        error = refused("translate", "--model", run, files[0], *more)
        assert "this model has no attention to its source" in error
    assert "without attention" in refused("visualize-attention", "--model", run, "eins", "--target", "EINS")


@pytest.mark.parametrize("preset", ATTENDING)
def test_the_attention_of_each_preset_is_drawn_with_and_without_gradients(preset, runs, nlpcli):
    look = ("visualize-attention", "--model", runs[preset], "eins zwei drei vier", "--target", "EINS ZWEI")
    [site] = json.loads(nlpcli(*look, "--json"))["sites"]
    weights = np.array(site["weights"])
    assert site["name"] == "cross" and weights.shape == (1, 1, 3, 5)  # layers, heads, tokens with the end of both sides
    if preset == "luong-local-p":
        assert 0 < weights.sum(-1).max() < 1
    else:
        assert weights.sum(-1) == pytest.approx(1.0, abs=1e-4)
    if preset == "hard-attention":
        assert set(weights.flatten()) == {0.0, 1.0}
    [signed] = json.loads(nlpcli(*look, "--json", "--gradient"))["sites"]
    times_gradient = np.array(signed["weights"])
    assert times_gradient.shape == weights.shape and np.abs(times_gradient).max() > 0
    assert bool((times_gradient[weights == 0] == 0).all())
    assert "zwei" in nlpcli(*look)


@pytest.mark.parametrize("preset", [*PRESETS, "scheduled"])
def test_a_run_that_is_resumed_ends_with_the_same_bits(preset, runs, files, tmp_path):
    more = []
    whole = runs.get(preset)
    if whole is None:
        more = ["--set", "training.scheduled_sampling=linear", "--set", "training.scheduled_sampling_batches=8"]
        preset = "luong-global"
        whole = train(preset, files, tmp_path / "whole", 6, *more)
        assert (whole / "model.safetensors").read_bytes() != (runs[preset] / "model.safetensors").read_bytes()
    part = train(preset, files, tmp_path / "part", 3, *more)
    assert (part / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()
    assert main(["finetune", "--resume", "--out", str(part), "--max-steps", "6"]) == 0
    assert (part / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_is_inspected(preset, runs, nlpcli):
    facts = json.loads(nlpcli("inspect", runs[preset], "--json"))["model"]
    parts = facts["parameters"]["by_part"]
    assert facts["family"] == "recurrent" and facts["layers"] == {"encoder": 1, "decoder": 1}
    assert sum(parts.values()) == facts["parameters"]["total"]
    assert ("decoder_cross_attention" in parts) is (preset != "rnn-seq2seq")
    assert {"encoder_recurrent_layers", "decoder_recurrent_layers", "decoder_output_layer"} <= parts.keys()
    assert "other" not in parts
    assert facts["flops_per_token"]["training"] == pytest.approx(3 * facts["flops_per_token"]["forward"], rel=0.1)
    text = nlpcli("inspect", runs[preset])
    assert "decoding state" in text and "decoder with" in text.replace("\n", " ")


def test_runs_are_reported_and_compared(runs, files, nlpcli, tmp_path):
    report = nlpcli("report", runs["bahdanau"], runs["luong-global"])
    assert "bahdanau" in report and "luong-global" in report
    grid = tmp_path / "grid.yaml"
    small = "".join(f"  {name}: {value}\n" for name, value in SMALL.items() if name != "training.metric")
    grid.write_text(
        "base:\n  extends: rnn-seq2seq\n  task: translation\n  training.metric: loss\n" + small + "equal: {steps: 3}\n"
        "rows:\n  - {name: none}\n  - {name: attention, set: {extends: bahdanau}}\n"
    )
    table = nlpcli("compare", grid, "--train", *files, "--dev", *files, "--out", tmp_path / "grid")
    assert "none" in table and "attention" in table


@pytest.mark.parametrize("preset", ["rnn-seq2seq", "luong-global"])
def test_the_encoder_classifies_and_gives_vectors(preset, runs, nlpcli, tmp_path):
    data = tmp_path / "train.tsv"
    data.write_text("text\tlabel\n" + "eins zwei\ta\ndrei vier\tb\n" * 12)
    run = tmp_path / "run"
    nlpcli(
        "finetune", "--task", "classify", "--model", runs[preset], "--train", data, "--dev", data, "--out", run,
        "--max-steps", 20, "--set", "training.lr=0.02", "--set", "tuning.layer_decay=0.9", "--device", "cpu",
    )  # fmt: skip
    texts = tmp_path / "texts"
    texts.write_text("eins zwei\ndrei vier\n")
    assert [line.split("\t")[0] for line in nlpcli("predict", "--model", run, texts).splitlines()] == ["a", "b"]
    head = json.loads(nlpcli("inspect", run, "--json"))["model"]["head"]
    assert (head["side"], head["pooling"]) == ("encoder", "max")
    vectors = [json.loads(line)["vector"] for line in nlpcli("embed", "--model", runs[preset], texts).splitlines()]
    assert np.shape(vectors) == (2, 16) and vectors[0] != vectors[1]


def test_scheduled_sampling_is_refused_where_positions_are_sampled(files, refused, tmp_path):
    command = ["finetune", "--task", "translation", "--model", "hard-attention", "--train", *files, "--dev", *files]
    error = refused(*command, "--out", tmp_path / "run", "--set", "training.scheduled_sampling=linear")
    assert "can't be used with hard attention that samples positions" in error
    assert not (tmp_path / "run").exists()


def test_a_pretrained_denoiser_becomes_a_translator(files, nlpcli, tmp_path):
    small = {**SMALL, "training.max_steps": 3}
    settings = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    nlpcli(
        "pretrain", "--objective", "denoise", "--noise", "mask", "--data", files[0], "--preset", "hard-attention",
        "--out", tmp_path / "denoiser", *settings,
    )  # fmt: skip
    run = tmp_path / "run"
    nlpcli(
        "finetune", "--task", "translation", "--model", tmp_path / "denoiser", "--train", *files, "--dev", *files,
        "--out", run, "--max-steps", 2, "--set", "training.metric=loss", "--set", "training.bleu_sentences=0",
        "--device", "cpu",
    )  # fmt: skip
    assert len(nlpcli("translate", "--model", run, files[0], "--max-length", 4).splitlines()) == 60


def test_a_folder_of_hugging_face_can_not_hold_it(runs, refused, tmp_path):
    error = refused("convert", runs["bahdanau"], "--to", "huggingface", "--out", tmp_path / "folder")
    assert "'recurrent'" in error and not (tmp_path / "folder").exists()
