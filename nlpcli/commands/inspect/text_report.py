"""A plain text: how long its lines are, what they are written in, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.commands.inspect.findings import Example, Finding, Inspection, Section, finding, percent, size
from nlpcli.commands.inspect.language_identification import LanguageGuess
from nlpcli.commands.inspect.line_scan import Scan, fetch, lengths, repeated
from nlpcli.config.counting import counted
from nlpcli.data.open_text import STDIN
from nlpcli.data.repeatable_input import repeatable
from nlpcli.errors import NlpcliError
from nlpcli.text.unusual_characters import ODDITIES, script_of, spelled

_RARE = 2  # times a rare character occurs in a text, at most
_SHOWN = 30  # of these
_MANY = 20_000  # characters of a text, below which none are called rare
_BARS = 24  # characters of the longest bar


def inspect_text(
    path: Path | str, *, show: int = 3, limit: int | None = None, on_line: Callable[[int], None] | None = None
) -> Inspection:
    """The contents of a text file (or "-"). Raises: NlpcliError for one that is missing or empty."""
    with repeatable([path]) as files:
        if len(files) != 1:
            raise NlpcliError(
                f"{path}: the path matches {counted(len(files), 'file')}, but one text is needed",
                hint="name one of them",
            )
        side, guess = Scan(files[0], shown=path), LanguageGuess()
        for block in side.read(limit):
            guess.add(block)
            if on_line is not None:
                on_line(len(side))
        if not len(side):
            raise NlpcliError(f"{path}: the file is empty")
        findings = [
            *odd_findings(side, show), *blank_findings(side), *_repeated(side, show),
            *script_findings(side, show, share=0.01),
        ]  # fmt: skip
        best = guess.best(letters(side))
        facts = {
            **text_facts(side),
            "bytes": None if str(path) == STDIN else files[0].stat().st_size,
            "language": None if best is None else best[0],
        }
    return Inspection("text", "a text", str(path), facts, _sections(facts, side), findings)


def letters(side: Scan) -> dict[str, int]:
    """How many letters of a text are of each script, the most frequent first."""
    counts: Counter[str] = Counter()
    for character, count in side.alphabet.items():
        script = script_of(character)
        if script is not None:
            counts[script] += count
    return dict(counts.most_common())


def text_facts(side: Scan) -> dict[str, Any]:
    """The counts of a text; lengths of the lines that are not blank."""
    filled = ~side.blank
    rare = sorted(c for c, count in side.alphabet.items() if count <= _RARE and not c.isascii() and not c.isspace())
    facts: dict[str, Any] = {
        "lines": len(side),
        "words": int(side.words.sum()),
        "characters": int(side.characters.sum()),
        "blank_lines": int((~filled).sum()),
        "characters_per_line": lengths(side.characters[filled]),
        "words_per_line": lengths(side.words[filled]),
        "scripts": letters(side),
        "distinct_characters": len(side.alphabet),
        "rare_characters": rare if sum(side.alphabet.values()) >= _MANY else [],
    }
    if side.tokenizer is not None:
        facts |= {
            "tokens": int(side.tokens.sum()),
            "unknown_tokens": int(side.unknown.sum()),
            "tokens_per_line": lengths(side.tokens[filled]),
        }
    return facts


def odd_findings(side: Scan, show: int, *, prefix: str = "", shown: str = "text") -> list[Finding]:
    """The oddities of characters, bytes and line ends; examples under the name `shown`."""
    found = []
    for name, (description, problem) in ODDITIES.items():
        if not side.how_often[name]:
            continue
        lines = list(side.odd[name])
        examples = examples_of(side, lines[:show], shown)
        key = f"{shown}_{name}" if prefix else name
        found.append(Finding(key, prefix + description, side.how_often[name], problem, lines, examples))
    return found


def script_findings(side: Scan, show: int, *, share: float, prefix: str = "", shown: str = "text") -> list[Finding]:
    """Lines in a script in which fewer than `share` of the lines are written."""
    counts = np.bincount(side.script, minlength=len(side.scripts.names))
    foreign = [n for n, count in enumerate(counts) if n and 0 < count < share * counts[1:].sum()]
    found = []
    for number in foreign:
        lines = np.flatnonzero(side.script == number) + 1
        name = side.scripts.names[number]
        found += finding(
            f"{shown}_script" if prefix else "script", f"{prefix}lines written in another script ({name})", lines,
            problem=bool(prefix), examples=examples_of(side, lines[:show], shown),
        )  # fmt: skip
    return found


def blank_findings(side: Scan, prefix: str = "") -> list[Finding]:
    return finding("blank", f"{prefix}blank lines", np.flatnonzero(side.blank) + 1)


def examples_of(side: Scan, lines: Collection[int], shown: str) -> list[Example]:
    texts = fetch(side.path, map(int, lines))
    return [Example(int(line), {shown: texts[int(line)]}) for line in lines]


def _repeated(side: Scan, show: int) -> list[Finding]:
    again, first = repeated(side.exact, ~side.blank)
    texts = fetch(side.path, (again[:show] + 1).tolist())
    examples = [
        Example(line, {"text": texts[line], "earlier": f"line {int(origin) + 1:,}"})
        for line, origin in zip((again[:show] + 1).tolist(), first, strict=False)
    ]
    return finding("duplicate", "repeated lines (ignoring case and white space)", again + 1, examples=examples)


def rare_words(characters: Sequence[str]) -> str:
    """The characters that occur in a text once or twice, for a reader."""
    more = len(characters) - _SHOWN
    return "  ".join(map(spelled, characters[:_SHOWN])) + (f"  and {more:,} more" if more > 0 else "")


def length_cells(lengths: dict[str, float]) -> list[str]:
    return [f"{lengths['mean']:,.1f}", *(f"{lengths[name]:,}" for name in ("median", "p95", "p99", "longest"))]


def _sections(facts: dict[str, Any], side: Scan) -> list[Section]:
    total = sum(facts["scripts"].values())
    rows = [
        (
            "lines",
            f"{facts['lines']:,}" + (f", {facts['blank_lines']:,} of them blank" if facts["blank_lines"] else ""),
        ),
        ("words", f"{facts['words']:,}"),
        ("characters", f"{facts['characters']:,}, {facts['distinct_characters']:,} of them distinct"),
        ("scripts", ", ".join(f"{name} {percent(count, total)}" for name, count in facts["scripts"].items()) or "none"),
        ("language", facts["language"] or "not recognized"),
    ]
    if facts["bytes"] is not None:
        rows.insert(0, ("size", size(facts["bytes"])))
    if facts["rare_characters"]:
        rows.append(("rare characters", rare_words(facts["rare_characters"])))
    parts = [Section("Text", rows)]
    table = [[what, *length_cells(facts[f"{what}_per_line"])] for what in ("characters", "words")]
    parts.append(Section("Lengths of lines", table, ("unit", "mean", "median", "95 %", "99 %", "longest")))
    parts.append(
        Section("Lines by their number of words", histogram(side.words[~side.blank]), ("words", "lines", "", ""))
    )
    return parts


def histogram(values: np.ndarray) -> list[list[str]]:
    """How many values lie between powers of two: the range, the count, its share, and a bar of it."""
    if not len(values):
        return []
    kinds = np.ceil(np.log2(np.maximum(values, 1))).astype(int)  # 1, 2, 3-4, 5-8, …
    counts = np.bincount(kinds)
    rows = []
    for power, count in enumerate(counts):
        if power < int(kinds.min()):
            continue
        low, high = (2 ** (power - 1) + 1 if power else 1), 2**power
        bar = "█" * round(_BARS * count / counts.max())
        rows.append(
            [f"{low:,}" if low == high else f"{low:,}–{high:,}", f"{count:,}", percent(count, len(values)), bar]
        )
    return rows
