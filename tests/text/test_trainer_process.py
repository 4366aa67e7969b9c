"""Trainers of other libraries in a process of their own: the same results, and an end at any time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.text import train_tokenizer, trainer_process

KINDS = ("unigram", "bpe", "wordpiece", "byte-bpe")


def texts(lines: int) -> list[str]:
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzäöü", k=rng.randint(1, 9))) for _ in range(5000)]
    return [" ".join(rng.choices(words, k=8)) for _ in range(lines)]


# Works for `train` here; a process imports them from this folder.


def echo(received, settings):
    return repr([list(received), settings]).encode()


def fail(received, settings):
    raise RuntimeError("the library's words\n" * 10_000)


def die(received, settings):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(received, settings):
    Path(settings["begun"]).write_text(str(os.getpid()))
    time.sleep(600)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The works above, for the other process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for work in (echo, fail, die, wait):
        monkeypatch.setattr(work, "__module__", Path(__file__).stem)


@pytest.fixture
def apart(monkeypatch):
    """Every training in a process of its own."""
    monkeypatch.setattr(trainer_process, "_AT_ONCE", -1)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_within(seconds: float, pids: list[int]) -> bool:
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(running, pids))


def test_texts_and_settings_arrive_as_they_are(apart):
    sent = ["", "ä\nb", "\x00\U0010ffff", "x" * 300_000]
    assert trainer_process.train(echo, sent, {"a": [1, None, "ü"]}) == repr([sent, {"a": [1, None, "ü"]}]).encode()
    assert trainer_process.train(echo, [], {}) in (b"[[], {}]",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_is_the_same_wherever_it_is_trained(kind, monkeypatch):
    lines, found = texts(300), []
    for at_once in (-1, 10**9):
        monkeypatch.setattr(trainer_process, "_AT_ONCE", at_once)
        tokenizer = train_tokenizer(kind, lines, vocab_size=400)
        found.append((tokenizer.fingerprint, tokenizer.trained))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "words"), [(5, "is too small"), (200_000, "is too large")])
def test_what_the_trainer_says_comes_back_as_a_sentence(apart, kind, size, words):
    with pytest.raises(NlpcliError, match=words):
        train_tokenizer(kind, texts(300), vocab_size=size)


def test_long_words_of_an_error_arrive_though_the_texts_were_not_read(apart):
    with pytest.raises(RuntimeError, match="the library's words"):
        trainer_process.train(fail, texts(100_000), {})


def test_a_trainer_that_is_killed_is_a_failed_run(apart):
    with pytest.raises(RunFailed, match="the process that trains the tokenizer was stopped by signal 9"):
        trainer_process.train(die, texts(100_000), {})


def test_an_error_of_the_texts_ends_the_process(apart, monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            started.append(self)

    def broken():
        yield from texts(10)
        raise NlpcliError("line 11: not valid UTF-8")

    monkeypatch.setattr(trainer_process.subprocess, "Popen", Popen)
    with pytest.raises(NlpcliError, match="line 11"):
        trainer_process.train(echo, broken(), {})
    assert [child.poll() for child in started] == [-signal.SIGKILL]


# A script without `if __name__ == "__main__"`, in a folder with a file that is called like a module of Python's.
SCRIPT = """
from nlpcli.text import trainer_process
import test_trainer_process as works
trainer_process._AT_ONCE = -1
trainer_process.train(works.wait, ["text"], {"begun": "begun"})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_the_trainer_ends_with_the_program_that_called_it(tmp_path, environment, number, status):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "struct.py").write_text("raise SystemExit('the wrong module')")
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    line = [sys.executable, "-c", f"import sys; sys.path.remove('')\n{SCRIPT}"]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as program:
        begun = tmp_path / "begun"
        while not (begun.exists() and begun.read_text()):
            assert program.poll() is None
            time.sleep(0.05)
        worker = int(begun.read_text())
        program.send_signal(number)
        assert program.wait(timeout=2) == status
        assert gone_within(2, [worker])


def children_of(program: subprocess.Popen) -> list[int]:
    """The processes that it has started, once there are any."""
    end = time.monotonic() + 20
    while program.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split():
                return [int(pid) for pid in found]
    return []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", ["unigram", "byte-bpe"])
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.5])
def test_ctrl_c_at_any_moment_ends_the_command_with_130_and_leaves_nothing(tmp_path, environment, kind, pause):
    (tmp_path / "text").write_text("\n".join(texts(60_000)))
    line = f"-m nlpcli tokenize train --type {kind} --vocab-size 4000 --out tok text"
    with subprocess.Popen(
        [sys.executable, *line.split()], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    ) as program:
        children = children_of(program)
        time.sleep(pause)
        start = time.monotonic()
        program.send_signal(signal.SIGINT)
        _, stderr = program.communicate(timeout=20)
        assert time.monotonic() - start < 5
    assert gone_within(2, children)
    if b"tok:" in stderr:  # it was done before
        return
    assert children
    assert program.returncode == 130
    assert stderr == b""
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
