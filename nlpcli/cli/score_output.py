"""Writes the results of `nlpcli score`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.cli import terminal

if TYPE_CHECKING:
    from nlpcli.commands.score.score import ScoreReport
    from nlpcli.evaluation import Score


def write_sentences(
    found: Iterable[tuple[Any, list[Score]]], names: Sequence[str], *, json: bool, decimals: int
) -> None:
    """One line for each example, a column or key for each metric; the signatures go to stderr.

    found: what a system has for an example, and its scores by the metrics of these names.
    """
    for number, (item, row) in enumerate(found):
        if not number:
            for score in row:
                terminal.notify(score.signature)
        if json:
            text = {"text": item} if isinstance(item, str) else {}
            scores = [score.as_dict(name) for name, score in zip(names, row, strict=True)]
            terminal.write_json({**text, "scores": scores})
        else:
            terminal.write_line("\t".join(f"{score.value:.{decimals}f}" for score in row))


def write_numbers(report: ScoreReport, decimals: int) -> None:
    """The bare values, a line each; the signatures go to stderr."""
    for row in report.scores:
        terminal.write_line(f"{row.score.value:.{decimals}f}")
    for signature in dict.fromkeys(row.score.signature for row in report.scores):
        terminal.notify(signature)


def write_report(report: ScoreReport, decimals: int) -> None:
    """A line for each score of one system; a table and its signature for each metric of several."""
    if len({(row.system, row.baseline) for row in report.scores}) == 1:
        for row in report.scores:
            terminal.write_report(row.score.line(decimals))
        return
    for metric in dict.fromkeys(row.metric for row in report.scores):
        rows = [row for row in report.scores if row.metric == metric]
        columns = {
            "system": [f"{row.system} (baseline)" if row.baseline else row.system for row in rows],
            rows[0].score.name: [f"{row.score.value:.{decimals}f}" for row in rows],
            "95 % interval": [row.score.interval(decimals) for row in rows],
            "p": ["" if row.score.p_value is None else f"{row.score.p_value:.4f}" for row in rows],
        }
        columns = {heading: cells for heading, cells in columns.items() if any(cells)}
        terminal.write_table(list(columns), zip(*columns.values(), strict=True))
        terminal.write_report(rows[0].score.signature)


def alignment_width() -> int | None:
    """Columns to keep an alignment within on a terminal; elsewhere a segment stays on its line."""
    if not terminal.stdout().isatty():
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)
