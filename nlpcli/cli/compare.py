"""`nlpcli compare`: run a grid of trainings at equal cost, and lay them side by side."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import terminal, training_options
from nlpcli.cli.multiple_values import Spreading
from nlpcli.errors import RunFailed, unknown

_FORMATS = ("terminal", "markdown", "csv", "json")


class Command(Spreading):
    """Options that take several values at once."""

    spread: ClassVar = ("--train", "--data", "--dev", "--test", "--cells", "--rerun")
    exclusive: ClassVar = (("json", "format"), ("dry_run", "report"), ("dry_run", "rerun"))


def command(
    grid: Path = typer.Argument(
        ..., metavar="GRID", help="A YAML file: the base settings, what each cell changes, what is kept equal."
    ),
    train: list[str] = typer.Option(None, "--train", "--data", metavar="FILE...", help="Training text or examples."),
    dev: list[str] = typer.Option(None, "--dev", metavar="FILE...", help="Dev set; all cells are evaluated on it."),
    test: list[str] = typer.Option(
        None, "--test", metavar="FILE...", help="SOURCE TARGET: test set; finished translators are scored on it (BLEU)."
    ),
    out: Path = typer.Option(None, "--out", metavar="DIR", help="The grid's folder. Default: runs/NAME."),
    cells: list[str] = typer.Option(None, "--cells", metavar="CELL...", help="Train only these cells."),
    rerun: list[str] = typer.Option(
        None, "--rerun", metavar="CELL...", help="Train these cells again, finished or not."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Train all cells again, or those of --cells."),
    overrides: list[str] = training_options.SET,
    tokenizer: Path = typer.Option(
        None, "--tokenizer", metavar="DIR", help="A trained tokenizer for all cells. Default: train one."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the grid and show its cells without training."),
    format: str = typer.Option("terminal", "--format", help="Format of the table: terminal, markdown, csv or json."),
    json: bool = typer.Option(False, "--json", help="The same as --format json."),
    report: Path = typer.Option(
        None, "--report", metavar="FILE.md", help="Also write a Markdown file with the table and the figure."
    ),
) -> None:
    """Train a grid of models at equal cost and compare the results.

    \b
    nlpcli compare grid.yaml --train train.en train.de --dev val.en val.de
    nlpcli compare grid.yaml --dry-run
    nlpcli compare grid.yaml --cells base heads-1 --train train.en train.de --dev val.en val.de

    The same command again resumes where it stopped; finished cells are not repeated.
    Ctrl-C saves a checkpoint and stops.
    """
    if json:
        format = "json"
    if format not in _FORMATS:
        raise unknown("format", format, _FORMATS)
    from nlpcli.commands.compare import Comparing, compare, preview, write_report

    job = Comparing(
        grid, tuple(train or ()), tuple(dev or ()), tuple(test or ()), out, tuple(overrides or ()), _names(cells),
        _names(rerun), overwrite, tokenizer, training_options.command_line(),
    )  # fmt: skip
    if dry_run:
        _write_preview(preview(job), format)
        return
    with training_options.watched("compare", again=_again()) as watcher:
        results = compare(job, watcher)
        if report is not None:
            write_report(results, report, watcher)
    _write(results, format)
    if results.failed:
        names = " ".join(row.name for row in results.failed)
        raise RunFailed(f"failed: {names}", hint=f"fix the cause, then train them again with --rerun {names}")


def _names(given: list[str] | None) -> tuple[str, ...]:
    """Names that are separated by blanks or commas."""
    return tuple(name for text in given or () for name in text.split(",") if name)


def _again() -> str:
    """The call that goes on with what this one began, without repeating anything once more."""
    kept: list[str] = []
    dropping = False
    for argument in sys.argv[1:]:
        if argument.startswith("-"):
            dropping = argument == "--rerun"
        if not dropping and argument != "--overwrite" and not argument.startswith("--rerun="):
            kept.append(argument)
    return shlex.join(["nlpcli", *kept])


def _write(results: Any, format: str) -> None:
    from nlpcli.commands.compare import results_table

    if format == "json":
        terminal.write_json(results.as_dict())
    elif format == "csv":
        terminal.stdout().write(results_table.as_csv(results))
    elif format == "markdown":
        terminal.stdout().write(results_table.markdown(results))
    else:
        found = results_table.table(results, width=_width())
        _write_lines(results_table.text_lines(found))
        for name, matrix in results_table.matrices(results):
            terminal.write_line()
            terminal.write_report(name)
            _write_lines(results_table.text_lines(matrix))
        for note in found.notes:
            terminal.say(note)


def _width() -> int | None:
    """Columns of the terminal; a file or a pipe takes any."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write_lines(lines: Iterable[list[tuple[str, bool]]]) -> None:
    for pieces in lines:
        terminal.write_styled([(text, "bold green" if best else "") for text, best in pieces])


def _write_preview(cells: list[dict[str, Any]], format: str) -> None:
    if format == "json":
        terminal.write_json(cells)
        return
    headings = ["cell", "parameters", "FLOPs/token", "state", "changes"]
    rows = [
        [cell["cell"], f"{cell['parameters']:,}", f"{cell['flops_per_token']:,.0f}", cell["state"],
         _changes(cell["changes"])]
        for cell in cells
    ]  # fmt: skip
    if format == "terminal":
        terminal.write_table(headings, rows)
        return
    from nlpcli.commands.compare import results_table

    terminal.stdout().write(results_table.plain(headings, rows, format))


def _changes(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in changes.items()) or "–"
