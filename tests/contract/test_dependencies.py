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


def test_the_workflow_tests_the_lower_bound_of_every_dependency():
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)', listed[1])
    assert len(bounds) == listed[1].count('"') // 2
    assert (ROOT / ".github" / "oldest.txt").read_text() == "".join(f"{name}=={bound}\n" for name, bound in bounds)


def test_what_the_workflow_tests_with_the_oldest_dependencies_is_there():
    named = (ROOT / ".github" / "oldest-tests.txt").read_text().split()
    assert named and all((ROOT / name).exists() for name in named)
