"""`nlpcli compare` as a shell runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from nlpcli.cli import training_options
from nlpcli.cli.compare import _again
from nlpcli.cli.main import main

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NUMBERS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
GRID = """
base:
  extends: transformer-tiny
  task: translation
  model: {encoder_layers: 1, decoder_layers: 1, d_model: 16, d_ff: 16, heads: 2, dropout: 0.0}
  tokenizer: {type: words, vocab_size: 30}
  training: {batch_tokens: 256, warmup_steps: 2, evaluate_every: 3, average_last: 0, metric: loss, bleu_sentences: 4,
             threads: 1, precision: float32}
equal: {steps: 6}
rows:
  - name: base
  - {name: one head, group: A, set: {model.heads: 1}}
"""
FILES = ["--train", "train.en", "train.de", "--dev", "dev.en", "dev.de"]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """`call("--format", "json")`: the command on a small grid; (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID, encoding="utf-8")
    for side, words in (("en", WORDS), ("de", NUMBERS)):
        lines = [" ".join(words[int(digit)] for digit in f"{number:03}") for number in range(1000)]
        for name, part in (("train", lines[::5]), ("dev", lines[1::90])):
            Path(f"{name}.{side}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")

    def run_it(*arguments: object, files: list[str] = FILES) -> tuple[int, str, str]:
        words = ["compare", "grid.yaml", *files, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["nlpcli", *words])
        status = main(words)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def test_a_grid_is_trained_once_and_reported_in_every_form(call):
    status, out, err = call()
    assert status == 0, err
    assert [line.split()[:2] for line in out.splitlines() if line] == [
        ["cell", "heads"], ["base", "2"], ["A", "one"],
    ]  # fmt: skip
    assert "cell 1 of 2: base\n" in err and "cell 2 of 2: one-head (" in err
    status, out, err = call("--format", "json")
    assert (status, err) == (0, "")
    assert [cell["name"] for cell in json.loads(out)["cells"]] == ["base", "one-head"]
    status, out, _ = call("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["cell"], row["heads"], row["step"]) for row in rows] == [("base", "2", "6"), ("one-head", "1", "6")]
    Path("docs").mkdir()
    status, out, _ = call("--format", "markdown", "--report", "docs/grid.md")
    page = Path("docs/grid.md").read_text(encoding="utf-8")
    assert out in page and page.startswith("# grid\n\n    nlpcli compare grid.yaml --train train.en train.de")
    assert "Every cell is trained for 6 steps, from one seed." in page and "](grid.png)" in page
    assert Path("docs/grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.processes
def test_an_interrupt_is_reported_with_the_call_that_goes_on(call, monkeypatch):
    plain = training_options.Watcher.evaluated

    def evaluated(self, *arguments) -> None:
        plain(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_options.Watcher, "evaluated", evaluated)
    status, out, err = call("--cells", "base", "--rerun", "base")
    assert (status, out) == (130, "")
    assert f"resume with: nlpcli compare grid.yaml {' '.join(FILES)} --cells base\n" in err
    monkeypatch.setattr(training_options.Watcher, "evaluated", plain)
    status, out, err = call("--cells", "base")
    assert status == 0 and "resuming after step 3" in err, err


def test_a_failed_cell_stands_in_the_table_and_the_status_is_1(call):
    with open("grid.yaml", "a", encoding="utf-8") as file:
        file.write("  - {name: wild, set: {training.lr: 1.0e+30, training.max_grad_norm: 0}}\n")
    status, out, err = call("--cells", "base", "wild")
    assert status == 1
    assert out.splitlines()[-1].split()[:1] == ["wild"] and "failed" in out.splitlines()[-1]
    assert "wild failed: the loss or the gradient is not finite at step" in err
    assert "one head" in err and "hint: fix the reported cause, then run the same command with --rerun wild" in err


def test_a_dry_run_checks_and_shows_and_trains_nothing(call):
    status, out, err = call("--dry-run", files=[])
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["cell", "base", "one-head"]
    assert not Path("runs").exists()
    status, out, _ = call("--dry-run", "--format", "json")
    assert json.loads(out)[1]["changes"] == {"model.heads": 1}


def test_wrong_calls_are_refused_before_anything_is_trained(call):
    for arguments, message in (
        (["--format", "html"], "unknown format 'html'"),
        (["--cells", "one-hand"], "unknown cell 'one-hand'"),
        (["--test", "dev.en"], "--test needs 2 files, SOURCE and TARGET, not 1"),
        (["--set", "model.d_ff=wide"], "grid.yaml: cell 'base': model.d_ff"),
    ):
        status, out, err = call(*arguments)
        assert (status, out) == (2, "") and message in err, err
    assert not Path("runs").exists()


def test_the_call_that_goes_on_repeats_nothing_once_more(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["nlpcli", "compare", "g.yaml", "--rerun", "a", "b", "--overwrite", "--out", "runs/g", "--rerun=c"]
    )
    assert _again() == "nlpcli compare g.yaml --out runs/g"
