"""`nlpcli demo`: what it prints is what it runs, and it leaves alone what is not its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nlpcli.cli import app
from nlpcli.cli.main import main
from nlpcli.commands import demo
from nlpcli.data.sample_data import sample_file

STEPS = ["tokenize", "pretrain", "generate", "finetune", "translate", "score"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("out")
    return folder, demo.prepare(folder)


def test_the_steps_are_the_whole_way_from_text_to_score(prepared):
    folder, files = prepared
    assert [step.arguments[0] for step in demo.steps(folder, files, 3.0)] == STEPS


def test_each_line_shown_is_a_call_the_program_understands(prepared):
    for step in demo.steps(*prepared, 3.0):
        shown = shlex.split(step.line)
        redirected = shown.index("<") if "<" in shown else len(shown)
        assert tuple(shown[1:redirected]) == step.arguments
        name, *rest = step.arguments
        command = app.build_command(name)
        if hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        with command.make_context(name, rest) as context:
            assert context.args == []


def test_redirections_are_shown_and_done(prepared, tmp_path):
    source, target = tmp_path / "in put", tmp_path / "pieces"
    source.write_text("a\nb\n")
    tokenizer = tmp_path / "tok"
    make = ("tokenize", "train", "--type", "chars", "--out", str(tokenizer), str(source))
    assert demo.Step("make", make).run() == 0
    step = demo.Step("use", ("tokenize", "encode", "--unit", "tokens", str(tokenizer)), stdin=source, stdout=target)
    assert step.line.endswith(f"< '{source}' > {target}")
    assert step.run() == 0
    assert target.read_text().split() == ["a", "b"]


def test_the_sample_data_arrive_unpacked_and_aligned(prepared):
    folder, files = prepared
    for split, lines in (("train", 18_000), ("dev", 1000), ("test", demo.TEST_LINES)):
        sides = [files[f"{split}.{language}"].read_text("utf-8").splitlines() for language in ("en", "de")]
        assert [len(side) for side in sides] == [lines, lines]
    assert (
        files["test.en"].read_text("utf-8").splitlines()[0]
        == (sample_file("tatoeba-en-de/test.en").read_text("utf-8").splitlines()[0])
    )
    assert all(path.parent == folder / "data" for path in files.values())


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, tmp_path):
    (tmp_path / "nlpcli-demo").mkdir()
    (tmp_path / "nlpcli-demo" / "precious").write_text("mine")
    done = run("demo")
    assert done.returncode == 2
    message = "nlpcli: nlpcli-demo: the folder exists and is not empty\n  hint: name another folder with --out"
    assert done.stderr.startswith(message)
    assert [path.name for path in (tmp_path / "nlpcli-demo").iterdir()] == ["precious"]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert demo.prepare(tmp_path / "out")["train.en"].exists()


def test_a_step_that_fails_ends_the_demo_with_its_status(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    good = demo.Step("good", ("--version",))
    bad = demo.Step("bad", ("config", "show", "no-such-preset"))
    monkeypatch.setattr(demo, "steps", lambda *_: [good, bad, good])
    assert main(["demo"]) == 2
    shown = capfd.readouterr()
    assert shown.out.count("nlpcli 0") == 1
    assert "  nlpcli config show no-such-preset\n" in shown.err
    assert "step 2 of the demo failed with status 2" in shown.err


def test_examples_show_source_translation_and_reference(prepared, capsys):
    folder, files = prepared
    (folder / "test.hyp.de").write_text("".join(f"Satz {n}\n" for n in range(demo.TEST_LINES)), encoding="utf-8")
    rows = list(demo.examples(folder, files))
    assert len(rows) == 5
    assert [row[1] for row in rows] == [f"Satz {n}" for n in range(0, demo.TEST_LINES, demo.TEST_LINES // 5)]


LONG = """
import sys
from nlpcli.commands import demo
long = demo.Step("long", ("pretrain", "--objective", "clm", "--max-minutes", "5", "--out", "lm"))
demo.steps = lambda *_: [long]
from nlpcli.cli.main import main
sys.exit(main())
"""


@pytest.mark.processes
def test_ctrl_c_ends_the_demo_and_its_step_cleanly(tmp_path, environment):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG, "demo"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    stderr = b""
    while b"preset" not in stderr:  # the step itself is speaking
        line = process.stderr.readline()
        assert line, stderr
        stderr += line
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    stderr += process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
