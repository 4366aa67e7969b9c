"""`nlpcli report`: reports on runs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import shared_options, terminal
from nlpcli.cli.multiple_values import MultiValueCommand


class Command(MultiValueCommand):
    """`--metric` takes several names at once."""

    multi_value_options: ClassVar = ("--metric",)
    exclusive: ClassVar = (("json", "format"),)


def command(
    runs: list[Path] = typer.Argument(
        None,
        metavar="RUN",
        help="Folders of runs, or folders that contain runs. The first run is the baseline for significance tests. "
        "Default: the latest run in runs/.",
    ),
    out: Path = typer.Option(
        None, "--out", metavar="FILE", help="Write the report to this file instead of standard output."
    ),
    format: str = typer.Option(
        None,
        "--format",
        help="Format of the report: terminal, html, markdown, png, svg, pdf or json. Default: by the file name of "
        "--out, or else terminal.",
    ),
    json: bool = shared_options.JSON_AS_FORMAT,
    x: str = typer.Option("step", "--x", help="X axis of the learning curves: step, tokens, minutes or flops."),
    metric: list[str] = typer.Option(
        None,
        "--metric",
        metavar="NAME...",
        help="Draw the learning curves of the loss and of these metrics only. Default: the metrics that all runs have.",
    ),
    samples: int = typer.Option(
        5, "--samples", min=0, help="Number of dev set examples. The report shows the outputs of the model for them."
    ),
    confidence: bool = typer.Option(
        None,
        "--confidence/--no-confidence",
        help="Compute 95 % confidence intervals, and paired significance tests, by bootstrap resampling. Default: on.",
    ),
    bootstrap: int = typer.Option(None, "--bootstrap-samples", help="Number of bootstrap resamples. Default: 1000."),
    seed: int = typer.Option(None, "--seed", help="Random seed of the bootstrap. Default: 12345."),
    theme: str = typer.Option(None, "--theme", help="Theme of figures: light (the default) or dark."),
    width: int = typer.Option(
        None,
        "--width",
        min=40,
        help="Width of the report in columns, for the format terminal. Default: the width of the terminal, or 80.",
    ),
    ascii: bool = typer.Option(False, "--ascii", help="For the format terminal: use ASCII characters only."),
) -> None:
    """Report on one or more runs: learning curves, scores with confidence intervals, outputs, cost.

    The report on several runs also shows the settings that differ. It tests whether the scores of each run differ
    significantly from those of the first run.

    \b
    nlpcli report runs/ende
    nlpcli report runs/ende runs/ende-large --out report.html
    nlpcli report runs/seeds --x minutes --format markdown --out report.md
    """
    from nlpcli.commands.report.report import ReportRequest, make_report
    from nlpcli.commands.report.report_formats import PICTURES, format_of, text_of, write_report
    from nlpcli.evaluation import Resampling

    form = format_of("json" if json else format, out)
    for name, given, of in (
        ("--theme", theme, (*PICTURES, "markdown")), ("--width", width, ("terminal",)),
        ("--ascii", ascii or None, ("terminal",)), ("--samples", None if samples == 5 else samples, _WORDS),
        ("--confidence" if confidence else "--no-confidence", confidence, _WORDS),
        ("--bootstrap-samples", bootstrap, _WORDS), ("--seed", seed, _WORDS),
    ):  # fmt: skip
        if given is not None and form not in of:
            terminal.warn(f"{name} has no effect on a report in the format {form}")
        elif given is not None and confidence is False and name in ("--bootstrap-samples", "--seed"):
            terminal.warn(f"{name} has no effect with --no-confidence")
    drawn = form not in PICTURES and confidence is not False
    resampling = Resampling(1000 if bootstrap is None else bootstrap, 12345 if seed is None else seed)
    request = ReportRequest(
        runs=tuple(runs or ()),
        x=x,
        metrics=tuple(metric or ()),
        resampling=resampling if drawn else None,
        samples=samples,
    )
    report = make_report(request, notify=terminal.notify)
    columns, colors = width or _columns(out), theme or "light"
    if out is None:
        terminal.stdout().write(text_of(report, form, width=columns, unicode=not ascii, theme=colors))
        return
    for path in write_report(report, out, form, width=columns, unicode=not ascii, theme=colors):
        terminal.write_line(str(path))


_WORDS = ("terminal", "html", "markdown", "json")


def _columns(out: Path | None) -> int:
    if out is not None or not terminal.stdout().isatty():
        return 80
    import shutil

    return shutil.get_terminal_size().columns
