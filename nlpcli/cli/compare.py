"""`nlpcli compare`: run a grid of trainings at equal cost, and lay them side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import terminal, training
from nlpcli.cli.spread import Spreading


class Command(Spreading):
    """Options that take several values at once."""

    spread: ClassVar = ("--train", "--data", "--dev", "--test", "--cells", "--rerun")


def command(
    grid: Path = typer.Argument(..., metavar="GRID", help="A YAML file: a base, what the cells change, what is equal."),
    train: list[str] = typer.Option(None, "--train", "--data", metavar="FILE...", help="Text to train on."),
    dev: list[str] = typer.Option(None, "--dev", metavar="FILE...", help="Held-out text that cells are measured on."),
    test: list[str] = typer.Option(
        None, "--test", metavar="FILE...", help="SOURCE TARGET: finished translators are scored on it (BLEU)."
    ),
    out: Path = typer.Option(None, "--out", "-o", metavar="DIR", help="The grid's folder, else runs/NAME."),
    cells: list[str] = typer.Option(None, "--cells", metavar="CELL...", help="Run these only."),
    rerun: list[str] = typer.Option(None, "--rerun", metavar="CELL...", help="Repeat these, finished or not."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Repeat all cells."),
    overrides: list[str] = training.SET,
    tokenizer: Path = typer.Option(
        None, "--tokenizer", metavar="DIR", help="A finished tokenizer for all cells; else one is trained."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the grid, show its cells, and train nothing."),
    format: str = typer.Option("terminal", "--format", "-f", help="Of the table: terminal, markdown, csv or json."),
    report: Path = typer.Option(
        None, "--report", metavar="FILE.md", help="Also write the table and the picture as a page in Markdown."
    ),
) -> None:
    """Run a grid of trainings at equal cost, and lay them side by side.

    \b
    nlpcli compare grid.yaml --train train.en train.de --dev val.en val.de
    nlpcli compare grid.yaml --dry-run
    nlpcli compare grid.yaml --cells base heads-1

    The same call again goes on where it stopped, and repeats nothing that is finished. Ctrl-C saves first.
    """
    from nlpcli.recipes.comparison import Comparing, compare

    job = Comparing(
        grid, tuple(train or ()), tuple(dev or ()), tuple(test or ()), out, tuple(overrides or ()), _names(cells),
        _names(rerun), overwrite, tokenizer, training.command_line(),
    )  # fmt: skip
    with training.watched("compare", again=_again()) as watcher:
        results = compare(job, watcher)
    terminal.write_json(results.as_dict())


def _names(given: list[str] | None) -> tuple[str, ...]:
    """Names that are separated by blanks or commas."""
    return tuple(name for text in given or () for name in text.split(",") if name)


def _again() -> str:
    """The call that goes on with what this one began: nothing is repeated once more."""
    arguments = list(sys.argv[1:])
    kept: list[Any] = []
    dropping = False
    for argument in arguments:
        if argument.startswith("-"):
            dropping = argument == "--rerun"
        if not dropping and argument != "--overwrite":
            kept.append(argument)
    return shlex.join(["nlpcli", *kept])
