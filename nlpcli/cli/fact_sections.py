"""Sections of facts, tables and findings as lines of a terminal, in as many columns as there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlpcli.commands.inspect.findings import Example, Finding, Section

Line = list[tuple[str, str]]
"""Parts of a line, each with its style in rich's words."""

_GAP = 2
_LEAST = 12  # columns that a cell which is too wide keeps
_NAMES = 32  # columns of a fact's name, at most
_LINES = 10  # numbers of lines that are listed


def section_lines(section: Section, width: int) -> Iterator[Line]:
    """The rows below a section's title."""
    yield from _table(section, width) if section.headings else _facts(section, width)


def _facts(section: Section, width: int) -> Iterator[Line]:
    names = min(_NAMES, max((_width(row[0]) for row in section.rows), default=0)) + _GAP
    for name, text in section.rows:
        first, *rest = wrapped(text, width - names) or [""]
        yield [(_left(name, names), ""), (first, "")]
        yield from ([(" " * names, ""), (line, "")] for line in rest)


def _table(section: Section, width: int) -> Iterator[Line]:
    rows = [list(section.headings), *map(list, section.rows)]
    natural = _natural(rows)
    # names that would be cut have lines of their own
    stacked = len(natural) > 2 and _fitted(natural, width)[0] < natural[0] == max(natural)
    indent = " " * _GAP * stacked
    for number, lines in enumerate(_grid([row[stacked:] for row in rows], width - len(indent))):
        style = "" if number else "dim"
        if stacked:
            yield [(cut(rows[number][0], width), style)]
        yield from ([(indent + line, style)] for line in lines)


def _grid(rows: Sequence[Sequence[str]], width: int) -> Iterator[list[str]]:
    """The lines of each row; headings are the first. The last cell is folded where it is too wide, others are cut."""
    widths = _fitted(_natural(rows), width)
    right = [_numeric(column[1:]) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = row
        parts = [
            _right(cut(cell, space), space) if numbers else _left(cut(cell, space), space)
            for cell, space, numbers in zip(cells, widths, right, strict=False)
        ]
        begin = "".join(part + " " * _GAP for part in parts)
        folded = wrapped(last, widths[-1]) or [""]
        folded[0] = _right(folded[0], widths[-1]) if right[-1] else folded[0]
        yield [((" " * _width(begin) if place else begin) + line).rstrip() for place, line in enumerate(folded)]


def _natural(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_width, column)) for column in zip(*rows, strict=True)]


def _fitted(widths: list[int], width: int) -> list[int]:
    """Narrower columns where they are too wide together: the widest gives first."""
    room = width - _GAP * (len(widths) - 1)
    widths = list(widths)
    while sum(widths) > room:
        widest = widths.index(max(widths))
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= min(sum(widths) - room, max(1, widths[widest] - _second(widths)), widths[widest] - _LEAST)
    return widths


def _second(widths: Sequence[int]) -> int:
    return sorted(widths)[-2] if len(widths) > 1 else 0


def _numeric(cells: Sequence[str]) -> bool:
    bare = [cell.strip("-+ %×").replace(",", "").replace(".", "", 1) for cell in cells]
    bare = [cell.split("e")[0] for cell in bare]
    return any(bare) and all(not cell or cell.isdigit() for cell in bare)


# --- findings ----------------------------------------------------------------------------------------------------


def finding_lines(findings: Sequence[Finding], width: int) -> Iterator[Line]:
    """Each finding with its count, the first lines it is in, and its examples; what is wrong in any case first."""
    counts = max((len(f"{found.count:,}") for found in findings), default=0)
    indent = " " * (len("problem") + counts + 2 * _GAP)
    for found in sorted(findings, key=lambda found: not found.problem):
        mark = "problem" if found.problem else "note   "
        first, *rest = wrapped(found.text, width - len(indent))
        style = "bold red" if found.problem else "yellow"
        yield [(mark, style), (f"  {found.count:>{counts},}  ", ""), (first, "")]
        yield from ([(indent + line, "")] for line in rest)
        if found.lines:
            yield [(cut(indent + _places(found.lines), width), "dim")]
        for example in found.examples:
            yield from _example(example, indent, width)


def _places(lines: Sequence[int]) -> str:
    shown = ", ".join(f"{int(line):,}" for line in lines[:_LINES])
    return ("line " if len(lines) == 1 else "lines ") + shown + (", …" if len(lines) > _LINES else "")


def _example(example: Example, indent: str, width: int) -> Iterator[Line]:
    from nlpcli.escaping import visible

    number = f"{int(example.line):,}: "
    names = max(len(name) for name in example.shown) + _GAP
    for place, (name, text) in enumerate(example.shown.items()):
        begin = indent + (number if place == 0 else " " * len(number)) + name.ljust(names)
        yield [(begin, "dim"), (cut(visible(text), max(width - len(begin), _LEAST)), "")]


# --- cells -------------------------------------------------------------------------------------------------------


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _left(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _right(text: str, width: int) -> str:
    return " " * (width - _width(text)) + text


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns, with … where the rest is missing."""
    if _width(text) <= width:
        return text
    taken, room = [], width - 1
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        taken.append(character)
    return "".join(taken) + "…"


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken at spaces, and inside of what is longer than a line."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while True:
            longer = word if not line else f"{line} {word}"
            if _width(longer) <= width:
                line = longer
                break
            if line:
                lines.append(line)
                line = ""
                continue
            chunk = _head(word, width)
            lines.append(chunk)
            word = word[len(chunk) :]
    return [*lines, line] if line or not lines else lines


def _head(word: str, width: int) -> str:
    """As much of a word as fits, at least one character."""
    room, taken = width, 0
    for character in word:
        room -= _width(character)
        if room < 0 and taken:
            break
        taken += 1
    border = max(word.rfind(mark, 0, taken) for mark in "|/,") + 1  # of a signature, a path or a list
    return word[: border if taken < len(word) and border > taken // 2 else taken]
