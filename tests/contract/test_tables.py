"""Every entry of every table of choices leads to something, and the choices a shell completes are the tables' own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nlpcli.cli import shell_completion
from nlpcli.evaluation import METRICS
from nlpcli.runs.pretraining import OBJECTIVES
from nlpcli.tasks import TASKS
from nlpcli.text import TOKENIZERS

TABLES = {table.kind: table for table in (METRICS, OBJECTIVES, TASKS, TOKENIZERS)}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_every_entry_can_be_loaded(kind, name):
    assert TABLES[kind].load(name) is not None


@pytest.mark.parametrize("choices", ["presets", "objectives", "tasks", "metrics", "tokenizers"])
def test_completing_a_choice_imports_no_torch(choices, environment):
    probe = (
        "import sys\nfrom nlpcli.cli import shell_completion\n"
        f"assert shell_completion.{choices}(''), 'nothing offered'\n"
        "assert 'torch' not in sys.modules, 'torch'\nassert 'numpy' not in sys.modules, 'numpy'"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_completion_offers_what_begins_with_what_was_typed():
    assert shell_completion.presets("transformer-b")
    assert all(name.startswith("transformer-b") for name in shell_completion.presets("transformer-b"))
