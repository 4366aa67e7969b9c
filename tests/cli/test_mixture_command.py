"""Several tasks at once, as a shell runs them: learnt together, and used one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml

WORDS = ["red", "green", "blue", "black", "white", "grey"]
BEASTS = ["cat", "dog", "cow", "hen"]
MODEL = """
model:
  kind: encoder-decoder
  d_model: 32
  heads: 2
  d_ff: 64
  encoder_layers: 1
  decoder_layers: 1
  norm_position: pre
  positions: rotary
  scale_embeddings: false
  dropout: 0.0
tokenizer: {type: words, vocab_size: 60}
"""
TEXTS = """
mixing: equal
tasks:
  colour:
    {prefix: "colour : ", train: train.tsv, dev: train.tsv, label: colour, measure: accuracy, max_target: 4}
  beast:
    {prefix: "{text} what", train: train.tsv, dev: train.tsv, label: beast, measure: accuracy, max_target: 4}
"""
HEADS = """
tasks:
  colour: {task: classify, train: train.tsv, dev: train.tsv, label: colour, head: {dropout: 0.0}}
  beast: {task: classify, train: train.tsv, dev: train.tsv, label: beast, weight: 0.5}
  copy: {prefix: "copy : ", train: train.tsv, dev: train.tsv, label: colour, max_target: 4}
"""
SMALL = ["--model", "tiny.yaml", "--lr", "0.01", "--batch-size", "16", "--out", "runs/x",
         *(f"--set=training.{setting}" for setting in ("precision=float32", "threads=1", "label_smoothing=0",
                                                      "evaluate_every=1000", "warmup_fraction=0"))]  # fmt: skip


def score_in(found, metric):
    """The score of a metric in the JSON of an evaluation."""
    return next(score for score in found["scores"] if score["metric"] == metric)


def but(usual, *given):
    """`given`, and what is left of `usual` without the options, and their values, that `given` names."""
    named = [place for place, word in enumerate(usual) if word in given and str(word).startswith("--")]
    return [*given, *(word for place, word in enumerate(usual) if place not in named and place - 1 not in named)]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and a folder with data: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    rows = [f"the {colour} {beast}\t{colour}\t{beast}" for colour in WORDS for beast in BEASTS]
    for name, text in (
        ("tiny.yaml", MODEL), ("texts.yaml", TEXTS), ("heads.yaml", HEADS),
        ("train.tsv", "\n".join(["text\tcolour\tbeast", *rows]) + "\n"),
        ("in.txt", "the red dog\nthe blue hen\n"),
    ):  # fmt: skip
        Path(name).write_text(text, encoding="utf-8")

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def must(done: tuple[int, str, str]) -> str:
    status, out, err = done
    assert status == 0, err
    return out


def test_one_model_does_each_of_its_tasks_by_the_prefix_of_the_task(call):
    must(call("finetune", "--mixture", "texts.yaml", "--max-steps", 90, *SMALL))
    assert must(call("predict", "--model", "runs/x", "--task", "colour", "in.txt")) == "red\nblue\n"
    assert must(call("predict", "--model", "runs/x", "--task", "beast", "in.txt")) == "dog\nhen\n"
    Path("typed.txt").write_text("colour : the red dog\nthe red dog what\n", encoding="utf-8")
    assert must(call("predict", "--model", "runs/x", "typed.txt")) == "red\ndog\n"
    found = json.loads(must(call("evaluate", "--task", "beast", "--model", "runs/x", "--data", "train.tsv", "--json")))
    assert score_in(found, "accuracy")["value"] == 100
    assert "beam:5" in score_in(found, "accuracy")["signature"]
    info = load_yaml(Path("runs/x/model.yaml"))
    assert info["task"] == "text-to-text" and list(info["parts"]) == ["colour", "beast"]
    assert info["metrics"]["mean"] == pytest.approx(
        (info["metrics"]["colour_accuracy"] + info["metrics"]["beast_accuracy"]) / 2
    )


def test_tasks_with_heads_of_their_own_share_a_body(call):
    must(call("finetune", "--mixture", "heads.yaml", "--max-steps", 90, *SMALL))
    for name, expected in (("colour", ["red", "blue"]), ("beast", ["dog", "hen"])):
        lines = must(call("predict", "--model", "runs/x", "--task", name, "in.txt")).splitlines()
        assert [line.split("\t")[0] for line in lines] == expected
    assert len(must(call("predict", "--model", "runs/x", "--task", "copy", "in.txt")).splitlines()) == 2
    status, _, err = call("predict", "--model", "runs/x", "in.txt")
    assert status == 2 and "--task colour or beast or copy" in err


def test_a_mixture_begins_with_a_model_that_is_there_and_is_the_beginning_of_another(call):
    must(call("finetune", "--mixture", "heads.yaml", "--max-steps", 2, *SMALL))
    again = but(SMALL, "--model", "runs/x", "--out", "runs/y", "--max-steps", 2)
    status, _, err = call("finetune", "--mixture", "texts.yaml", *again)
    assert status == 0, err
    status, _, err = call("finetune", "--mixture", "heads.yaml", *but(again, "--out", "runs/z"))
    assert status == 0 and "new weights: tasks.colour.head" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixture", "texts.yaml", "--task", "classify"], "--mixture and --task classify can't be used together"),
        (
            ["--mixture", "texts.yaml", "--set", "model.kind=encoder"],
            "text-to-text needs a model of kind encoder-decoder",
        ),
        (["--mixture", "none.yaml"], "none.yaml: no such file"),
        (["--mixture", "lost.yaml"], "lost.tsv"),
    ],
)
def test_what_can_not_be_learnt_together_is_refused_before_anything_is_written(call, arguments, message):
    Path("lost.yaml").write_text("tasks: {a: {train: lost.tsv, dev: train.tsv}}\n", encoding="utf-8")
    status, _, err = call("finetune", *arguments, *SMALL, "--max-steps", 2)
    assert status == 2 and message in err
    assert not Path("runs").exists()


def test_a_task_that_was_not_learnt_is_refused_by_name(call):
    must(call("finetune", "--mixture", "texts.yaml", "--max-steps", 1, *SMALL))
    status, _, err = call("evaluate", "--model", "runs/x", "--task", "color", "--data", "train.tsv")
    assert status == 2 and "did you mean 'colour'?" in err
    status, _, err = call("evaluate", "--model", "runs/x", "--data", "train.tsv")
    assert status == 2 and "--task colour or beast" in err
