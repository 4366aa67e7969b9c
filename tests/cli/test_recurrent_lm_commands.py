"""Recurrent language models, from pretraining to pictures, by the commands that a shell runs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.cli.main import main
from nlpcli.commands.score.perplexity import PerplexitySettings, perplexity_of
from nlpcli.config.loading import load_yaml
from nlpcli.data.progress import following

PRESETS = ["lstm-lm", "lstm-lm-attention", "awd-lstm"]
SIZES = {
    "lstm-lm": {"model.d_model": 16},
    "lstm-lm-attention": {"model.d_model": 16, "model.past_states": 1},
    "awd-lstm": {"model.d_model": 16, "model.d_hidden": 24, "training.lr": 5.0, "training.max_grad_norm": 1.0},
}
COMMON = {
    "tokenizer.type": "words", "data.context": 16, "data.documents": "file", "data.eval_streams": 3,
    "training.batch_tokens": 128, "training.evaluate_every": 4, "training.precision": "float32",
    "training.schedule": "constant", "training.warmup_steps": 0, "training.max_epochs": "null", "training.samples": 1,
}  # fmt: skip
GRID = """
base:
  extends: {preset}
  objective: clm
  model: {{d_model: 16}}
  tokenizer: {{type: chars}}
  data: {{context: 16, documents: file}}
  training: {{batch_tokens: 128, max_epochs: null, max_steps: null, schedule: constant, threads: 1, precision: float32}}
equal: {{steps: 2}}
rows:
  - name: base
  - {{name: one layer, group: A, set: {{model.decoder_layers: 1}}}}
"""


def pretrain(preset, out, steps, *more):
    settings = COMMON | SIZES[preset]
    return ["pretrain", "--objective", "clm", "--preset", preset, "--data", "train.txt", "--dev", "dev.txt",
            "--out", out, "--max-steps", steps, *(f"--set={name}={value}" for name, value in settings.items()),
            *more]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts with a grammar, and those of two classes."""
    path = tmp_path_factory.mktemp("recurrent-lm")
    draw = random.Random(5)
    words = [("the", "a"), ("cat", "dog", "bird"), ("sees", "likes"), ("the", "a"), ("fish", "worm")]
    lines = [" ".join(draw.choice(choices) for choices in words) for _ in range(120)]
    (path / "train.txt").write_text("".join(f"{line}\n" for line in lines[:100]))
    (path / "dev.txt").write_text("".join(f"{line}\n" for line in lines[100:]))
    (path / "classes.tsv").write_text("".join(f"{line}\t{line.split()[1]}\n" for line in lines[:30]))
    return path


@pytest.fixture
def call(folder, capsys, monkeypatch):
    """A command in the folder, in this process: what it writes to stdout."""
    monkeypatch.chdir(folder)

    def run_it(*arguments, status=0):
        capsys.readouterr()
        found = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.err if status else captured.out

    return run_it


@pytest.fixture(params=PRESETS)
def run(call, request):
    """A run of each preset, made once."""
    if not Path(request.param).exists():
        call(*pretrain(request.param, request.param, 8))
    return request.param


def test_the_perplexity_of_the_dev_set_is_that_of_training(call, run):
    scores = json.loads(call("score", "perplexity", "--model", run, "dev.txt", "--json"))["scores"]
    info = load_yaml(Path(run) / "model.yaml")
    assert {score["metric"]: round(score["value"], 4) for score in scores} == {
        name: round(value, 4) for name, value in info["metrics"].items()
    }
    assert [score["signature"] for score in scores] == list(info["signatures"].values())
    assert "|memory:state|streams:3|" in scores[0]["signature"]


def test_a_text_is_read_as_one_stream_or_in_windows_or_learnt_from(call, run):
    def loss(*options):
        found = json.loads(call("score", "perplexity", "--model", run, "dev.txt", "--json", *options))["scores"][0]
        return found["value"], found["signature"]

    whole, signature = loss("--streams", 1)
    assert "|memory:state|tok:" in signature
    assert loss("--streams", 1, "--context", 50)[0] == pytest.approx(whole, rel=1e-5)
    alone, signature = loss("--memory-length", 0)
    assert alone != whole and "memory" not in signature
    assert loss("--memory-length", 0, "--stride", 4)[1].startswith("loss|level:token|window:16|stride:4|tok:")
    learnt, signature = loss("--dynamic-evaluation", 0.5, "--dynamic-decay", 0.01)
    assert learnt < whole and "|memory:state|dynamic:sgd:0.5:0.01|tok:" in signature


