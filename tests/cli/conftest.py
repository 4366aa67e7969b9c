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


@pytest.fixture
def run(nlpcli_command, environment, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """`run("score", "--metric", "bleu", stdin="...")` in an empty folder; stdin, stdout and stderr are text (UTF-8)."""

    def call(*arguments: object, stdin: str | bytes = "", cwd: Path = tmp_path, **variables: str):
        data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*nlpcli_command, *map(str, arguments)],
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
