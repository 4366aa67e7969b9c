"""Training commands in several processes, as they are typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlpcli.training.training_log import read_metrics

pytestmark = pytest.mark.processes
LIMIT = 240  # seconds, on a busy machine
SETTINGS = [
    "--data", "text.txt", "--context", "16", "--batch-tokens", "112", "--precision", "float32", "--threads", "1",
    *(f"--set={name}" for name in (
        "tokenizer.type=chars", "model.d_model=16", "model.heads=2", "model.d_ff=32", "model.decoder_layers=1",
        "model.dropout=0.0", "training.warmup_steps=2", "training.log_every=1", "training.save_every=10",
    )),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    lines = [f"line {i} has {' '.join(['one', 'two', 'three'][: i % 4])} words" for i in range(60)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def started(folder, environment):
    """started(*command): a process in the folder, which does not outlive the test."""
    begun = []

    def start(*command):
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for_step(run, step, process):
    end = time.monotonic() + LIMIT
    while not any(line["step"] >= step for line in read_metrics(run)):
        assert time.monotonic() < end and process.poll() is None, process.communicate(timeout=10)
        time.sleep(0.05)


def worker(rank, out, folder):
    """The process of this rank that trains in `out`, started in `folder`: other tests of this file run beside."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            beside = (path / "cwd").resolve() != folder.resolve()
        except OSError:
            continue
        if not beside and f"--out={out}".encode() in command and f"RANK={rank}".encode() in environment:
            return int(path.name)
    raise AssertionError("no such process")


@pytest.mark.parametrize(
    ("send", "number"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)], ids=["one", "all"]
)
def test_one_process_talks_and_a_signal_saves_in_all(folder, started, send, number):
    """A terminal sends Ctrl-C to all processes of a command at once."""
    process = started("nlpcli", "pretrain", "clm", *SETTINGS, "--max-steps=4000", "--out=run", "--processes=2")
    wait_for_step(folder / "run", 5, process)
    send(process.pid, number)
    talk = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 128 + number, talk
    assert talk.count("run: run\n") == 1 and talk.endswith("resume with: nlpcli pretrain --resume --out run\n")
    saved = max((folder / "run/checkpoints").glob("step-*"))
    assert int(saved.name.removeprefix("step-")) == read_metrics(folder / "run")[-1]["step"]


def test_a_process_that_is_killed_ends_the_run(folder, started):
    process = started("nlpcli", "pretrain", "clm", *SETTINGS, "--max-steps=4000", "--out=run", "--processes=2")
    wait_for_step(folder / "run", 2, process)
    os.kill(worker(1, "run", folder), signal.SIGKILL)
    talk = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 1
    assert "process 1 was ended by the signal SIGKILL" in talk and "internal error" not in talk


def test_a_bad_call_is_reported_once(folder, started):
    process = started("nlpcli", "pretrain", "clm", "--data", "missing.txt", "--processes=2")
    output, talk = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (2, "")
    assert talk.count("missing.txt") == 1


def test_torchrun_continues_after_a_process_was_killed(folder, started, run):
    settings = [*SETTINGS, "--max-steps=60", "--set=training.evaluate_every=60"]
    command = ("nlpcli", "pretrain", "clm", *settings)
    launcher = ("torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "--rdzv-backend=c10d",
                "--rdzv-endpoint=localhost:0", "--monitor-interval=0.1", "--module")  # fmt: skip
    out = folder / "broken"
    process = started(*launcher, *command, f"--out={out}")
    wait_for_step(out, 25, process)
    os.kill(worker(1, out, folder), signal.SIGKILL)
    talk = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 0, talk
    assert "resuming after step" in talk
    whole = started(*command, "--out=whole")
    assert whole.wait(LIMIT) == 0
    curves = [[line["loss"] for line in read_metrics(folder / name)] for name in ("broken", "whole")]
    assert len(curves[0]) == 61
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
