"""The manners every command has from the frame: statuses, streams, pipes, interruption, help, completion."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import typer

import nlpcli
from nlpcli.cli import app
from nlpcli.cli.main import main
from nlpcli.errors import NlpcliError, RunFailed

HEAVY = {"torch", "numpy", "pydantic", "sentencepiece", "tokenizers", "sacrebleu", "jiwer", "rich"}

# A program of one command, `act`, whose body is given as text: what a real command may do to the frame.
DRIVER = """
import sys, types
from nlpcli.cli import app
module = types.ModuleType("nlpcli.cli.act")
exec({body!r}, module.__dict__)
sys.modules["nlpcli.cli.act"] = module
app.COMMANDS["act"] = "Act."
from nlpcli.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def run(run_python):
    return run_python


@pytest.fixture
def act(monkeypatch):
    """Runs a function as the body of a command, in this process, and returns the exit status."""

    def call(body, *arguments: str) -> int:
        module = types.ModuleType("nlpcli.cli.act")
        module.command = body
        monkeypatch.setitem(sys.modules, "nlpcli.cli.act", module)
        monkeypatch.setitem(app.COMMANDS, "act", "Act.")
        return main(["act", *arguments])

    return call


@pytest.fixture
def driver(tmp_path, environment):
    """Starts a command, given as source text, as a process of its own."""

    def start(body: str, **options) -> subprocess.Popen:
        script = tmp_path / "driver.py"
        script.write_text(DRIVER.format(body=body), encoding="utf-8")
        environment.update(options.pop("env", {}))
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, str(script), "act"], env=environment, **{**pipes, **options})

    return start


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


# --- exit statuses and sentences ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (NlpcliError("a.txt:3: no tab", hint="separate with tabs"), 2, "nlpcli: a.txt:3: no tab\n  hint: separate"),
        (RunFailed("loss is not finite"), 1, "nlpcli: loss is not finite\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.txt"), 2, "nlpcli: x.txt: no such file"),
        (PermissionError(errno.EACCES, "Permission denied", "x.txt"), 2, "nlpcli: x.txt: permission denied\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            1,
            "nlpcli: runs/x can't be written, because no space is left on the disk\n",
        ),
        (OSError(errno.EIO, "Input/output error"), 1, "nlpcli: input/output error\n"),
        (MemoryError(), 1, "nlpcli: there is not enough memory\n"),
        (RuntimeError("std::bad_alloc"), 1, "nlpcli: there is not enough memory\n"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "nlpcli: there is not enough memory\n",
        ),
        (ValueError("two\nlines"), 1, "nlpcli: internal error: ValueError: two lines\n  hint: "),
        (ZeroDivisionError(), 1, "nlpcli: internal error: ZeroDivisionError\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_each_kind_of_ending_has_its_status_and_one_sentence(act, capsys, error, status, message):
    assert act(raising(error)) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(message)
    assert "Traceback" not in output.err


def test_a_traceback_is_shown_only_on_request(act, capsys, monkeypatch):
    monkeypatch.setenv("NLPCLI_TRACEBACK", "1")
    assert act(raising(ValueError("odd"))) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "nlpcli: internal error: ValueError: odd" in shown


def test_the_option_traceback_asks_for_one(run):
    done = run("--traceback", "translte")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_command_that_ends_well_returns_zero(act):
    assert act(lambda: None) == 0


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["pretran"], "unknown command 'pretran'", "did you mean 'pretrain'?"),
        (["xyzzy"], "unknown command 'xyzzy'", "choose one of: demo, tokenize, pretrain"),
        (["--versoin"], "unknown option '--versoin' of 'nlpcli'", "did you mean '--version'?"),
        (["act", "--colour", "red"], "unknown option '--colour' of 'nlpcli act'", "did you mean '--color'?"),
        (["act", "--number", "many"], "'many'", "'nlpcli act --help' lists its options"),
        (["act", "--color"], "the option --color needs a value", "'nlpcli act --help'"),
        (["act", "surplus"], "'nlpcli act' does not take the argument 'surplus'", "'nlpcli act --help'"),
    ],
)
def test_a_wrong_call_ends_with_2_and_the_way_on(monkeypatch, capsys, arguments, message, hint):
    def command(color: str = typer.Option("blue"), number: int = typer.Option(1)) -> None: ...

    module = types.ModuleType("nlpcli.cli.act")
    module.command = command
    monkeypatch.setitem(sys.modules, "nlpcli.cli.act", module)
    monkeypatch.setitem(app.COMMANDS, "act", "Act.")
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    first, second = output.err.splitlines()
    assert first.startswith("nlpcli: ") and message in first.lower()
    assert second.startswith("  hint: ") and hint in second


