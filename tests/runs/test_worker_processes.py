"""Several processes end when no one reads their results any more, whatever is on its way."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes
SCRIPT = """
from nlpcli.runs.worker_processes import in_processes

class Echo:
    def open(self, number, threads):
        return lambda window: window

if __name__ == "__main__":
    windows = ("x" * 20_000_000 for _ in range(100))
    results = in_processes(windows, Echo(), 2)
    next(results)
    results.close()
    print("ended")
"""


def test_large_windows_and_results_do_not_keep_a_command_that_ends(tmp_path, environment):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
