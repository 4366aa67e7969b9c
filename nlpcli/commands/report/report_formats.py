"""The forms a report is written in."""

from __future__ import annotations

import json
from pathlib import Path

from nlpcli.commands.report.report import Report
from nlpcli.config.files import write_atomic, write_together
from nlpcli.config.output_formats import check_ending
from nlpcli.errors import NlpcliError, unknown

FORMATS = ("html", "png", "svg", "pdf", "terminal", "markdown", "json")
PICTURES = ("png", "svg", "pdf")
_SUFFIXES = {".html": "html", ".htm": "html", ".png": "png", ".svg": "svg", ".pdf": "pdf", ".md": "markdown",
             ".markdown": "markdown", ".json": "json", ".txt": "terminal"}  # fmt: skip


def format_of(format: str | None, out: Path | None) -> str:
    """The requested form, or the one that goes with the name of the file; without one, for a terminal.

    Raises: NlpcliError for an unknown format or suffix, for a format and a suffix that contradict each other, and for a
    picture without a file to write it to.
    """
    if format is None:
        if out is None:
            return "terminal"
        suffix = out.suffix.lower()
        if suffix not in _SUFFIXES:
            raise NlpcliError(
                f"{out}: the file extension is not a known format", hint=f"add --format {', '.join(FORMATS)}"
            )
        return _SUFFIXES[suffix]
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    check_ending(format, out, _SUFFIXES)
    if out is None and format in ("png", "pdf"):
        raise NlpcliError(f"a report in the format {format} needs an output file", hint=f"add --out report.{format}")
    return format


def text_of(report: Report, format: str, *, width: int = 80, unicode: bool = True, theme: str = "light") -> str:
    """A report in one of the forms that are text."""
    if format == "html":
        from nlpcli.commands.report.html_report import as_page

        return as_page(report)
    if format == "markdown":
        from nlpcli.commands.report.markdown_report import as_markdown

        return as_markdown(report)
    if format == "json":
        from nlpcli.commands.report.report_data import as_dict

        return json.dumps(as_dict(report), ensure_ascii=False) + "\n"
    if format == "svg":
        return picture_of(report, "svg", theme=theme).decode("utf-8")
    from nlpcli.commands.report.terminal_report import as_text

    return as_text(report, width=width, unicode=unicode)


def picture_of(report: Report, format: str, *, theme: str = "light", dpi: int = 150) -> bytes:
    """The curves as a file. Raises: NlpcliError where there are none yet, and without matplotlib."""
    from nlpcli.visualization.charts import draw

    if not report.curves.panels:
        raise NlpcliError("these runs have no curves yet", hint="add --format markdown for the report as text")
    return draw(report.curves.panels, report.names, format=format, theme=theme, dpi=dpi)


def write_report(
    report: Report,
    out: Path,
    format: str,
    *,
    width: int = 80,
    unicode: bool = True,
    theme: str = "light",
    dpi: int = 150,
) -> list[Path]:
    """Writes the file, and beside Markdown the picture it shows. Returns what was written."""
    if format in PICTURES:
        write_atomic(out, picture_of(report, format, theme=theme, dpi=dpi))
        return [out]
    if format == "markdown" and report.curves.panels:
        from nlpcli.commands.report.markdown_report import as_markdown

        picture = out.with_suffix(".png")
        image = picture_of(report, "png", theme=theme, dpi=dpi)
        write_together({out: _encoded(as_markdown(report, picture=picture.name)), picture: image})
        return [out, picture]
    write_atomic(out, _encoded(text_of(report, format, width=width, unicode=unicode, theme=theme)))
    return [out]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
