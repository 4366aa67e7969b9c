"""For every test: one thread a worker, set before torch can be imported, and no folder of the person who runs them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import nlpcli

COMMAND_SERVER = Path(__file__).parent / "shared" / "command_server.py"

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
for name in ("NLPCLI_TRACEBACK", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
    os.environ.pop(name, None)
# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("nlpcli", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("nlpcli")


def pytest_collection_finish() -> None:
    """Modules and tests live to the end. Otherwise each training of a test would search them for garbage."""
    gc.collect()
    gc.freeze()
    frozen = gc.get_freeze_count()
    gc.get_freeze_count = lambda: frozen  # counting a million objects takes a while, and each training asks


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Encoded texts are cached in a folder of the test run."""
    monkeypatch.setenv("NLPCLI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def denormals_kept() -> Iterator[None]:
    """Training flushes denormal numbers in its process; the next test of this one must not inherit that."""

    def keep() -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_flush_denormal(False)

    keep()
    yield
    keep()


def _environment() -> dict[str, str]:
    root = Path(nlpcli.__file__).resolve().parents[1]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def environment() -> dict[str, str]:
    """What a child process needs to be this same program, whether installed or not."""
    return _environment()


@pytest.fixture(scope="session")
def served_command(tmp_path_factory) -> Iterator[list[str]]:
    """The words that call `nlpcli` in a new process of a server that has imported everything: `command_server.py`."""
    path = tmp_path_factory.mktemp("server") / "socket"
    server = [sys.executable, str(COMMAND_SERVER), "serve", str(path)]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield [sys.executable, "-S", "-E", str(COMMAND_SERVER), "call", str(path)]
        process.terminate()