def test_no_command_at_all_shows_the_help_on_stderr(capsys):
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Commands:" in output.err


# --- streams -----------------------------------------------------------------------------------------------------

ENDLESS = """
from nlpcli.cli.terminal import write_line
def command():
    while True:
        write_line("a line of results")
"""

SHORT = """
from nlpcli.cli.terminal import write_line
def command():
    write_line("Grüße, 世界 \\ud800")
"""


@pytest.mark.processes
def test_a_reader_that_leaves_ends_the_command_quietly(driver):
    process = driver(ENDLESS)
    assert process.stdout.readline() == b"a line of results\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == b""


@pytest.mark.processes
def test_a_reader_that_left_before_the_last_flush_is_met_quietly_too(driver):
    reader, writer = os.pipe()
    os.close(reader)
    process = driver(SHORT, stdout=writer)
    os.close(writer)
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("body", [ENDLESS, SHORT])
def test_a_full_disk_is_one_sentence_and_status_1(driver, body):
    with open("/dev/full", "wb") as full:
        process = driver(body, stdout=full)
        assert process.wait(timeout=30) == 1
    message = process.stderr.read().decode()
    assert message.startswith(
        "nlpcli: standard output can't be written, because no space is left on the disk\n  hint: "
    )
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_stdout_is_utf8_with_bare_line_feeds_in_every_locale(driver, env):
    process = driver(SHORT, env=env)
    out, err = process.communicate(timeout=30)
    assert out == "Grüße, 世界 \\ud800\n".encode()
    assert err == b""


