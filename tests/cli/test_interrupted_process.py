"""What is left to do when Ctrl-C has ended a command."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

PROGRAM = """
import atexit, sys, time
import nlpcli.cli.main as entry

class Library:
    def __del__(self):
        time.sleep(60)

def interrupted(arguments):
    print("a result")
    raise KeyboardInterrupt

library = Library()
atexit.register(print, "tidied up", flush=True)
entry._run = interrupted
sys.exit(entry.main())
"""


@pytest.mark.processes
def test_an_interrupted_process_ends_at_once_after_its_results_and_what_is_registered_for_its_end(environment):
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, env=environment, timeout=120, check=False
    )
    assert time.monotonic() - begun < 50  # libraries are not taken apart
    assert (done.returncode, done.stdout.split(), done.stderr) == (130, [b"a", b"result", b"tidied", b"up"], b"")


READER = """
import os, signal, sys
import nlpcli.cli.main as entry
from nlpcli.data import repeatable_input

def reading(arguments):
    with repeatable_input.repeatable("-") as files:
        print(files[0].exists(), flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        sys.stdin.read()

entry._run = reading
sys.exit(entry.main())
"""


@pytest.mark.processes
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_leaves_no_copy_of_standard_input_and_a_kill_leaves_one_that_is_swept(
    environment, tmp_path, name, status
):
    def call(signal_name):
        return subprocess.run(
            [sys.executable, "-c", READER, signal_name], input=b"one\n", capture_output=True, timeout=120, check=False,
            env={**environment, "TMPDIR": str(tmp_path)},
        )  # fmt: skip

    done = call(name)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"True\n", b"")
    assert bool(list(tmp_path.iterdir())) == (name == "SIGKILL")
    if name == "SIGKILL":
        call("SIGTERM")
        assert list(tmp_path.iterdir()) == []
