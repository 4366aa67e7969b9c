"""Whole commands, as a shell would run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def nlpcli_command() -> list[str]:
    return [sys.executable, "-m", "nlpcli"]


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _runner(command: list[str], environment: dict[str, str], folder: Path) -> Run:
    def call(*arguments: object, stdin: str | bytes = "", cwd: Path = folder, **variables: str):
        data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*command, *map(str, arguments)],
            input=data,
            capture_output=True,
            cwd=cwd,
            env={**environment, **variables},
            timeout=300,
            check=False,
        )
        done.stdout, done.stderr = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        return done

    return call


@pytest.fixture
def run(served_command, environment, tmp_path) -> Run:
    """`run("score", "--metric", "bleu", stdin="...")` in an empty folder; stdin, stdout and stderr are text (UTF-8)."""
    return _runner(served_command, environment, tmp_path)


@pytest.fixture
def run_python(nlpcli_command, environment, tmp_path) -> Run:
    """The same, in a Python that is started for the call: for what it imports, and for how it starts and ends."""
    return _runner(nlpcli_command, environment, tmp_path)