def in_a_shell(environment, line, cwd):
    """Runs `line`, in which $0 is this Python, in a shell."""
    return subprocess.run(
        ["bash", "-c", line, sys.executable], env=environment, capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_a_closed_stream_that_nothing_needs_is_no_fault(environment, tmp_path, closed):
    done = in_a_shell(environment, f'"$0" -m nlpcli --version {closed}', tmp_path)
    assert done.returncode == 0
    assert done.stderr == "" and done.stdout.startswith("nlpcli ")


WITH_RESULTS = [
    "--version",
    "--help",
    "score --help",
    "config list",
    "config show gpt-mini",
    "inspect a.txt",
    "score --metric bleu --ref a.txt a.txt",
    "score --metric bleu --json --ref a.txt a.txt",
    "score --metric wer --sentence --ref a.txt a.txt",
]


@pytest.mark.parametrize("arguments", WITH_RESULTS)
@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_results_that_nobody_can_read_are_one_sentence_and_status_1(environment, tmp_path, arguments, closed):
    (tmp_path / "a.txt").write_text("a small cat sat there\n")
    done = in_a_shell(environment, f'"$0" -m nlpcli {arguments} {closed}', tmp_path)
    assert done.returncode == 1
    assert "nlpcli: standard output is closed\n  hint: " in done.stderr
    assert in_a_shell(environment, f'"$0" -m nlpcli {arguments} {closed} 2>&-', tmp_path).returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", WITH_RESULTS)
def test_results_that_have_no_room_are_one_sentence_and_status_1(environment, tmp_path, arguments):
    (tmp_path / "a.txt").write_text("a small cat sat there\n")
    done = in_a_shell(environment, f'"$0" -m nlpcli {arguments} > /dev/full', tmp_path)
    assert done.returncode == 1
    assert "nlpcli: standard output can't be written, because no space is left on the disk\n  hint: " in done.stderr


def test_a_file_is_never_taken_for_a_closed_stream(environment, tmp_path):
    """The next file that a program opens gets the number of a closed stream, and then what is printed."""
    line = '"$0" -m nlpcli tokenize train --type chars --out tok a.txt <&- >&- 2>&-'
    (tmp_path / "a.txt").write_text("a small cat sat there\n")
    in_a_shell(environment, line, tmp_path)
    assert in_a_shell(environment, '"$0" -m nlpcli tokenize encode tok a.txt', tmp_path).returncode == 0


@pytest.mark.processes
def test_ctrl_c_ends_with_130_and_without_a_traceback(driver):
    process = driver("import time\ndef command():\n    print('ready', flush=True)\n    time.sleep(60)\n")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stderr.read() == b""


@pytest.mark.processes
def test_ctrl_c_while_libraries_are_loading_is_clean_too(driver):
    body = "def command():\n    print('ready', flush=True)\n    import torch\n    print('loaded')\n"
    process = driver(body)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert b"Traceback" not in process.stderr.read()


# --- help, version, completion -----------------------------------------------------------------------------------


def test_help_names_every_command_in_the_order_of_use(run):
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    listed = done.stdout.split("Commands:")[1].split("Examples:")[0]
    names = [line.split()[0] for line in listed.splitlines() if line[:2] == "  " and line[2:3].strip()]
    assert names == list(app.COMMANDS)
    assert "\x1b" not in done.stdout


def test_help_loads_nothing_heavy_and_is_quick(environment):
    probe = (
        "import sys, time; start = time.perf_counter()\n"
        "from nlpcli.cli.main import main\n"
        "status = main(['--help'])\n"
        "print(time.perf_counter() - start, *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    best = 9.9
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, env=environment, check=True
        )
        seconds, *modules = done.stderr.split()
        assert not HEAVY & set(modules)
        best = min(best, float(seconds))
    # Measured at 0.1 s; the bound leaves room for a busy machine.
    assert best < 1.0


@pytest.mark.parametrize("name", list(app.COMMANDS))
def test_help_of_a_command_loads_nothing_heavy(environment, name):
    probe = (
        "import sys\nfrom nlpcli.cli.main import main\n"
        f"status = main([{name!r}, '--help'])\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: nlpcli {name}")
    assert not {"torch", "numpy", "sentencepiece", "tokenizers", "sacrebleu", "jiwer"} & set(done.stderr.split())
    assert "\x1b" not in done.stdout


def test_h_is_help_everywhere(run):
    assert run("-h").stdout == run("--help").stdout
    assert run("config", "-h").stdout.startswith("Usage: nlpcli config")


def test_help_stays_plain_and_narrow_on_a_wide_colourful_terminal(run):
    done = run("--help", COLUMNS="300", FORCE_COLOR="1", CLICOLOR_FORCE="1", TERM="xterm-256color")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_version_is_the_packages(run):
    assert run("--version").stdout == f"nlpcli {nlpcli.__version__}\n"


def test_completion_offers_commands_without_loading_them(run):
    words = run(_NLPCLI_COMPLETE="complete_bash", COMP_WORDS="nlpcli t", COMP_CWORD="1").stdout.split()
    assert words == ["tokenize", "translate"]


def test_completion_offers_the_options_of_a_command(run):
    words = run(_NLPCLI_COMPLETE="complete_bash", COMP_WORDS="nlpcli config show --", COMP_CWORD="3").stdout.split()
    assert "--help" in words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_shown(run, shell):
    done = run("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_NLPCLI_COMPLETE" in done.stdout


def test_a_shell_completes_after_installing(run, environment, nlpcli_command, tmp_path):
    """The whole way: install into a home, start a shell that reads it, press Tab."""
    done = run("--install-completion", "bash", HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    shim = tmp_path / "bin" / "nlpcli"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexec " + " ".join(nlpcli_command) + ' "$@"\n')
    shim.chmod(0o755)
    script = (
        'source ~/.bashrc; COMP_WORDS=(nlpcli tran); COMP_CWORD=1; COMP_LINE="nlpcli tran"; COMP_POINT=11\n'
        "$(complete -p nlpcli | sed 's/.*-F \\([^ ]*\\).*/\\1/') nlpcli tran nlpcli; echo \"${COMPREPLY[@]}\""
    )
    shell_environment = {**environment, "HOME": str(tmp_path), "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    shown = subprocess.run(["bash", "-c", script], env=shell_environment, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["translate"], shown.stderr
