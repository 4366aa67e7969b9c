"""Every command line and every line of Python in README and docs runs as it stands, page by page, with short trainings
and the first lines of the sample data.

A line that ends in `# your files` names files that only a reader has; it is parsed by `test_documentation.py`, not run.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_server import SHORTENED

import nlpcli

ROOT = Path(nlpcli.__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = "# your files"
_COMMAND = re.compile(r"(?:nlpcli|echo|cat|zcat|printf|head) ")
_LINES = 40  # that a dev or test file keeps
_TRAINING_LINES = 1500


def shell_lines(page: Path) -> list[str]:
    """The lines a reader can type: commands in indented blocks, and in tables the column headed "command"."""
    lines = []
    column = None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        column = column if cells else None
        if "command" in cells:
            column = cells.index("command")
        code = re.match(r"    (?:\$ )?(\S.*)", line)
        if column is not None and column < len(cells):
            code = re.fullmatch(r"`(nlpcli .*)`", cells[column])
        if code and _COMMAND.match(code[1]):
            lines.append(code[1])
    return lines


def written_files(page: Path) -> dict[str, str]:
    """Files that a page has its reader write: the name in backquotes before a block of YAML. Budgets are small."""
    text = page.read_text(encoding="utf-8").replace("tokens: 2500000", "tokens: 2000")
    return dict(re.findall(r"`([\w.-]+\.yaml)`:\n\n```yaml\n(.*?)```", text, re.DOTALL))


def to_run(page: Path) -> list[str]:
    return [line for line in shell_lines(page) if not line.endswith(PLACEHOLDER) and "COMMAND" not in line]


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> Path:
    """The sample data, of every file its first lines."""
    folder = tmp_path_factory.mktemp("shortened") / "sample_data"
    for source in (ROOT / "sample_data").rglob("*"):
        if source.is_file():
            target = folder / source.relative_to(ROOT / "sample_data")
            target.parent.mkdir(parents=True, exist_ok=True)
            with (gzip.open if source.suffix == ".gz" else open)(target, "wt", encoding="utf-8") as file:
                file.write(shortened(source))
    return folder


@pytest.fixture
def project(tmp_path, samples, served_command) -> Path:
    """A folder like the checkout, with short sample data, and `nlpcli` on the PATH."""
    binary = tmp_path / "bin" / "nlpcli"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec {shlex.join(served_command)} "$@"\n')
    binary.chmod(0o755)
    folder = tmp_path / "project"
    folder.mkdir()
    for source in (samples, ROOT / "benchmarks", ROOT / "docs"):
        (folder / source.name).symlink_to(source)
    return folder


def shortened(path: Path) -> str:
    """The start of a file: little to measure on, and enough to train a tokenizer on."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        text = file.read()
    count = _LINES if path.name.startswith(("dev.", "test.")) else _TRAINING_LINES
    if ".json" in path.suffixes:
        data = json.loads(text)
        data["data"] = data["data"][:count]
        return json.dumps(data)
    if ".conll" in path.suffixes:
        return "\n\n".join(text.split("\n\n")[:count]) + "\n"
    return "".join(text.splitlines(keepends=True)[:count])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page, project, samples, tmp_path):
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", SHORTENED: str(samples)}
    for name, text in written_files(page).items():
        (project / name).write_text(text, encoding="utf-8")
    failed = []
    for line in to_run(page):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=project, env=environment, capture_output=True, timeout=300,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != expected_status(page, line):
            failed.append(f"{line}\n    status {done.returncode}: {done.stderr.decode()[-400:]}")
    assert not failed, "\n" + "\n".join(failed)


def python_lines(page: Path) -> str:
    """The Python of a page that uses the program, its trainings cut to two steps."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    code = re.sub(r"max_minutes=[\d.]+", "max_steps=2", "\n".join(blocks))
    return code if "import nlpcli" in code else ""


@pytest.mark.parametrize("page", [page for page in PAGES if python_lines(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_in_its_order(page, project, environment):
    done = subprocess.run(
        [sys.executable, "-c", python_lines(page)], cwd=project, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "print(" not in python_lines(page) or done.stdout


def test_python_is_shown_by_the_readme_and_its_page_for_every_function():
    shown = [python_lines(ROOT / name) for name in ("README.md", "docs/python.md")]
    assert all(shown)
    names = ("pretrain", "finetune", "translate", "generate", "predict", "score", "evaluate", "embed", "load")
    assert [name for name in names if f"nlpcli.{name}(" not in shown[1]] == []


def expected_status(page: Path, line: str) -> int:
    """2 for a call that a page shows together with its error, else 0."""
    text = page.read_text(encoding="utf-8")
    return 2 if f"$ {line}\n    nlpcli: " in text else 0


def test_the_pages_have_commands_and_few_of_them_are_placeholders():
    lines = [line for page in PAGES for line in shell_lines(page)]
    placeholders = [line for line in lines if line.endswith(PLACEHOLDER)]
    assert len(lines) > 150
    assert len(placeholders) < len(lines) / 6


def test_short_files_are_still_of_their_kind():
    labelled = ROOT / "sample_data" / "labelled"
    with gzip.open(labelled / "find-translation" / "train.json.gz", "rt", encoding="utf-8") as file:
        assert set(json.loads(shortened(labelled / "find-translation" / "dev.json"))) == set(json.load(file))
    assert shortened(labelled / "names" / "dev.conll").count("\n\n") == _LINES - 1
