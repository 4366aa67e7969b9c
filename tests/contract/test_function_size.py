"""No function of the package is too long to be read at once, or takes more arguments than a reader keeps in mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nlpcli

ROOT = Path(nlpcli.__file__).parent
LINES, ARGUMENTS = 60, 8
COMMANDS = {"command", "train", "encode"}  # `nlpcli tokenize train` and `encode` beside the others
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def is_command(path: Path, function: Function) -> bool:
    """Whether its arguments are the options of a command, which Typer reads from its signature."""
    return path.parent == ROOT / "cli" and function.name in COMMANDS


def excess(function: Function) -> str:
    """What is too much of a function, empty where nothing is."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    count = len(arguments) - (bool(arguments) and arguments[0].arg in ("self", "cls"))
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    return ", ".join([f"{lines} lines"] * (lines > LINES) + [f"{count} arguments"] * (count > ARGUMENTS))


def test_functions_are_short_and_take_few_arguments():
    found = {
        f"{path.relative_to(ROOT)}: {function.name}": too_much
        for path in ROOT.rglob("*.py")
        for function in functions(path.read_text(encoding="utf-8"))
        if not is_command(path, function) and (too_much := excess(function))
    }
    assert found == {}


def test_what_is_too_much_is_noticed():
    long = "def f():\n" + "    pass\n" * LINES
    many = f"def f(self, {', '.join(f'a{i}' for i in range(ARGUMENTS))}, *, more): ..."
    assert [excess(one) for one in functions(long + many)] == ["61 lines", "9 arguments"]
