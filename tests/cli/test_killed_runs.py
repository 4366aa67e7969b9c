"""A run that was killed at any moment can be started again, and what others put into its folder stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.config.folder_lock import LOCK, locked_folder
from nlpcli.config.loading import load_yaml
from nlpcli.errors import Interruption
from nlpcli.runs import tokenizer_cache
from nlpcli.runs import train as runs
from nlpcli.runs.run_folder import has_checkpoint
from nlpcli.training import device

LEFT = [".config.yaml.tmp-999", ".config.yaml.tmp-0123456789ab", ".tokenizer.tmp-0123456789ab/", ".cell.json.tmp-1"]
SMALL = [
    f"--set={setting}"
    for setting in (
        "model.d_model=16", "model.heads=2", "model.d_ff=16", "model.encoder_layers=1", "model.decoder_layers=1",
        "tokenizer.type=chars", "training.precision=float32", "training.warmup_steps=0", "training.batch_tokens=256",
        "training.average_last=0", "data.context=16", "data.workers=1",
    )
]  # fmt: skip
PRETRAIN = ["pretrain", "--objective", "clm", "--data", "text.txt", "--max-steps", "2", *SMALL]
CLASSIFY = ["finetune", "--task", "classify", "--model", "bert-nano", "--train", "rows.tsv", "--dev", "rows.tsv",
            "--max-steps", "2", *SMALL]  # fmt: skip


GRID = (
    "base: {extends: gpt-mini, objective: clm, model: {d_model: 16, heads: 2, d_ff: 16, decoder_layers: 1},\n"
    "  tokenizer: {type: chars}, training: {batch_tokens: 256, warmup_steps: 0, precision: float32}}\n"
    "data: {train: [text.txt], context: 16}\nequal: {steps: 2}\nrows: [{name: a}]\n"
)


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder with data: (status, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("One two three four. Five six.\n" * 100, encoding="utf-8")
    Path("rows.tsv").write_text("label\ttext\n" + "good\tone two\nbad\tthree four\n" * 20, encoding="utf-8")

    def run_it(*arguments: object) -> tuple[int, str]:
        status = main([str(argument) for argument in arguments])
        return status, capsys.readouterr().err

    return run_it


def leave(folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith("/"):
            Path(folder, name).mkdir()
        else:
            Path(folder, name).write_text("x")


def hidden(folder: str) -> list[str]:
    return [path.name for path in Path(folder).rglob(".*")]


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize("command", [PRETRAIN, CLASSIFY], ids=["pretrain", "finetune"])
def test_a_run_killed_in_its_first_write_is_started_with_the_same_command(call, command, more):
    leave("run", *LEFT)
    status, err = call(*command, "--out", "run", *more)
    assert status == 0, err
    assert Path("run/model.safetensors").exists() and hidden("run") == []


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_run_killed_in_its_first_write_can_not_be_resumed_and_says_so(call, command):
    leave("run", *LEFT)
    status, err = call(command, "--resume", "--out", "run")
    assert status == 2
    assert "run contains nothing to resume" in err and "without --resume" in err
    assert len(hidden("run")) == len(LEFT)


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_a_folder_with_a_strangers_file_beside_leftovers_is_refused_and_stays(call, more):
    leave("run", *LEFT, "notes.txt")
    command = PRETRAIN if more != ["--resume"] else ["pretrain"]
    status, err = call(*command, "--out", "run", *more)
    assert status == 2 and ("run is not empty" in err or "run is not the folder of a run" in err)
    assert Path("run/notes.txt").exists() and len(hidden("run")) == len(LEFT)


def test_leftovers_beside_and_inside_a_run_that_is_resumed_are_swept(call):
    status, err = call(*PRETRAIN, "--out", "run")
    assert status == 0, err
    leave("run", *LEFT)
    leave("run/checkpoints", ".step-00000001.tmp-0123456789ab/")
    leave("run/checkpoints/average", ".step-00000001.safetensors.tmp-0123456789ab")
    status, err = call("pretrain", "--resume", "--out", "run", "--max-steps", 3)
    assert status == 0 and hidden("run") == [], err


@pytest.mark.parametrize("moment", ["rmtree", "unlink", "write_atomic"])
def test_a_run_killed_while_it_is_overwritten_is_overwritten_by_the_same_command(call, monkeypatch, moment):
    status, err = call(*PRETRAIN, "--out", "run")
    assert status == 0, err

    def killed(*_, **__):
        raise KeyboardInterrupt

    owner = {"rmtree": shutil, "unlink": Path, "write_atomic": runs}[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, killed)
        assert call(*PRETRAIN, "--out", "run", "--overwrite")[0] == 130
    status, err = call(*PRETRAIN, "--out", "run", "--overwrite", "--lr", 0.5)
    assert status == 0 and load_yaml(Path("run/config.yaml"))["training"]["lr"] == 0.5, err


def test_two_runs_that_chose_the_same_folder_do_not_mix(call, monkeypatch):
    plain = runs.open_run

    def late(run, request, config):
        leave(str(run), "config.yaml")
        plain(run, request, config)

    monkeypatch.setattr(runs, "open_run", late)
    status, err = call(*PRETRAIN, "--out", "run")
    assert status == 2 and "another run has started in the folder run" in err and "--out" in err
    assert Path("run/config.yaml").read_text() == "x" and not Path("run/model.safetensors").exists()
    status, err = call(*PRETRAIN)
    assert status == 2 and "another run has started in the folder" in err and "run the command again" in err


def test_a_seed_killed_before_its_first_checkpoint_begins_anew(call):
    status, err = call(*CLASSIFY, "--seeds", 2, "--out", "out")
    assert status == 0, err
    for name in ("README.md", "model.safetensors", "model.yaml"):
        Path("out/seed-2", name).unlink()
    shutil.rmtree("out/seed-2/checkpoints")
    status, err = call("finetune", "--task", "classify", "--seeds", 2, "--resume", "--out", "out")
    assert status == 0, err
    assert json.loads(Path("out/seeds.json").read_text())["seeds"] == [1, 2]


@pytest.mark.parametrize(
    ("command", "made"),
    [
        (["tokenize", "train", "--type", "chars", "--out", "out", "text.txt"], "tokenizer.yaml"),
        (["convert", "--to", "huggingface", "run", "out"], "config.json"),
    ],
    ids=["tokenize", "convert"],
)
def test_a_folder_of_leftovers_is_as_good_as_an_empty_one(call, command, made):
    if command[0] == "convert":
        assert call(*PRETRAIN, "--out", "run")[0] == 0
    leave("out", *LEFT)
    leave(".", ".out.tmp-0123456789ab/")
    status, err = call(*command)
    assert status == 0, err
    assert Path("out", made).exists() and hidden(".") == []


def test_a_seed_that_had_not_begun_is_trained_as_the_others_when_all_are_resumed(call):
    assert call(*CLASSIFY, "--seeds", 2, "--out", "out")[0] == 0
    shutil.rmtree("out/seed-2")
    leave("out/seed-2", *LEFT)
    leave("out/seed-of-a-stranger")
    status, err = call("finetune", "--task", "classify", "--seeds", 2, "--resume", "--out", "out")
    assert status == 0, err
    first, second = (load_yaml(Path(f"out/seed-{seed}/config.yaml")) for seed in (1, 2))
    assert second["training"].pop("seed") == first["training"].pop("seed") + 1 and first == second


def test_a_cell_killed_in_its_first_write_is_trained(call):
    Path("grid.yaml").write_text(GRID, encoding="utf-8")
    leave("out", ".results.json.tmp-0123456789ab", ".table.md.tmp-1")
    leave("out/a", *LEFT)
    status, err = call("compare", "grid.yaml", "--out", "out")
    assert status == 0, err
    assert Path("out/a/README.md").exists() and hidden("out") == []


@pytest.mark.parametrize("command", [PRETRAIN, CLASSIFY], ids=["pretrain", "finetune"])
def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(call, command):
    assert call(*command, "--out", "whole")[0] == 0
    assert call(*command, "--out", "run")[0] == 0
    for name in ("README.md", "model.safetensors", "model.yaml", "metrics.jsonl", "outputs.jsonl"):
        Path("run", name).unlink(missing_ok=True)
    shutil.rmtree("run/checkpoints")
    status, err = call(command[0], "--resume", "--out", "run")
    assert status == 0, err
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert Path("run/config.yaml").read_text() == Path("whole/config.yaml").read_text()


@pytest.mark.parametrize("made", ["README.md", "model.safetensors"])
def test_a_run_with_weights_and_without_a_checkpoint_is_not_trained_anew(call, made):
    assert call(*PRETRAIN, "--out", "run")[0] == 0
    shutil.rmtree("run/checkpoints")
    for name in {"README.md", "model.safetensors"} - {made}:
        Path("run", name).unlink()
    status, err = call("pretrain", "--resume", "--out", "run")
    assert status == 2 and "run contains no checkpoint to resume from" in err
    assert Path("run", made).exists()


def test_no_weights_are_there_before_a_checkpoint(call, monkeypatch):
    def killed(*_, **__):
        assert has_checkpoint(Path("run"))
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_keep", killed)
    assert call(*PRETRAIN, "--out", "run")[0] == 130


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_a_run_that_another_process_writes_is_refused_and_stays(call, more):
    assert call(*PRETRAIN, "--out", "run")[0] == 0
    before = Path("run/metrics.jsonl").read_bytes()
    command = ["pretrain", "--max-steps", 4] if more == ["--resume"] else PRETRAIN
    with locked_folder(Path("run")):
        status, err = call(*command, "--out", "run", *more)
        assert status == 2 and f"run is in use: process {os.getpid()} on " in err and "writing this run" in err
    assert Path("run/metrics.jsonl").read_bytes() == before


def test_runs_of_several_seeds_and_a_grid_that_another_process_writes_are_refused(call):
    Path("grid.yaml").write_text(GRID, encoding="utf-8")
    with locked_folder(Path("out")):
        status, err = call("compare", "grid.yaml", "--out", "out")
        assert status == 2 and "out is in use" in err and "writing this grid" in err
        status, err = call(*CLASSIFY, "--seeds", 2, "--out", "out")
        assert status == 2 and "out is in use" in err and "writing this group of runs" in err
        assert os.listdir("out") == [LOCK]


def test_the_precision_that_was_chosen_is_kept_when_a_run_is_resumed(call, monkeypatch):
    monkeypatch.setattr(device, "_bfloat16_speed", lambda: 2.0)
    chosen = [word for word in PRETRAIN if "precision" not in word]
    assert call(*chosen, "--precision", "auto", "--out", "run")[0] == 0
    assert load_yaml(Path("run/config.yaml"))["training"]["precision"] == "bfloat16"
    monkeypatch.setattr(device, "_bfloat16_speed", lambda: 0.5)
    status, err = call("pretrain", "--resume", "--out", "run", "--max-steps", 3)
    assert status == 0 and "device: cpu, bfloat16" in err, err


@pytest.mark.processes
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_between_the_folder_and_the_first_step_saves_and_ends_with_its_status(
    call, monkeypatch, number, status
):
    plain = runs._begin

    def begin(*arguments):
        plain(*arguments)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_begin", begin)
        got, err = call(*PRETRAIN, "--out", "run")
    assert got == status and "stopped after step 0" in err and "resume with: nlpcli pretrain --resume --out run" in err
    assert call("pretrain", "--resume", "--out", "run")[0] == 0


def test_an_interrupt_before_training_shows_how_to_start_it(call, monkeypatch):
    def interrupted(*_, **__):
        raise Interruption(signal.SIGTERM)

    monkeypatch.setattr(tokenizer_cache, "_trained", interrupted)
    monkeypatch.setattr(sys, "argv", ["nlpcli", *PRETRAIN, "--out", "run"])
    status, err = call(*PRETRAIN, "--out", "run")
    assert status == 143 and "training had not begun; start it with: nlpcli pretrain --objective clm" in err
    assert not Path("run").exists()


def test_an_interrupt_of_several_seeds_shows_how_all_are_resumed(call, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_keep", interrupted)
    status, err = call(*CLASSIFY, "--seeds", 2, "--out", "out")
    assert status == 130 and "resume with: nlpcli finetune --resume --seeds 2 --out out\n" in err
