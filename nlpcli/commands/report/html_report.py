"""A report as one HTML file that needs nothing else: no script, no request, as light or dark as the reader's screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from nlpcli.commands.report import report_wording
from nlpcli.commands.report.report import Report, Sample
from nlpcli.visualization.charts import Panel, key_svg, panel_svg

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def as_page(report: Report) -> str:
    """Raises: NlpcliError without matplotlib, which draws the curves."""
    title = escape("Report: " + ", ".join(report.names))
    body = "\n".join(_body(report))
    css = files("nlpcli.commands.report").joinpath("page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def _body(report: Report) -> Iterator[str]:
    heads = ["", *(_run(report, i) for i in range(len(report.runs)))]
    rows = [[escape(name), *map(escape, cells)] for name, cells in report_wording.facts(report)]
    yield _table(heads, rows)
    yield from _scores(report, heads)
    yield from _curves(report)
    if report.differences:
        settings = [[f"<code>{escape(name)}</code>", *(escape(report_wording.setting(value)) for value in values)]
                    for name, values in report.differences.items()]  # fmt: skip
        yield "<h2>Settings that differ</h2>"
        yield _table(heads, settings)
    if report.samples:
        yield "<h2>Samples</h2>"
        yield '<p class="note">Outputs for the same dev set examples. Equal outputs are shown once.</p>'
        yield from (_sample(report, sample) for sample in report.samples)
    if report.missing:
        yield "<h2>What is missing</h2>"
        yield f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in report.missing)}</ul>"


def _run(report: Report, number: int) -> str:
    key = key_svg(number) if len(report.runs) > 1 else ""
    return f"{key}{escape(report.names[number])}"


def _scores(report: Report, heads: Sequence[str]) -> Iterator[str]:
    if not report.metrics:
        return
    yield "<h2>Scores of the best checkpoint on the dev set</h2>"
    rows = []
    for metric in report.metrics:
        cells = [
            report_wording.score(report.score(i, metric)).replace(" [", " <small>[", 1) for i in range(len(report.runs))
        ]
        rows.append([escape(metric), *(f"{cell}</small>" if "<small>" in cell else cell for cell in cells)])
    yield _table(heads, rows, decides=[report.decides(metric) for metric in report.metrics])
    if any(score.low is not None for own in report.scores for score in own):
        yield '<p class="note">In brackets: the 95 % bootstrap interval.</p>'
    if report.paired:
        yield f"<p>Differences from {_run(report, 0)}, by paired bootstrap:</p>"
        rows = [
            [
                _run(report, report.names.index(p.run)),
                escape(p.metric),
                report_wording.difference(p),
                f"{p.p_value:.3f}",
                f'<span class="{report_wording.verdict(p)}">{report_wording.verdict(p)}</span>',
                f"{p.items:,}",
            ]
            for p in report.paired
        ]
        yield _table(["run", "metric", "difference", "p", "", "items"], rows)
    if signatures := report_wording.signatures(report):
        items = "".join(
            f'<li>{escape(name)}: <code class="signature">{escape(signature)}</code></li>'
            for name, signature in signatures
        )
        yield f"<details><summary>Signatures: how each score was measured</summary><ul>{items}</ul></details>"


def _curves(report: Report) -> Iterator[str]:
    panels = report.curves.panels
    if not panels:
        return
    yield "<h2>Curves</h2>"
    if len(report.runs) > 1:
        items = "".join(f"<li>{_run(report, i)}</li>" for i in range(len(report.runs)))
        yield f'<ul class="legend">{items}</ul>'
    yield '<p class="note">Lines with marks: dev set. Thin lines without marks: training.</p>'
    figures = "".join(_figure(panel, number) for number, panel in enumerate(panels))
    yield f'<div class="charts">{figures}</div>'
    if report.curves.left_out:
        names = ", ".join(f"<code>{escape(name)}</code>" for name in report.curves.left_out)
        yield f'<p class="note">Not drawn: {names} (add <code>--metric NAME</code> to draw one).</p>'


def _figure(panel: Panel, number: int) -> str:
    better = " <small>(higher is better)</small>" if panel.better else ""
    alt = escape(_description(panel))
    svg = panel_svg(panel, identity=f"c{number}")
    return (
        f'<figure><figcaption>{escape(panel.title)}{better}</figcaption><div role="img" aria-label="{alt}">{svg}</div>'
        "</figure>"
    )


def _description(panel: Panel) -> str:
    """A panel for those who don't see it."""
    parts = [
        f"{line.label}{' in training' if line.kind == 'train' else ''}: from {line.y[0]:.4g} to {line.y[-1]:.4g}"
        for line in panel.lines
    ]
    return f"{panel.title} over {panel.x_label}. {'; '.join(parts)}"


def _sample(report: Report, sample: Sample) -> str:
    part = f'<p><span class="label">task</span>{escape(sample.part)}</p>' if sample.part else ""
    columns = []
    for number, outputs in enumerate(sample.outputs):
        if not outputs:
            continue
        head = f"<h3>{_run(report, number)}</h3>" if len(report.runs) > 1 else ""
        items = "".join(
            f'<li{_last(output is outputs[-1])}><span>{report_wording.at(output)}</span><span dir="auto">'
            f"{escape(_visible(output.text)) or report_wording.NOTHING}"
            f"{f' <small class=note>{escape(output.more)}</small>' if output.more else ''}</span></li>"
            for output in outputs
        )
        columns.append(f"<div>{head}<ol>{items}</ol></div>")
    return (
        f'<div class="sample">{part}<p dir="auto"><span class="label">text</span>{escape(_visible(sample.text))}</p>'
        f'<p dir="auto"><span class="label">reference</span>{escape(_visible(sample.reference))}</p>'
        f'<div class="runs">{"".join(columns)}</div></div>'
    )


def _last(last: bool) -> str:
    return ' class="last"' if last else ""


def _visible(text: str) -> str:
    """The text without characters that are invalid in HTML."""
    kept = (character if character in "\t\n" or character >= " " else "\ufffd" for character in text)
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" or "\x7f" <= character <= "\x9f" else character
                   for character in kept)  # fmt: skip


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], decides: Sequence[bool] = ()) -> str:
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row"{" class=decides" if i < len(decides) and decides[i] else ""}>{row[0]}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
