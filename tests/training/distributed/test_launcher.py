"""When one of several processes has ended, how long the others have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nlpcli.training.distributed import launcher

LONGER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
sys.stdin.readline()
print("ready", flush=True)
time.sleep(1.5)
sys.exit(130)
"""


@pytest.mark.parametrize(("status", "other"), [(130, 130), (143, 130), (1, 7)])
def test_a_process_that_saves_is_not_disturbed_after_an_interruption(monkeypatch, status, other):
    monkeypatch.setattr(launcher, "_GRACE", 0.1)
    saving = subprocess.Popen([sys.executable, "-c", LONGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ended = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"])
    ended.wait()
    assert saving.stdin is not None and saving.stdout is not None
    saving.stdin.write(b"\n")
    saving.stdin.flush()
    assert saving.stdout.readline() == b"ready\n"
    assert launcher._await([saving, ended]) == 1
    assert (saving.returncode, ended.returncode) == (other, status)
