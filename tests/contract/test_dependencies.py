"""The bounds of dependencies in `pyproject.toml`, and the versions that the workflow tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _constraint(name: str) -> tuple[int, ...]:
    found = re.fullmatch(r"torch==([\d.]+)\n", (ROOT / ".github" / f"torch-{name}.txt").read_text())
    return tuple(map(int, found[1].split(".")))


def test_the_workflow_tests_the_oldest_and_the_newest_torch_that_are_allowed():
    bounds = re.search(r'"torch>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    oldest, above = (tuple(map(int, version.split("."))) for version in bounds.groups())
    assert _constraint("oldest")[:2] == oldest[:2]
    assert _constraint("newest")[:2] == (above[0], above[1] - 1)
