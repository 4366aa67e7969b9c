"""Progress and tables, on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from nlpcli.cli import terminal


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_a_few_plain_lines(capsys):
    clock = Clock()
    lines = terminal._Lines("training", 1000.0, clock=clock)
    for step in range(1000):
        clock.now = float(step)
        lines.update(step, f"loss {1000 - step}")
    lines.close()
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert lines[0] == "training  1%  loss 990  16 min 30 s left"
    assert lines[-1] == "training  100%  loss 1  1 s left"
    # Ten seconds apart at first, later a tenth of the time gone by: few lines however long it takes.
    assert 20 < len(lines) < 50
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_the_time_left_counts_from_what_was_done_before(capsys):
    clock = Clock()
    lines = terminal._Lines("training", 1.0, 0.8, clock=clock)
    clock.now = 30.0
    lines.update(0.9)
    assert capsys.readouterr().err == "training  90%  30 s left\n"


def test_short_work_says_nothing_without_a_terminal(capsys):
    with terminal.progress("encoding", total=3) as bar:
        for done in range(4):
            bar.update(done)
    assert capsys.readouterr().err == ""


def test_progress_without_a_known_total_counts(capsys):
    clock = Clock()
    lines = terminal._Lines("encoding", None, clock=clock)
    clock.now = 11.0
    lines.update(12345.0, "lines")
    assert capsys.readouterr().err == "encoding  12,345  lines\n"


def test_a_table_sets_words_left_and_numbers_right(capsys):
    terminal.write_table(["name", "size"], [["a", 5], ["long name", "1,234"]])
    assert capsys.readouterr().out == "name        size\na              5\nlong name  1,234\n"


def test_an_empty_table_is_its_headings(capsys):
    terminal.write_table(["name", "size"], [])
    assert capsys.readouterr().out == "name  size\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (42, "42 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_in_words_a_reader_wants(seconds, words):
    assert terminal.duration(seconds) == words


def test_no_color_is_honoured_even_on_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.stderr_console().color_system is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.stderr_console().no_color


def test_a_person_before_a_silent_terminal_is_shown_what_is_waited_for(monkeypatch, capsys):
    class Keyboard:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard())
    terminal.announce_stdin()
    assert capsys.readouterr().err == "reading from standard input; press Ctrl-D to end the input\n"


def test_nothing_is_printed_when_input_is_piped(monkeypatch, capsys):
    with open("/dev/null") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        terminal.announce_stdin()
    assert capsys.readouterr().err == ""


BAR = """
import sys, time
from nlpcli.cli import terminal
with terminal.progress("training", total=4) as bar:
    for done in range(5):
        bar.update(done, "loss 2.5")
        time.sleep(0.1)
    terminal.notify("evaluated")
    if "stop" in sys.argv:
        raise SystemExit(3)
"""


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Runs a program whose stderr is a terminal; returns its status and what appeared there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.stdout.read() == b""
    return process.wait(timeout=30), shown.decode("utf-8")


@pytest.mark.processes
def test_progress_on_a_terminal_is_a_moving_bar_with_lines_above_it(environment):
    status, shown = on_a_terminal(["-c", BAR], {**environment, "TERM": "xterm-256color", "COLUMNS": "100"})
    assert status == 0
    assert "training" in shown and "100%" in shown and "loss 2.5" in shown and "evaluated" in shown
    assert "\x1b[" in shown


@pytest.mark.processes
def test_an_interrupted_bar_gives_the_cursor_back(environment):
    status, shown = on_a_terminal(["-c", BAR, "stop"], {**environment, "TERM": "xterm-256color"})
    assert status == 3
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}])
def test_no_color_and_dumb_terminals_get_neither_colours_nor_a_moving_bar(environment, variables):
    status, shown = on_a_terminal(["-c", BAR], {**environment, **variables})
    assert status == 0
    assert shown == "evaluated\r\n"


def test_a_table_too_wide_for_the_terminal_keeps_to_it_and_breaks_no_word(capsys, monkeypatch):
    rows = [["a", "12", "some words that go on and on and on and on"], ["bb", "3", "few"]]
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.write_table(["name", "value", "what"], rows)
    whole = capsys.readouterr().out
    assert len(whole.splitlines()) == 3
    for columns in (48, 30, 12):
        monkeypatch.setenv("COLUMNS", str(columns))
        terminal.write_table(["name", "value", "what"], rows)
        shown = capsys.readouterr().out
        assert sorted(shown.split()) == sorted(whole.split())
        assert max(map(len, shown.splitlines())) <= columns


def test_columns_are_divided_by_tabs_in_a_pipe_and_aligned_on_a_terminal(capsys, monkeypatch):
    rows = [["accuracy", "90.00", "", "Accuracy|x"], ["f1", "9.00", "", "F1|y"]]
    terminal.write_columns(["metric", "value", "95 % interval", "signature"], rows)
    assert capsys.readouterr().out == "accuracy\t90.00\tAccuracy|x\nf1\t9.00\tF1|y\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    terminal.write_columns(["metric", "value", "95 % interval", "signature"], rows)
    assert capsys.readouterr().out.splitlines() == [
        "metric    value  signature",
        "accuracy  90.00  Accuracy|x",
        "f1         9.00  F1|y",
    ]
