"""A report in Markdown, to be pasted."""

from __future__ import annotations

from collections.abc import Sequence

from nlpcli.recipes.reporting import words
from nlpcli.recipes.reporting.report import Report

_SHOWN = 4  # outputs of a run for one sample


def as_markdown(report: Report, *, picture: str | None = None) -> str:
    """picture: the name of the file with the curves, if one is written beside."""
    title = "Report: " + ", ".join(report.names)
    lines = [f"# {_plain(title)}", ""]
    lines += _table(
        ["", *map(_code, report.names)], [[name, *map(_plain, cells)] for name, cells in words.facts(report)]
    )
    lines += _scores(report)
    if picture:
        lines += ["## Curves", "", f"![curves of {_plain(', '.join(report.names))}]({picture.replace(' ', '%20')})", ""]
    if report.curves.left_out:
        lines += [f"Not drawn: {', '.join(map(_code, report.curves.left_out))} (`--metric NAME` draws them).", ""]
    if report.differences:
        rows = [
            [_code(name), *(_code(words.setting(v)) for v in values)] for name, values in report.differences.items()
        ]
        lines += ["## Settings that differ", "", *_table(["setting", *map(_code, report.names)], rows)]
    lines += _samples(report)
    if report.missing:
        lines += ["## What is missing", "", *(f"- {_plain(sentence)}" for sentence in report.missing), ""]
    return "\n".join(lines).rstrip() + "\n"


def _scores(report: Report) -> list[str]:
    if not report.metrics:
        return []
    rows = [
        [f"**{_plain(m)}**" if any(m == run.metric for run in report.runs) else _plain(m),
         *(words.score(report.score(i, m)) for i in range(len(report.runs)))]
        for m in report.metrics
    ]  # fmt: skip
    lines = ["## Scores of the weights kept, on held-out data", "", *_table(["", *map(_code, report.names)], rows)]
    if any(score.low is not None for own in report.scores for score in own):
        lines += ["In brackets: the 95 % interval by bootstrap.", ""]
    if report.paired:
        rows = [
            [_code(p.run), _plain(p.metric), words.difference(p), f"{p.p_value:.3f}", words.verdict(p), f"{p.items:,}"]
            for p in report.paired
        ]
        heads = ["run", "metric", "difference", "p", "", "items"]
        lines += [f"Against {_code(report.names[0])}, by paired bootstrap:", "", *_table(heads, rows)]
    signatures = words.signatures(report)
    if signatures:
        lines += ["Signatures:", "", *(f"- {_plain(name)}: `{signature}`" for name, signature in signatures), ""]
    return lines


def _samples(report: Report) -> list[str]:
    if not report.samples:
        return []
    lines = ["## Samples", ""]
    for number, sample in enumerate(report.samples, start=1):
        part = f" ({_plain(sample.part)})" if sample.part else ""
        lines += [f"{number}. {_plain(sample.text)}{part}", f"   - right: {_plain(sample.reference)}"]
        for name, outputs in zip(report.names, sample.outputs, strict=True):
            whose = f"{_code(name)}, " if len(report.names) > 1 else ""
            for output in words.some(outputs, _SHOWN):
                more = f" ({_plain(output.more)})" if output.more else ""
                lines.append(f"   - {whose}{words.at(output)}: {_plain(output.text) or words.NOTHING}{more}")
        lines.append("")
    return lines


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", *["---"] * (len(headings) - 1)], *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~$"})


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return " ".join(text.split()).translate(_SPECIAL)


def _code(text: str) -> str:
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""
