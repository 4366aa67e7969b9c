"""`nlpcli compare`: train the cells of a grid with the same budget and compare the results."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from nlpcli.cli import shared_options, terminal, training_options
from nlpcli.cli.multiple_values import MultiValueCommand
from nlpcli.errors import RunFailed, unknown

if TYPE_CHECKING:
    from nlpcli.commands.compare.grid_results import Results

_FORMATS = ("terminal", "markdown", "csv", "json")


class Command(MultiValueCommand):
    """Options that take several values at once."""

    multi_value_options: ClassVar = ("--train", "--data", "--dev", "--test", "--cells", "--rerun")
    exclusive: ClassVar = (("json", "format"), ("dry_run", "report"), ("dry_run", "rerun"))


def command(
    grid: Path = typer.Argument(
        ...,
        metavar="GRID",
        help="YAML file with the base configuration, the changes of each cell, and the budget that all cells share.",
    ),
    train: list[str] = typer.Option(
        None,
        "--train",
        "--data",
        metavar="FILE...",
        help="Training text, or training examples of the task. Default: the data that the grid file names.",
    ),
    dev: list[str] = typer.Option(
        None,
        "--dev",
        metavar="FILE...",
        help="Dev set. All cells are evaluated on it. Default: the dev set that the grid file names.",
    ),
    test: list[str] = typer.Option(
        None,
        "--test",
        metavar="FILE...",
        help="For translation: test set, SOURCE TARGET. Each trained model translates it, and the table shows BLEU.",
    ),
    out: Path = typer.Option(
        None,
        "--out",
        metavar="DIR",
        help="Folder for the runs of all cells. Default: runs/NAME, with the name of the grid.",
    ),
    cells: list[str] = typer.Option(None, "--cells", metavar="CELL...", help="Train only the cells with these names."),
    rerun: list[str] = typer.Option(
        None, "--rerun", metavar="CELL...", help="Train the cells with these names again, even if they are finished."
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Train all cells again, even if they are finished; with --cells, only those."
    ),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of all cells, such as training.lr=0.001 (repeatable). It overrides the base "
        "configuration; a setting that a cell itself changes keeps the value of the cell.",
    ),
    tokenizer: Path = typer.Option(
        None,
        "--tokenizer",
        metavar="DIR",
        help="Folder of a trained tokenizer for all cells. Default: train a new one.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the grid and print its cells, without training."),
    format: str = typer.Option("terminal", "--format", help="Format of the table: terminal, markdown, csv or json."),
    json: bool = shared_options.JSON_AS_FORMAT,
    report: Path = typer.Option(
        None, "--report", metavar="FILE.md", help="Also write a report with the table and a figure, as Markdown."
    ),
) -> None:
    """Train several configurations with the same training budget and compare the results.

    A grid is a YAML file with a base configuration and variants of it. Each variant is a cell. All
    cells have the same budget, such as the number of tokens. See docs/comparing.md.

    \b
    nlpcli compare grid.yaml --train train.en train.de --dev val.en val.de
    nlpcli compare grid.yaml --dry-run
    nlpcli compare grid.yaml --cells base heads-1 --train train.en train.de --dev val.en val.de

    Ctrl-C saves a checkpoint and stops. The same command resumes the interrupted cell and skips finished cells.
    """
    if json:
        format = "json"
    if format not in _FORMATS:
        raise unknown("format", format, _FORMATS)
    from nlpcli.commands.compare import CompareRequest, compare, preview, write_report

    job = CompareRequest(
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
        what = "the cell" if len(results.failed) == 1 else "the cells"
        raise RunFailed(
            f"the training of {what} {names} failed",
            hint=f"fix the reported cause, then run the same command with --rerun {names}",
        )


def _names(given: list[str] | None) -> tuple[str, ...]:
    """Names that are separated by blanks or commas."""
    return tuple(name for text in given or () for name in text.split(",") if name)


def _again() -> str:
    """The call that resumes this one, without the options that apply only once."""
    words: list[str] = []
    dropping = False
    for argument in sys.argv[1:]:
        if argument.startswith("-"):
            dropping = argument == "--rerun"
        if not dropping and argument != "--overwrite" and not argument.startswith("--rerun="):
            words.append(argument)
    return shlex.join(["nlpcli", *words])


def _write(results: Results, format: str) -> None:
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
            terminal.notify(note)


def _width() -> int | None:
    """Columns of the terminal; a file or a pipe takes any."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write_lines(lines: Iterable[list[tuple[str, bool]]]) -> None:
    for parts in lines:
        terminal.write_styled([(text, "bold green" if best else "") for text, best in parts])


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
