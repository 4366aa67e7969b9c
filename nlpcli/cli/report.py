"""`nlpcli report`: how runs went."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import terminal
from nlpcli.cli.multiple_values import Spreading


class Command(Spreading):
    """`--metric` takes several names at once."""

    spread: ClassVar = ("--metric",)
    exclusive: ClassVar = (("json", "format"),)


def command(
    runs: list[Path] = typer.Argument(
        None,
        metavar="[RUN]...",
        help="Runs, or folders of runs; the others are compared with the first. "
        "Default: the newest run directly below runs/.",
    ),
    out: Path = typer.Option(None, "--out", metavar="FILE", help="Write the report to this file."),
    format: str = typer.Option(
        None, "--format", help="terminal, html, markdown, png, svg, pdf or json. Default: by the file's name."
    ),
    json: bool = typer.Option(False, "--json", help="The same as --format json."),
    x: str = typer.Option("step", "--x", help="X axis of the curves: step, tokens, minutes or flops."),
    metric: list[str] = typer.Option(
        None, "--metric", metavar="NAME...", help="Draw only the curves of these metrics, and the loss."
    ),
    samples: int = typer.Option(5, "--samples", min=0, help="Number of dev set examples whose outputs are shown."),
    confidence: bool = typer.Option(
        None,
        "--confidence/--no-confidence",
        help="95 % confidence intervals and paired tests by bootstrap. Default: on.",
    ),
    bootstrap: int = typer.Option(
        None, "--bootstrap-samples", help="Number of resamples for intervals and tests. Default: 1000."
    ),
    seed: int = typer.Option(None, "--seed", help="Seed of the resampling. Default: 12345."),
    theme: str = typer.Option(None, "--theme", help="Theme of figures: light or dark (HTML follows the browser)."),
    width: int = typer.Option(None, "--width", min=40, help="Width in the terminal. Default: its width."),
    ascii: bool = typer.Option(False, "--ascii", help="Use ASCII characters only."),
) -> None:
    """Report on runs: learning curves, scores with intervals, cost, and outputs at each evaluation.

    For several runs, also show the settings that differ, and test whether differences in scores are significant.

    \b
    nlpcli report runs/ende
    nlpcli report runs/ende runs/ende-large --out report.html
    nlpcli report runs/seeds --x minutes --format markdown --out report.md
    """
    from nlpcli.commands.report.report import Asked, make_report
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
            terminal.warn(f"{name} has no effect on a report as {form}")
        elif given is not None and confidence is False and name in ("--bootstrap-samples", "--seed"):
            terminal.warn(f"{name} has no effect with --no-confidence")
    drawn = form not in PICTURES and confidence is not False
    resampling = Resampling(1000 if bootstrap is None else bootstrap, 12345 if seed is None else seed)
    asked = Asked(
        runs=tuple(runs or ()),
        x=x,
        metrics=tuple(metric or ()),
        resampling=resampling if drawn else None,
        samples=samples,
    )
    report = make_report(asked, say=terminal.say)
    look = {"width": width or _columns(out), "unicode": not ascii, "theme": theme or "light"}
    if out is None:
        terminal.stdout().write(text_of(report, form, **look))
        return
    for path in write_report(report, out, form, **look):
        terminal.write_line(str(path))


_WORDS = ("terminal", "html", "markdown", "json")


def _columns(out: Path | None) -> int:
    if out is not None or not terminal.stdout().isatty():
        return 80
    import shutil

    return shutil.get_terminal_size().columns
