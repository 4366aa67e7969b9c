"""`--batch-tokens auto`: what is chosen, what it leaves in the configuration, and that a resumed run keeps it."""

from __future__ import annotations

import pytest
import yaml

from nlpcli.cli.main import main
from nlpcli.runs import automatic_batch_size
from nlpcli.training import memory_use
from nlpcli.training.memory_use import MemoryProbe, MemoryUse
from nlpcli.training.training_log import read_metrics

SETTINGS = ("model.d_model=16", "model.d_ff=16", "model.heads=2", "tokenizer.type=chars", "training.log_every=1")
SMALL = ["--threads", "1", "--precision", "float32", *(word for setting in SETTINGS for word in ("--set", setting))]
CLM = ["pretrain", "clm", "--data", "a.txt", "--context", "32", "--set", "model.decoder_layers=1", *SMALL]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(words) -> (status, stderr), in a folder with a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the dog sleeps\na cat sits in the house\nthe man walks\n" * 1200, encoding="utf-8")

    def run_it(*words):
        capsys.readouterr()
        status = main([*words])
        return status, capsys.readouterr().err

    return run_it


@pytest.fixture
def memory(monkeypatch):
    """memory(n): there is memory for batches of n tokens."""

    def limit(most):
        def measure(self):
            plan = self._plan_of(0)
            size = self.settings.batch_tokens
            return MemoryUse(1000 + size, 1000 + most, len(plan))

        monkeypatch.setattr(MemoryProbe, "measure", measure)

    return limit


def training(folder):
    settings = yaml.safe_load((folder / "config.yaml").read_text())["training"]
    return settings["batch_tokens"], settings["accumulate"], settings["fit_memory"]


def losses(folder):
    return [line["loss"] for line in read_metrics(folder) if line["kind"] == "train"]


@pytest.mark.parametrize(
    ("fits", "configured", "chosen"),
    [
        (10**6, 128, (512, 1)),  # 4 times the configured step
        (300, 128, (288, 1)),  # as many windows of 32 as fit
        (100, 256, (96, 3)),  # in 3 batches, the last of which is the smallest
        (64, 256, (64, 4)),
        (10**6, 2048, (2048, 1)),  # an epoch of 66,000 tokens keeps the steps of the configuration
    ],
)
def test_a_batch_is_as_large_as_memory_and_use_allow(run, memory, tmp_path, fits, configured, chosen):
    memory(fits)
    status, err = run(*CLM, "--set", f"training.batch_tokens={configured}", "--batch-tokens", "auto", "--max-steps",
                      "1", "--out", "run")  # fmt: skip
    assert status == 0, err
    assert training(tmp_path / "run") == (*chosen, "found")
    assert f"batch: {chosen[0]:,} tokens, configured: {configured:,}" in err
    assert (f"the gradients of {chosen[1]} batches are summed" in err) == (chosen[1] > 1)


def test_a_step_of_several_batches_is_the_step_of_one(run, memory, tmp_path):
    common = [*CLM, "--max-steps", "4", "--set", "model.dropout=0", "--set", "training.batch_tokens=256"]
    assert run(*common, "--out", "whole")[0] == 0
    memory(64)
    assert run(*common, "--batch-tokens", "auto", "--out", "parts")[0] == 0
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_a_resumed_run_keeps_its_batch_whatever_memory_there_is_then(run, memory, tmp_path):
    memory(100)
    call = [*CLM, "--set", "training.batch_tokens=auto", "--set", "training.schedule=constant"]
    assert run(*call, "--max-steps", "6", "--out", "whole")[0] == 0
    assert run(*call, "--max-steps", "3", "--out", "run")[0] == 0
    chosen = training(tmp_path / "run")
    memory(10**6)
    status, err = run("pretrain", "--resume", "--batch-tokens", "auto", "--max-steps", "6", "--out", "run")
    assert status == 0 and "batch:" not in err
    assert training(tmp_path / "run") == chosen
    assert losses(tmp_path / "run")[3:] == losses(tmp_path / "whole")[3:]


def test_a_file_may_ask_for_it(run, memory, tmp_path):
    memory(10**6)
    (tmp_path / "c.yaml").write_text("extends: gpt-mini\ntraining: {batch_tokens: auto}\n", encoding="utf-8")
    status, err = run(*CLM, "--config", "c.yaml", "--set", "data.context=256", "--max-steps", "1", "--out", "run")
    assert status == 0 and "batch: 4,096 tokens, configured: 4,096" in err
    assert training(tmp_path / "run") == (4096, 1, "found")


def test_a_task_keeps_the_examples_of_its_step(run, monkeypatch, tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "a dog\tyes\nno cat\tno\n" * 20, encoding="utf-8")
    monkeypatch.setattr(
        MemoryProbe, "measure", lambda self: MemoryUse(1000 + self.settings.batch_size, 1005, 10)
    )  # fmt: skip
    status, err = run("finetune", "--task", "classify", "--train", "train.tsv", "--batch-tokens", "auto",
                      "--max-steps", "1", "--out", "run", *SMALL)  # fmt: skip
    assert status == 0 and "batch: 5 examples, configured: 32" in err
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert (settings["batch_size"], settings["accumulate"], settings["fit_memory"]) == (5, 7, "found")


def test_memory_is_measured_where_nothing_is_put_in_its_place(run, tmp_path, monkeypatch):
    limits = []
    real = memory_use.memory_limit
    monkeypatch.setattr(memory_use, "memory_limit", lambda device: limits.append(real(device)) or limits[-1])
    status, err = run(*CLM, "--batch-tokens", "auto", "--max-steps", "1", "--out", "run")
    assert status == 0 and len(limits) >= 2 and min(limits) > 10**8
    assert " GB of the " in err


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_other_sizes_are_refused(run, value):
    status, err = run("pretrain", "clm", "--data", "a.txt", "--batch-tokens", value)
    assert status == 2 and f"must be a number of at least 1 or 'auto', not '{value}'" in err


def test_several_processes_are_refused(run, monkeypatch):
    monkeypatch.setattr(automatic_batch_size, "process_count", lambda: 2)
    status, err = run(*CLM, "--batch-tokens", "auto")
    assert status == 2 and "--batch-tokens auto can't be used with several processes" in err
