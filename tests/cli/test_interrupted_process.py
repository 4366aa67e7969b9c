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
