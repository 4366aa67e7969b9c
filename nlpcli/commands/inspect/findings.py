"""The result of an inspection: facts for programs, the same in sections for a reader, and the problems found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the output: rows of cells under `headings`, or, without headings, a name and its value.

    Of a table's cells, those of columns that hold only numbers are set to the right.
    """

    title: str
    rows: Sequence[Row]
    headings: Row = ()


@dataclass(frozen=True)
class Example:
    """A place where something was found: the line's number, counted from 1, and what to show of it, by name."""

    line: int
    shown: Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """A problem or remark about the inspected data.

    name: for programs. text: what it is, in words. problem: whether it is certainly wrong (`--strict` fails on it), or
    only worth a look. lines: the numbers of all lines where it is. count: of these lines, or of whatever was counted.
    examples: some of them.
    """

    name: str
    text: str
    count: int
    problem: bool = False
    lines: Sequence[int] = ()
    examples: Sequence[Example] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "text": self.text,
            "count": self.count,
            "problem": self.problem,
            "lines": [int(line) for line in self.lines],
            "examples": [{"line": int(example.line), **example.shown} for example in self.examples],
        }


@dataclass(frozen=True)
class Inspection:
    """kind: what it is, for programs; title: the same for a reader. facts: plain data, documented in
    docs/inspecting.md."""

    kind: str
    title: str
    path: str
    facts: dict[str, Any]
    sections: Sequence[Section]
    findings: Sequence[Finding] = field(default_factory=tuple)

    @property
    def has_problems(self) -> bool:
        return any(finding.problem for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """One object for `--json`."""
        findings = [finding.as_dict() for finding in self.findings]
        return {"kind": self.kind, "path": self.path, **self.facts, "findings": findings}


def finding(
    name: str, text: str, lines: Iterable[int], *, problem: bool = False, examples: Sequence[Example] = ()
) -> list[Finding]:
    """The finding of some lines, none when there are none."""
    lines = list(lines)
    return [Finding(name, text, len(lines), problem, lines, examples)] if lines else []


def size(count: float) -> str:
    """Bytes for a reader: `512 B`, `9.93 MB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return (
                f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} GB"
            )
        count /= 1000
    raise AssertionError


def amount(count: float) -> str:
    """A large number for a reader: `812`, `12.3 thousand`, `22.7 million`, `1.5 billion`, `3.2e+15`."""
    for power, word in ((1e15, None), (1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e4, "thousand")):
        if count >= power:
            return f"{count:.3g}" if word is None else f"{count / (1e3 if word == 'thousand' else power):.3g} {word}"
    return f"{count:,.0f}"


def percent(part: float, whole: float) -> str:
    """A share for a reader, `-` of nothing: `12.3 %`, `0.004 %`."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return "0 %" if not part else "100 %" if part == whole else f"{share:.1f} %" if share >= 0.1 else f"{share:.1g} %"


def yes(value: bool) -> str:
    return "yes" if value else "no"
