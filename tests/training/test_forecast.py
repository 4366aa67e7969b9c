"""The forecast of a run: its arithmetic, and beside what a run then needs."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from nlpcli.cli import forecast_output
from nlpcli.cli.main import main
from nlpcli.config.schema import TrainingConfig
from nlpcli.training import stopwatch
from nlpcli.training.forecast import Forecast, evaluations_in, saves_in, steps_until_the_end

EPOCH = {"steps_per_epoch": 100, "tokens_per_step": 50.0, "flops_per_token": 10.0, "seconds_per_step": 0.5,
         "seconds_per_evaluation": 10.0}  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2.5}, 250),
        ({"max_tokens": 5000}, 100),
        ({"max_flops": 10_000}, 20),
        ({"max_minutes": 1.0}, 100),  # 60 s, of which each step takes 0.5 s and a hundredth of an evaluation
        ({"max_minutes": 1.0, "evaluate_every": 20}, 60),
        ({"max_steps": 30, "max_epochs": 2.5, "max_tokens": 1000}, 20),
        ({}, None),
    ],
)
def test_the_nearest_limit_ends_a_run(limits, steps):
    unlimited = dict.fromkeys(("max_steps", "max_epochs", "max_minutes", "max_tokens", "max_flops"))
    assert steps_until_the_end(TrainingConfig(**{**unlimited, **limits}), **EPOCH) == steps


def test_evaluations_and_checkpoints_are_those_of_the_loop():
    settings = TrainingConfig(evaluate_every=20, save_every=15)
    assert evaluations_in(settings, 50, 100) == 3  # after 20, after 40, and at the end
    assert saves_in(settings, 50, 3) == 6
    assert evaluations_in(TrainingConfig(), 200, 100) == 2


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command in an empty folder with a text: (status, stdout)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the dog sleeps\na cat sits in the house\nthe man walks\n" * 60, encoding="utf-8")

    def run_it(*words):
        capsys.readouterr()
        status = main([*words, "--threads", "1", "--precision", "float32"])
        return status, capsys.readouterr().out

    return run_it


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_a_forecast_writes_nothing_and_agrees_with_the_run(run, tmp_path, objective):
    call = ["pretrain", "--objective", objective, "--data", "a.txt", "--max-steps", "6", "--json", "--set",
            "model.d_model=16", "--set", "model.d_ff=16", "--set", "model.heads=2", "--set", "tokenizer.vocab_size=300",
            "--set", "data.context=16", "--batch-tokens", "64"]  # fmt: skip
    status, out = run(*call, "--dry-run")
    assert status == 0 and [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    expected = json.loads(out)

    status, out = run(*call, "--out", "run")
    found = json.loads(out)
    assert status == 0 and expected["steps"] == found["steps"] == 6
    assert expected["tokens"] == pytest.approx(found["tokens"], rel=0.2)
    last = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    flops = next(line["flops"] for line in reversed(last) if line["kind"] == "train")
    assert expected["flops"] == pytest.approx(flops, rel=0.2)
    kept = [path.stat().st_size for path in (tmp_path / "run").rglob("*.safetensors") if "best-" not in path.name]
    assert expected["disk"] == pytest.approx(sum(kept), rel=0.1)
    assert expected["evaluations"] == 1 and expected["peak_memory"] > 50e6 and expected["tokens_per_second"] > 0


def test_a_forecast_of_fine_tuning_is_shown_as_lines(run, tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "a dog\tyes\nno cat\tno\n" * 20, encoding="utf-8")
    status, out = run("finetune", "--task", "classify", "--train", "train.tsv", "--dry-run", "--set",
                      "model.d_model=16", "--set", "model.d_ff=16", "--set", "model.heads=2", "--set",
                      "tokenizer.vocab_size=60")  # fmt: skip
    assert status == 0
    names = [line[:17].strip() for line in out.splitlines() if not line.startswith("other programs")]
    assert names == ["parameters", "an epoch", "training", "FLOPs", "speed", "time", "memory at most", "disk at most"]


def test_the_time_of_other_programs_does_not_count(monkeypatch, capsys):
    clocks = iter([0.0, 10.0, 10.0])
    waits = iter([2.0, 8.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clocks))
    monkeypatch.setattr(stopwatch, "waited", lambda: next(waits))
    assert stopwatch.Stopwatch().worked() == 4.0


def test_a_forecast_says_what_other_programs_took(capsys):
    figures = {field.name: 1 for field in fields(Forecast)}
    forecast_output.write(Forecast(**{**figures, "waiting": 0.25}), json=False)
    assert "other programs   had the processor 25 % of the time" in capsys.readouterr().out
    forecast_output.write(Forecast(**{**figures, "waiting": 0.05}), json=False)
    assert "other programs" not in capsys.readouterr().out


@pytest.mark.parametrize("other", [["--resume"], ["--seeds", "2"]])
def test_a_forecast_is_of_one_new_run(run, other):
    assert run("finetune", "--task", "classify", "--dry-run", *other)[0] == 2
