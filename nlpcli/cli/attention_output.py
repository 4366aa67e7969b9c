"""Writes attention to the terminal, a figure, a page or as numbers."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from nlpcli.cli import terminal
from nlpcli.cli.attention_options import useless
from nlpcli.config.counting import counted
from nlpcli.config.output_formats import BINARY, check_ending
from nlpcli.errors import NlpcliError, unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nlpcli.commands.visualize_attention.selection import AttentionSelection
    from nlpcli.visualization.attention_data import Attention
    from nlpcli.visualization.transformations import HeadNumbers

FORMATS = ("terminal", "png", "svg", "pdf", "html", "json", "npz", "pharaoh")
FIGURES = ("png", "svg", "pdf")
_SUFFIXES = {f".{name}": name for name in FORMATS} | {
    ".htm": "html", ".jsonl": "json", ".ndjson": "json", ".txt": "terminal", ".align": "pharaoh",
}  # fmt: skip
_USED = {
    "terminal": ("width", "color", "view", "links"),
    "html": ("title",),
    "png": ("theme", "dpi", "title"),
    "svg": ("theme", "title"),
    "pdf": ("theme", "title"),
}
_COLORS = ("auto", "always", "never")
_WIDTH = 80


class _Look(TypedDict):
    """The options of how attention is drawn, None where one was not given."""

    width: int | None
    view: str | None
    links: bool | None
    theme: str | None
    dpi: int | None
    title: str | None


@dataclass(frozen=True)
class AttentionOutput:
    """A format, the file that is written, None for standard output, and how it is drawn."""

    format: str
    out: Path | None
    width: int
    color: bool
    view: str
    links: bool
    theme: str
    dpi: int
    title: str | None

    @classmethod
    def of(cls, format: str | None, out: Path | None, *, color: str | None, **given: Unpack[_Look]) -> AttentionOutput:
        """Raises: NlpcliError for an unknown format or color, for a file named like another format, for options that
        mean nothing to the format, and for bytes on a terminal."""
        format = _format(format, out)
        if color is not None and color not in _COLORS:
            raise unknown("color", color, _COLORS)
        used = _USED.get(format, ())
        wrong = {f"--{name}": value for name, value in {"color": color, **given}.items() if name not in used}
        useless(wrong, f"has no effect on the format {format}")
        if out is None and format in BINARY and sys.stdout.isatty():
            raise NlpcliError(
                f"the format {format} can't be written to a terminal", hint=f"name a file: --out attention.{format}"
            )
        return cls(
            format,
            out,
            width=given["width"] or _terminal_width(),
            color=format == "terminal"
            and (color == "always" or (color in (None, "auto") and out is None and _has_color())),
            view=given["view"] or "auto",
            links=bool(given["links"]),
            theme=given["theme"] or "light",
            dpi=given["dpi"] or 150,
            title=given["title"],
        )

    def shows_few(self, attention: Attention, selection: AttentionSelection) -> bool:
        """Whether one matrix is shown where nothing was chosen: in the terminal, and of a translator in a figure."""
        if self.format == "terminal":
            return True
        chosen = selection.sites or selection.layers or selection.heads or selection.average or selection.rollout
        return self.format in FIGURES and not chosen and any(site.name == "cross" for site in attention.sites)

    # --- attention -----------------------------------------------------------------------------------------------

    def write(self, attentions: Iterator[Attention]) -> None:
        """Draws all that is given, as it comes where the format allows it.

        Raises: NlpcliError where there is nothing to draw, or several texts don't fit into one place.
        """
        first = next(attentions, None)
        if first is None:
            raise NlpcliError(
                "no text is given", hint="add a text to the command line, or write texts to standard input"
            )
        attentions = itertools.chain([first], attentions)
        if self.format == "terminal":
            self.write_lines(self._drawings(attentions))
        elif self.format == "json":
            from nlpcli.visualization.attention_export import json_lines

            self.write_lines(json_lines(attentions))
        elif self.format == "html":
            from nlpcli.visualization.attention_page import page

            texts = list(attentions)
            texts = texts if len(texts) > 1 else [_without_line(first)]
            self.write_text(page(texts, title=self.title or _title(first)))
        else:
            self._write_files(attentions)

    def _drawings(self, attentions: Iterator[Attention]) -> Iterator[str]:
        from nlpcli.visualization.terminal_attention import draw

        for number, attention in enumerate(attentions):
            if number:
                yield ""
            if number == 0 and attention.notes.get("line") == 1:  # it may be the only one
                attention = _without_line(attention)
            yield draw(
                attention, width=self.width, color=self.color, unicode=has_unicode(), view=self.view,
                links=self.links,
            )  # fmt: skip

    def _write_files(self, attentions: Iterator[Attention]) -> None:
        """A file for each text: with several of them their numbers are put before the suffix."""
        first, second = next(attentions), next(attentions, None)
        if second is None:
            self.write_bytes(self._file(first if self.format == "npz" else _without_line(first)))
            return
        if self.out is None:
            raise NlpcliError(
                f"a {self.format} file can contain only one text, but there are several",
                hint="add --out, which writes a numbered file for each text, or use --format html or json",
            )
        for number, attention in enumerate(itertools.chain([first, second], attentions), start=1):
            path = self.out.with_name(f"{self.out.stem}-{number}{self.out.suffix}")
            _write_file(self._file(attention), path)
            terminal.notify(f"wrote {path}")

    def _file(self, attention: Attention) -> bytes:
        if self.format == "npz":
            from nlpcli.visualization.attention_export import as_npz

            return as_npz(attention)
        from nlpcli.visualization.attention_figures import draw

        return draw(attention, format=self.format, theme=self.theme, dpi=self.dpi, title=self.title, warn=terminal.warn)

    # --- other than attention -----------------------------------------------------------------------------------

    def write_numbers(self, numbers: Sequence[HeadNumbers], texts: int) -> None:
        """Entropy and distance of each head: as tables, or as a line of JSON for each.

        Raises: NlpcliError for other formats, and without any text.
        """
        if not texts:
            raise NlpcliError(
                "no text is given", hint="add a text to the command line, or write texts to standard input"
            )
        if not numbers:
            raise NlpcliError(
                "only special tokens were selected, and --no-special leaves them out, so there is nothing to measure",
                hint="leave out --no-special",
            )
        if self.format == "json":
            import json

            from nlpcli.visualization.attention_export import from_zero

            self.write_lines(json.dumps({**from_zero(asdict(one)), "texts": texts}) for one in numbers)
            return
        if self.format != "terminal":
            raise NlpcliError(
                f"--stats does not support the format {self.format}", hint="use --format terminal or json"
            )
        from nlpcli.visualization.terminal_attention import table

        if texts > 1:
            terminal.notify(f"these are means over {counted(texts, 'text')}")
        self.write_lines([table(numbers, width=self.width, color=self.color, unicode=has_unicode())])

    # --- out -----------------------------------------------------------------------------------------------------

    def write_lines(self, lines: Iterable[str]) -> None:
        """A line of text for each, as they come; to a file all of them or none."""
        if self.out is not None:
            from nlpcli.config.files import write_atomic

            write_atomic(self.out, (f"{line}\n" for line in lines))
            return
        for line in lines:
            if self.color:
                terminal.write_colored(f"{line}\n")
            else:
                terminal.write_line(line, flush=True)

    def write_text(self, text: str) -> None:
        if self.out is None:
            (terminal.write_colored if self.color else terminal.stdout().write)(text)
        else:
            _write_file(text.encode("utf-8"), self.out)

    def write_bytes(self, data: bytes) -> None:
        if self.out is not None:
            _write_file(data, self.out)
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _write_file(data: bytes, out: Path) -> None:
    from nlpcli.config.files import write_atomic

    write_atomic(out, data)


def _format(format: str | None, out: Path | None) -> str:
    if format is not None:
        if format not in FORMATS:
            raise unknown("format", format, FORMATS)
        check_ending(format, out, _SUFFIXES)
        return format
    if out is None:
        return "terminal"
    if out.suffix.lower() not in _SUFFIXES:
        raise NlpcliError(
            f"{out}: the ending of the file name is not a supported format",
            hint="name the format with --format, or use a name that ends in .html or .png",
        )
    return _SUFFIXES[out.suffix.lower()]


def _title(attention: Attention) -> str:
    if attention.model:
        return f"Attention of {attention.model}"
    return next((site.title for site in attention.sites), "Attention")


def _without_line(attention: Attention) -> Attention:
    """The attention without the note of its line number, which is useless for a single text."""
    return replace(attention, notes={name: note for name, note in attention.notes.items() if name != "line"})


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((_WIDTH, 24)).columns


def _has_color() -> bool:
    from rich.console import Console

    console = Console(file=sys.stdout)
    return console.is_terminal and not console.no_color and not console.is_dumb_terminal


def has_unicode() -> bool:
    import locale

    return "utf" in locale.getpreferredencoding(False).lower()
