"""How often the way of a command changes its package.

    python benchmarks/structure/package_changes.py [--show pretrain]

Runs each command at a small size, as from the command line, and notes the first call of each function of nlpcli, with
the package of that function (`nlpcli.runs`, `nlpcli.models`, …; the modules right below `nlpcli` are no package). The
number of a command says how often a first call is in another package than the first call before it. `--show` prints the
way of one command: a line for each stretch in one package, with the functions in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nlpcli"


def first_calls(run: Callable[[], object]) -> list[tuple[str, str]]:
    """(package, function) of each function of nlpcli that `run` calls, in the order of their first calls."""
    seen: set[Any] = set()
    found: list[tuple[str, str]] = []
    inside = str(PACKAGE) + os.sep

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or code in seen:
            return
        seen.add(code)
        if not code.co_filename.startswith(inside) or code.co_name.startswith("<"):
            return
        file = Path(code.co_filename).relative_to(PACKAGE)
        if len(file.parts) > 1 and _is_call(frame):
            name = getattr(code, "co_qualname", code.co_name)  # Python 3.10 has no qualified ones
            found.append((file.parts[0], f"{'/'.join(file.with_suffix('').parts)}:{name}"))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def _is_call(frame: FrameType) -> bool:
    """False for the bodies of modules and classes, which run when a module is imported."""
    return bool(frame.f_code.co_flags & 1)  # optimized: a function


def changes(calls: list[tuple[str, str]]) -> int:
    packages = [package for package, _ in calls]
    return sum(one != other for one, other in pairwise(packages))


def command(*arguments: str) -> Callable[[], object]:
    def run() -> None:
        from nlpcli.cli.main import main

        sys.argv = ["nlpcli", *arguments]
        if code := main():
            sys.exit(code)

    return run


def ways(folder: Path) -> dict[str, Callable[[], object]]:
    """The commands, of which the later ones use the models that the earlier ones leave."""
    return {
        "pretrain": command("pretrain", "--max-steps", "3", "--out", str(folder / "lm")),
        "finetune": command("finetune", "--max-steps", "3", "--out", str(folder / "mt")),
        "classify": command("finetune", "--task", "classify", "--max-steps", "3", "--out", str(folder / "labels")),
        "translate": command("translate", "--model", str(folder / "mt"), str(folder / "line.txt")),
        "predict": command("predict", "--model", str(folder / "labels"), str(folder / "line.txt")),
        "picture": command("visualize-attention", "--model", str(folder / "mt"), "two dogs run"),
    }


def _record(run: Callable[[], object], output: Path, found: Path) -> int:
    """Runs a command, with what it prints in `output`, and writes its first calls to `found`. Gives an exit status."""
    with open(output, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            calls = first_calls(run)
        except SystemExit:
            return 1
    found.write_text("".join(f"{package}\t{function}\n" for package, function in calls), encoding="utf-8")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", help="the way of this command, stretch by stretch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "line.txt").write_text("two dogs run\n", encoding="utf-8")
        for what, run in ways(folder).items():
            output, found = folder / f"{what}.txt", folder / f"{what}.tsv"
            child = os.fork()  # each command in a process of its own: set-up is part of its way
            if child == 0:
                os._exit(_record(run, output, found))
            if os.waitpid(child, 0)[1]:
                sys.exit(f"{what} failed:\n{output.read_text(encoding='utf-8')}")
            lines = found.read_text(encoding="utf-8").splitlines()
            calls = [(line.split("\t")[0], line.split("\t")[1]) for line in lines]
            if options.show in (None, what):
                print(f"{what}\t{changes(calls)}", flush=True)
            if options.show == what:
                for package, stretch in groupby(calls, key=lambda call: call[0]):
                    print(f"  {package:14}", *(function.partition("/")[2] for _, function in stretch))


if __name__ == "__main__":
    main()
