"""The short campaign of benchmarks/reliability: runs that are killed and resumed end as those that are not."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reliability" / "kill_campaign.py"


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("kill_campaign", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_campaign"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kill_campaign"]


@pytest.fixture
def runs(tmp_path):
    """Two folders of runs that are the same but for times."""
    for name, seconds in (("whole", 1.0), ("other", 2.0)):
        last = tmp_path / name / "checkpoints" / "step-00000002"
        for folder in (last, tmp_path / name / "tokenizer"):
            folder.mkdir(parents=True)
        for file in ("model", "optimizer", "random"):
            (last / f"{file}.safetensors").write_bytes(file.encode())
        (tmp_path / name / "model.safetensors").write_bytes(b"best")
        (tmp_path / name / "tokenizer" / "characters.json").write_text("[]")
        line = {"kind": "train", "step": 2, "loss": 0.5, "seconds": seconds, "tokens_per_second": seconds}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path / "whole", tmp_path / "other"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks")
@pytest.mark.processes
def test_runs_that_are_killed_and_resumed_end_as_unbroken_ones(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--short", "--keep", str(tmp_path / "runs")], capture_output=True, text=True,
        env=environment, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    runs, kills, differing = map(
        int, re.search(r"(\d+) runs, (\d+) kills, .* (\d+) runs that differ", done.stdout).groups()
    )
    assert runs >= 6 and kills >= 12 and differing == 0


def test_the_campaign_finds_no_difference_in_equal_runs(campaign, runs):
    assert campaign.differences(*runs) == (4 + 2 + 5 + 9 + 6, [])


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer/characters.json", "checkpoints/step-00000002/optimizer.safetensors"]
)
@pytest.mark.parametrize("how", ["differs", "is missing"])
def test_the_campaign_finds_a_byte_that_differs_and_a_file_that_is_missing(campaign, runs, name, how):
    if how == "differs":
        (runs[1] / name).write_bytes(b"x")
    else:
        (runs[1] / name).unlink()
    assert f"{name} {how}" in campaign.differences(*runs)[1]


def test_the_campaign_finds_a_step_that_is_twice_in_the_log_and_weights_that_are_left(campaign, runs):
    log = runs[1] / "metrics.jsonl"
    log.write_text(log.read_text() * 2)
    (runs[1] / "checkpoints" / "step-00000001").mkdir()
    (runs[1] / "checkpoints" / "step-00000001" / "model.safetensors").write_bytes(b"old")
    problems = campaign.differences(*runs)[1]
    assert "metrics.jsonl differs" in problems
    assert "more files of weights: checkpoints/step-00000001/model.safetensors" in problems
