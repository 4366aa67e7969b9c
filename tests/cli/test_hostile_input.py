"""A small part of the campaign with hostile input, and that the campaign notices what it is there to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "benchmarks" / "reliability"
CASES = 250

FAULTS = {
    "nothing": ("return 0", None),
    "a message": ("print('nlpcli: no such file', file=sys.stderr); return 2", None),
    "an exception": ("raise KeyError('x')", "status: 96"),
    "an internal error": ("print('nlpcli: internal error: KeyError', file=sys.stderr); return 1", "traceback"),
    "a warning of a library": ("print('/a/b.py:12: UserWarning: x', file=sys.stderr); return 0", "traceback"),
    "another status": ("return 3", "status: 3"),
    "no message": ("return 2", "message: none"),
    "a long message": ("print('nlpcli: ' + 'x' * 3000, file=sys.stderr); return 2", "3,008 characters"),
    "two messages": ("print('nlpcli: a\\nnlpcli: b', file=sys.stderr); return 2", "more than a sentence"),
    "a control character": ("print('\\x1b[31m', file=sys.stderr); return 0", "control on stderr"),
    "a title on stdout": ("print('\\x1b]0;x\\x07'); return 0", "control on stdout"),
    "an endless loop": ("while True: pass", "processor time"),
    "an endless wait": ("time.sleep(1000)", "hang: it has waited"),
    "much memory": ("b = bytearray(400 * 2**20); return 0", "memory: 4"),
    "a crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "crash: SIGSEGV"),
    "a file": ("open('left', 'w'); return 0", "left in the working folder: ['left']"),
    "a temporary file": ("tempfile.mkstemp(); return 0", "left in the temporary folder"),
    "a process": ("subprocess.Popen(['sleep', '9']); return 0", "left: a process"),
    "a changed input": ("open('input', 'a').write('x'); return 0", "changed: ['input']"),
}
SCRIPT = """
import json, os, signal, subprocess, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import nlpcli.cli.main
from hostile.forked_calls import Call, Limits, outcomes

def fake(body):
    space = dict(globals())
    exec("def main(argv):\\n    " + body, space)
    return space["main"]

def make(body, work):
    (work / "input").write_text("a")
    nlpcli.cli.main.main = fake(body)
    return Call([])

bodies = json.loads(sys.argv[2])
limits = Limits(cpu=4, wall=6.0, memory=300 * 2**20)  # a slow machine takes over a second for 400 MB
print(json.dumps([found.faults for found in outcomes(bodies, make, Path(sys.argv[3]), limits)]))
"""


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_what_must_not_happen_is_noticed(tmp_path, environment):
    bodies = [body for body, _ in FAULTS.values()]
    done = run("-c", SCRIPT, str(RELIABILITY), json.dumps(bodies), str(tmp_path / "case"), environment=environment)
    assert done.returncode == 0, done.stderr
    found = dict(zip(FAULTS, json.loads(done.stdout), strict=True))
    for name, (_, expected) in FAULTS.items():
        assert any(expected in fault for fault in found[name]) if expected else found[name] == [], (name, found[name])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_some_hundred_hostile_calls_end_well(tmp_path, environment):
    script = str(RELIABILITY / "hostile_input.py")
    done = run(script, "--cases", str(CASES), "--seed", "0", "--work", str(tmp_path), environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CASES} cases, 0 failures" in done.stdout
