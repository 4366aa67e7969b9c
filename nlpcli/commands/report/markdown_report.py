"""A report in Markdown, to be pasted."""

from __future__ import annotations

from collections.abc import Sequence

from nlpcli.commands.report import report_wording
from nlpcli.commands.report.report import Report
from nlpcli.escaping import escaped

_SHOWN = 4  # outputs of a run for one sample


def as_markdown(report: Report, *, picture: str | None = None) -> str:
    """picture: the name of the file with the curves, if one is written beside."""
    title = "Report: " + ", ".join(report.names)
    lines = [f"# {escaped(title)}", ""]
    lines += _table(
        ["", *map(_code, report.names)], [[name, *map(escaped, cells)] for name, cells in report_wording.facts(report)]
    )
    lines += _scores(report)
    if picture:
        lines += [
            "## Curves",
            "",
            f"![curves of {escaped(', '.join(report.names))}]({picture.replace(' ', '%20')})",
            "",
        ]
    if report.curves.left_out:
        lines += [f"Not drawn: {', '.join(map(_code, report.curves.left_out))} (add `--metric NAME` to draw one).", ""]
    if report.differences:
        rows = [
            [_code(name), *(_code(report_wording.setting(v)) for v in values)]
            for name, values in report.differences.items()
        ]
        lines += ["## Settings that differ", "", *_table(["setting", *map(_code, report.names)], rows)]
    lines += _samples(report)
    if report.missing:
        lines += ["## What is missing", "", *(f"- {escaped(sentence)}" for sentence in report.missing), ""]
    return "\n".join(lines).rstrip() + "\n"


def _scores(report: Report) -> list[str]:
    if not report.metrics:
        return []
    rows = [
        [f"**{escaped(m)}**" if report.decides(m) else escaped(m),
         *(report_wording.score(report.score(i, m)) for i in range(len(report.runs)))]
        for m in report.metrics
    ]  # fmt: skip
    lines = ["## Scores of the best checkpoint on the dev set", "", *_table(["", *map(_code, report.names)], rows)]
    if any(score.low is not None for own in report.scores for score in own):
        lines += ["In brackets: the 95 % bootstrap interval.", ""]
    if report.paired:
        rows = [
            [
                _code(p.run),
                escaped(p.metric),
                report_wording.difference(p),
                f"{p.p_value:.3f}",
                report_wording.verdict(p),
                f"{p.items:,}",
            ]
            for p in report.paired
        ]
        heads = ["run", "metric", "difference", "p", "", "items"]
        lines += [f"Differences from {_code(report.names[0])}, by paired bootstrap:", "", *_table(heads, rows)]
    signatures = report_wording.signatures(report)
    if signatures:
        lines += ["Signatures:", "", *(f"- {escaped(name)}: `{signature}`" for name, signature in signatures), ""]
    return lines


def _samples(report: Report) -> list[str]:
    if not report.samples:
        return []
    lines = ["## Samples", ""]
    for number, sample in enumerate(report.samples, start=1):
        part = f" ({escaped(sample.part)})" if sample.part else ""
        lines += [f"{number}. {escaped(sample.text)}{part}", f"   - reference: {escaped(sample.reference)}"]
        for name, outputs in zip(report.names, sample.outputs, strict=True):
            whose = f"{_code(name)}, " if len(report.names) > 1 else ""
            for output in report_wording.some(outputs, _SHOWN):
                more = f" ({escaped(output.more)})" if output.more else ""
                lines.append(
                    f"   - {whose}{report_wording.at(output)}: {escaped(output.text) or report_wording.NOTHING}{more}"
                )
        lines.append("")
    return lines


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", *["---"] * (len(headings) - 1)], *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _code(text: str) -> str:
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""