@pytest.mark.parametrize(
    "reading",
    [{}, {"streams": 1}, {"memory_length": 0, "stride": 4}, {"dynamic_evaluation": 0.5}, {"context": 500}],
)
def test_the_share_of_a_text_that_is_read_is_known(call, run, reading):
    steps = []
    with following(lambda what, done, total: steps.append((done, total))):
        perplexity_of(run, ["dev.txt"], PerplexitySettings(device="cpu", **reading), notify=print)
    assert steps == [(done, len(steps) - 1) for done in range(len(steps))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory-length", 4], "whose state sums up all earlier tokens"),
        (["--stride", 4], "reads each token once"),
        (["--dynamic-evaluation", 0], "--dynamic-evaluation needs a learning rate above 0, not 0"),
        (["--dynamic-decay", 0.1], "--dynamic-decay has no effect without --dynamic-evaluation"),
        (["--dynamic-evaluation", 1, "--dynamic-decay", 2], "--dynamic-decay must be from 0 to 1, not 2"),
        (["--dynamic-evaluation", 1, "--streams", 2], "--streams can't be used with --dynamic-evaluation"),
        (["--streams", 0], "--streams must be at least 1, not 0"),
    ],
)
def test_readings_that_make_no_sense_are_refused(call, options, message):
    if not Path("lstm-lm").exists():
        call(*pretrain("lstm-lm", "lstm-lm", 8))
    assert message in call("score", "perplexity", "--model", "lstm-lm", "dev.txt", *options, status=2)


def test_an_interrupted_run_ends_with_the_very_weights(call, run):
    call(*pretrain(run, "half", 3, "--overwrite"))
    call("pretrain", "--resume", "--out", "half", "--max-steps", 8)
    left, right = (load_file(Path(name) / "model.safetensors") for name in (run, "half"))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_continues_a_text_of_any_length(call, run):
    written = call("generate", "--model", run, "--prompt", "the cat", "--max-new-tokens", 30, "--seed", 3)
    assert written.startswith("the cat") and len(written.split()) + written.count("\n") > 30
    again = call("generate", "--model", run, "--prompt", "the cat", "--max-new-tokens", 30, "--seed", 3)
    assert again == written


def test_inspect_shows_layers_parameters_costs_and_the_decoding_state(call, run):
    facts = json.loads(call("inspect", run, "--json", "--length", 32))["model"]
    sizes = [16, 16] if run != "awd-lstm" else [24, 24, 16]
    below = [16, *sizes[:-1]]
    layers = sum(4 * d * (d_in + d) for d_in, d in zip(below, sizes, strict=True))
    parts = facts["parameters"]["by_part"]
    assert parts["decoder_recurrent_layers"] == layers + sum(8 * d for d in sizes)
    assert ("attention_to_past_states" in parts) == (run == "lstm-lm-attention") and "other" not in parts
    vocabulary = 16 * facts["vocab_size"]
    attention = 2 * 16 * 16 + 2 * 16 * 32 if run == "lstm-lm-attention" else 0  # two products, scores and contexts
    assert facts["flops_per_token"]["forward"] == 2 * (layers + vocabulary + attention)
    state = 2 * sum(sizes) + (16 if run == "lstm-lm-attention" else 0)
    assert facts["memory_bytes"]["cache_window"] == 4 * state and facts["memory_bytes"]["cache_per_token"] == 0
    text = call("inspect", run)
    assert "LSTM" in text and "however long the text is" in text


def test_the_attention_to_past_states_is_drawn_and_a_model_without_it_says_so(call, run):
    if run != "lstm-lm-attention":
        assert "without attention" in call("visualize-attention", "--model", run, "the cat sees", status=2)
        return
    found = json.loads(call("visualize-attention", "--model", run, "the cat sees", "--format", "json"))
    [site] = found["sites"]
    [[weights]] = site["weights"]
    assert len(weights) == 3
    for place, row in enumerate(weights):
        assert sum(row) == pytest.approx(1, abs=1e-3)
        assert [key for key, weight in enumerate(row) if weight > 0] == list(range(max(0, place - 1), place + 1))
    assert call("visualize-attention", "--model", run, "the cat sees", "--memory", "a bird")
    assert call("visualize-attention", "--model", run, "the cat sees", "--gradient")


def test_vectors_and_a_classifier_come_out_of_it(call, run):
    Path("texts.txt").write_text("a cat\n")
    vector = json.loads(call("embed", "--model", run, "texts.txt", "--pooling", "last"))["vector"]
    assert len(vector) == 16
    call("finetune", "--task", "classify", "--model", run, "--train", "classes.tsv", "--dev", "classes.tsv",
         "--out", f"{run}-classes", "--max-steps", 4, "--overwrite", "--set=training.precision=float32")  # fmt: skip
    head = load_yaml(Path(f"{run}-classes") / "model.yaml")["head"]
    assert head["pooling"] == "last"
    assert call("predict", "--model", f"{run}-classes", "texts.txt").split()[0] in ("cat", "dog", "bird")


def test_runs_of_it_are_reported_and_compared(call, run):
    assert "perplexity" in call("report", run)
    Path("grid.yaml").write_text(GRID.format(preset=run), encoding="utf-8")
    files = ("--data", "train.txt", "--dev", "dev.txt")
    call("compare", "grid.yaml", *files, "--out", f"{run}-grid")
    cells = json.loads(call("compare", "grid.yaml", *files, "--out", f"{run}-grid", "--format", "json"))["cells"]
    assert [cell["name"] for cell in cells] == ["base", "one-layer"]


@pytest.mark.parametrize("setting", ["data.variable_context=true", "data.eval_streams=2"])
def test_a_model_without_memory_reads_no_streams(call, setting):
    err = call("pretrain", "--objective", "clm", "--data", "train.txt", "--out", "no", "--set", setting, status=2)
    name = setting.partition("=")[0]
    assert f"{name} has an effect only on a model with memory" in err and not Path("no").exists()
