"""Help pages: within the width of the terminal, broken at spaces only, options under their headings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer._click import Command, Context

Row = tuple[str, str]

_WIDEST = 110  # longer lines don't read well
_INDENT = 2
_TERMS = 30  # columns of options, commands or arguments, at most
_KINDS = {"int range": "N", "int": "N", "float range": "NUMBER", "float": "NUMBER", "str": "TEXT", "path": "PATH"}
"""Names of option values in the help, by Typer's names for their types."""


def width() -> int:
    """The columns of a help page."""
    return max(50, min(shutil.get_terminal_size().columns, _WIDEST) - 2)


def page(command: Command, ctx: Context, *, sections: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """The help of a command: usage, its docstring, and sections of rows (a term, what it means) under headings."""
    columns = width()
    usage = f"Usage: {ctx.command_path} "
    parts = [_positional(part) for part in command.collect_usage_pieces(ctx)]
    lines = list(wrapped(" ".join(parts), columns, usage, " " * len(usage)))
    for text in (command.help, command.epilog):
        if text is command.epilog:
            lines += _sections(sections, columns)
        if text:
            lines += ["", *_text(text, columns)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def option_sections(command: Command, ctx: Context) -> list[tuple[str, list[Row]]]:
    """Arguments, options, then those with a `rich_help_panel` under that heading."""
    groups: dict[str, list[Row]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            argument = parameter.param_type_name == "argument"
            heading = getattr(parameter, "rich_help_panel", None) or ("Arguments" if argument else "Options")
            term = re.sub(r" <.*>$", "", record[0]) if argument else _plain(record[0])
            groups.setdefault(heading, []).append((term, _bounded(" ".join(record[1].split()))))
    return [(heading, rows) for heading, rows in groups.items() if rows]


def _plain(term: str) -> str:
    return re.sub(r"<(?:list\[)?([a-z ]+)\]?>$", lambda kind: _KINDS.get(kind[1], kind[0]), term)


def _positional(part: str) -> str:
    """An argument in the usage: `FILE...` for Typer's `{FILE...}...`."""
    return re.sub(r"\.{4,}", "...", re.sub(r"^\{(.*)\}", r"\1", part))


def _bounded(text: str) -> str:
    """A help text with its bounds in words: `at least 1` for Typer's `x>=1`."""
    begin, bracket, bounds = text.rpartition("[")
    bounds = re.sub(r"(-?\d+)\.0\b(?=<=x|[];])", r"\1", bounds)
    for pattern, words in (
        (r"(\S+)<=x<=(\S+)", r"\1 to \2"),
        (r"x>=(\S+)", r"at least \1"),
        (r"x<=(\S+)", r"at most \1"),
    ):
        bounds = re.sub(pattern, words, bounds)
    return begin + bracket + bounds


def _sections(sections: Sequence[tuple[str, Sequence[Row]]], columns: int) -> Iterator[str]:
    for heading, rows in sections:
        yield from ("", f"{heading}:")
        indent = _INDENT + min(max(len(term) for term, _ in rows), _TERMS) + _INDENT
        for term, text in rows:
            begin = " " * _INDENT + term
            if len(begin) + _INDENT > indent:
                yield begin
                begin = ""
            yield from wrapped(text, columns, begin.ljust(indent), " " * indent)


def _text(text: str, columns: int) -> Iterator[str]:
    """Paragraphs; one that begins with a line of backspace, as Typer has it, keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
        if number:
            yield ""
        first, *rest = paragraph.splitlines()
        if first.strip() == "\b":
            for line in rest:
                yield from _kept(line, columns)
        else:
            yield from wrapped(paragraph, columns, " " * _INDENT, " " * _INDENT)


def _kept(line: str, columns: int) -> Iterator[str]:
    """A line as it is; one that is too long is continued, with a backslash where it is a command."""
    indent = _INDENT + len(line) - len(line.lstrip())
    begin = " " * indent
    if re.search(r"(?:^|\| )nlpcli ", line.strip()):
        options = re.split(r" (?=--|[|<>] )", line.strip())
        *parts, last = wrapped(options, columns - 2, begin, begin + "  ")
        yield from (f"{part} \\" for part in parts)
        yield last
        return
    column = re.match(r"\s*\S+(?: \S+)*\s{2,}", line)  # of a second column
    hanging = " " * (_INDENT + len(column[0])) if column else begin + "  "
    if column:
        begin += column[0].lstrip()
        line = line[len(column[0]) :]
    yield from wrapped(line, columns, begin, hanging)


def wrapped(text: str | Sequence[str], columns: int, begin: str = "", hanging: str = "") -> Iterator[str]:
    """`text` after `begin`, continued below `hanging`, in lines of so many columns that break at spaces only.

    text: or its parts, which are never broken.
    """
    line, empty = begin, True
    for word in text.split() if isinstance(text, str) else text:
        if not empty and len(line) + 1 + len(word) > columns:
            yield line
            line, empty = hanging, True
        line += word if empty else f" {word}"
        empty = False
    yield line


def described(commands: Iterable[tuple[str, Command]]) -> list[Row]:
    """A row for each command of a group: its name, and the first sentence of its help."""
    return [(name, command.get_short_help_str(limit=200)) for name, command in commands]
