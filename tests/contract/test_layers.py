"""The house has its floors: imports run downwards, and the command layer stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nlpcli

PACKAGE = Path(nlpcli.__file__).parent
ROOT = PACKAGE.parent
HEAVY = {
    "torch",
    "numpy",
    "sacrebleu",
    "sentencepiece",
    "tokenizers",
    "jiwer",
    "pydantic",
    "safetensors",
    "transformers",
}


def test_imports_run_downwards_only(environment):
    # In a process of its own: it draws with a thread that may outlive the call and close what a test's output goes to.
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _imports_at_module_level(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_imports_nothing_heavy_at_module_level(path):
    assert not HEAVY & _imports_at_module_level(path)


def test_nothing_that_is_loaded_is_unpickled():
    forbidden = ("import pickle", "from pickle", "torch.load(", "allow_pickle=True", "yaml.load(", "shell=True")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for word in forbidden
        if word in path.read_text(encoding="utf-8")
    ]
    # the one file a person may ask to have read, of which only tensors are taken
    assert found == ["nlpcli/convert/folder_files.py: torch.load("]
    reader = (PACKAGE / "convert" / "folder_files.py").read_text(encoding="utf-8")
    assert re.findall(r"torch\.load\(.*", reader) == ['torch.load(file, map_location="cpu", weights_only=True)']
