"""A report for a terminal: curves in letters and blocks, readable without color, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nlpcli.commands.report import report_wording
from nlpcli.commands.report.report import Report
from nlpcli.config.counting import counted
from nlpcli.escaping import printable
from nlpcli.visualization.charts import Panel, short_number
from nlpcli.visualization.text_charts import LETTERS, extent, plot, sparkline
from nlpcli.visualization.text_width import cells, cut, isolated, wrapped

_HEIGHT = 9
_SHOWN = 3
_LONGEST = 300  # characters of a sample


def as_text(report: Report, *, width: int = 80, unicode: bool = True) -> str:
    """width: in columns, at least 40. unicode: False for ASCII in what is drawn; texts are what they are."""
    width = max(40, width)
    lines = [*_heading(report, width), *_facts(report, width), *_scores(report, width)]
    lines += _curves(report, width, unicode)
    if report.differences:
        rows = [[name, *map(report_wording.setting, values)] for name, values in report.differences.items()]
        lines += ["", "SETTINGS THAT DIFFER", *_table(["", *_letters(report)], rows, width)]
    lines += _samples(report, width)
    if report.missing:
        lines += ["", "MISSING", *(line for sentence in report.missing for line in _hanging(sentence, width))]
    return "\n".join(printable(line.rstrip()) for line in lines) + "\n"


def _letters(report: Report) -> list[str]:
    """How the runs are called in tables and plots: by letters, where there are several."""
    return [LETTERS[i % len(LETTERS)] for i in range(len(report.runs))] if len(report.runs) > 1 else [""]


def _heading(report: Report, width: int) -> Iterator[str]:
    if len(report.runs) == 1:
        yield cut(str(report.runs[0].path), width)
        return
    for letter, run in zip(_letters(report), report.runs, strict=True):
        yield cut(f"{letter}  {run.path}", width)


def _facts(report: Report, width: int) -> list[str]:
    rows = report_wording.facts(report)
    if len(report.runs) == 1:
        return ["", *(line for name, (cell,) in rows for line in _hanging(cell, width, f"{name:<18}"))]
    short = [(name, own) for name, own in rows if max(map(len, own)) <= 16]
    long = [(name, own) for name, own in rows if (name, own) not in short]
    lines = ["", *_table(["", *_letters(report)], [[name, *own] for name, own in short], width)]
    for name, own in long:
        if len(set(own)) == 1:
            lines += _hanging(own[0], width, f"{name:<18}")
            continue
        for letter, cell in zip(_letters(report), own, strict=True):
            lines += _hanging(cell, width, f"{name:<18}{letter}  " if letter == "a" else f"{'':<18}{letter}  ")
    return lines


def _scores(report: Report, width: int) -> list[str]:
    if not report.metrics:
        return []
    rows = [
        [f"{name} (selection)" if report.decides(name) else name]
        + [report_wording.score(report.score(i, name)) for i in range(len(report.runs))]
        for name in report.metrics
    ]
    lines = ["", *_hanging("SCORES of the best checkpoint on the dev set", width)]
    lines += _table(["", *_letters(report)], rows, width)
    if any(score.low is not None for own in report.scores for score in own):
        lines += _hanging("in brackets: the 95 % bootstrap interval", width)
    if report.paired:
        letter = dict(zip(report.names, _letters(report), strict=True))
        rows = [
            [
                f"{letter[p.run]} - {letter[p.baseline]}",
                p.metric,
                report_wording.difference(p),
                f"p={p.p_value:.3f}",
                report_wording.verdict(p),
                counted(p.items, "item"),
            ]
            for p in report.paired
        ]
        lines += ["", "PAIRED BOOTSTRAP, difference from a", *_table([], rows, width)]
    for name, signature in report_wording.signatures(report):
        lines += _signature(name, signature, width)
    return lines


def _signature(name: str, signature: str, width: int) -> list[str]:
    """A signature in lines that end between two of its parts."""
    lines = [f"{name}:"]
    for i, part in enumerate(signature.split("|")):
        part = part if i == 0 else f"|{part}"
        if i and cells(lines[-1]) + cells(part) > width:
            lines.append("    ")
        lines[-1] += part if i else f" {part}"
    return lines


def _curves(report: Report, width: int, unicode: bool) -> list[str]:
    lines: list[str] = []
    for panel in report.curves.panels:
        if panel.title.startswith("perplexity"):
            continue  # the loss, on another scale
        lines += ["", *_panel(panel, report, width, unicode)]
    if report.curves.left_out:
        lines += [
            "",
            *_hanging(f"not drawn: {', '.join(report.curves.left_out)} (add --metric NAME to draw one)", width),
        ]
    return lines


def _panel(panel: Panel, report: Report, width: int, unicode: bool) -> Iterator[str]:
    """Held-out measures as a plot, training alone as a line of blocks for each run."""
    held_out = tuple(line for line in panel.lines if line.kind != "train")
    better = " (higher is better)" if panel.better else ""
    train = replace(panel, lines=tuple(line for line in panel.lines if line.kind == "train"))
    if any(len(line.x) > 1 for line in held_out):
        yield f"{panel.title.upper()}, dev set{better}"
        yield from plot(replace(panel, lines=held_out), width, _HEIGHT, unicode=unicode)
        if train.lines:
            yield "training:"
            yield from _sparklines(train, report, width, unicode)
        return
    yield f"{panel.title.upper()}{better}"
    yield from _sparklines(panel, report, width, unicode)


def _sparklines(panel: Panel, report: Report, width: int, unicode: bool) -> Iterator[str]:
    span = extent(value for line in panel.lines for value in line.x) if panel.right is None else (0.0, panel.right)
    within = extent(value for line in panel.lines for value in line.y)
    letters = _letters(report)
    arrow = "→" if unicode else "->"
    for line in panel.lines:
        head = f"{letters[line.run]}  " if letters[line.run] else ""
        if len(line.x) == 1:
            kind = "" if line.kind == "train" else " (dev set)"
            yield f"{head}{short_number(line.y[0])}{kind}, at {short_number(line.x[0])} {panel.x_label}"
            continue
        values = f"{short_number(line.y[0])} {arrow} {short_number(line.y[-1])}"
        room = max(10, width - len(head) - 26)
        drawn = sparkline(line.x, line.y, room, span=span, within=within, unicode=unicode)
        yield f"{head}{drawn:<{room}}  {values}"


def _samples(report: Report, width: int) -> list[str]:
    if not report.samples:
        return []
    lines = ["", "SAMPLES"]
    several = len(report.runs) > 1
    for sample in report.samples:
        part = f"[{sample.part}] " if sample.part else ""
        lines += ["", *_hanging(part + cut(sample.text, _LONGEST), width, "text      ")]
        lines += _hanging(cut(sample.reference, _LONGEST), width, "reference ")
        for letter, outputs in zip(_letters(report), sample.outputs, strict=True):
            for output in report_wording.some(outputs, _SHOWN):
                head = f"{letter}  {output.step:>6,} " if several else f"{output.step:>9,} "
                more = f" ({output.more})" if output.more else ""
                lines += _hanging((cut(output.text, _LONGEST) or report_wording.NOTHING) + more, width, head)
    return lines


def _hanging(text: str, width: int, head: str = "") -> list[str]:
    """Text in lines of `width` columns, `head` before the first and as much room before the others."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    found = [isolated(line) for line in wrapped(shown, max(20, width - len(head)))] or [""]
    return [(head if i == 0 else " " * len(head)) + line for i, line in enumerate(found)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows in columns that fit; cells that are too long are cut."""
    body = [[" ".join(cell.split()) for cell in row] for row in ([headings] if any(headings) else []) + list(rows)]
    if not body:
        return []
    count = len(body[0])
    widths = [max(cells(row[i]) for row in body) for i in range(count)]
    while sum(widths) + 2 * (count - 1) > width and max(widths) > 4:
        others = max(widths[1:], default=0)  # the first column names the row, and is cut last
        place = widths.index(others, 1) if others > 12 else widths.index(max(widths))
        widths[place] -= 1
    return [
        "  ".join(_padded(_fitted(cell, size), size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in body
    ]


def _fitted(text: str, width: int) -> str:
    """Text in at most `width` columns; of a long path the end is kept."""
    if cells(text) <= width or "/" not in text or cells(text) != len(text):
        return cut(text, width)
    return "…" + text[len(text) - width + 1 :]


def _padded(text: str, width: int) -> str:
    return isolated(text) + " " * (width - cells(text))
