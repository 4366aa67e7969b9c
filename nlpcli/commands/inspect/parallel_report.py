"""A parallel corpus before training: what does not belong in it, with the numbers of the lines.

Two passes over the text and one for the lines that are shown; between them each pair of lines takes about 100
bytes of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.commands.inspect import language_identification, overlap_with_training, text_report
from nlpcli.commands.inspect.findings import Example, Finding, Inspection, Section, finding, percent
from nlpcli.commands.inspect.length_ratios import LIMIT, Ratio, parting
from nlpcli.commands.inspect.line_pairs import SIDES, Pairs
from nlpcli.commands.inspect.line_scan import Scan, blocks, fetch, repeated
from nlpcli.config.counting import counted
from nlpcli.data.language_sides import Sides
from nlpcli.data.repeatable_input import repeatable
from nlpcli.data.train_dev_overlap import SWAPPED
from nlpcli.errors import NlpcliError, unknown

WRONG = 12.0
"""Nats of evidence of a line for being in the other language."""

_LONG_WORDS, _LONG_CHARACTERS = 4, 20  # of a line that is hardly the same in two languages by nature
_FEW = 0.01  # share of a side's lines, below which a script is not one of the side's own


@dataclass(frozen=True)
class Corpus:
    """The inspected files: pairs of source and target; languages: their codes, () where they are unknown.

    show: examples of each finding. limit: lines read of each file, None for all. on_line: receives their number.
    """

    train: tuple[str, str]
    dev: tuple[str, str] | None = None
    test: tuple[str, str] | None = None
    tokenizer: Path | None = None
    target_tokenizer: Path | None = None
    languages: tuple[str, ...] = ()
    show: int = 3
    limit: int | None = None
    on_line: Callable[[int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in language_identification.KNOWN:
                raise unknown("language", language, sorted(language_identification.KNOWN))
        if self.languages and len(self.languages) != 2:
            raise NlpcliError("--languages needs two languages", hint="name both of them, such as --languages en de")


def inspect_parallel(corpus: Corpus) -> Inspection:
    """Looks at a parallel corpus. Raises: NlpcliError for files that are missing or no text."""
    tokenizers = _tokenizers(corpus)
    groups = [(name, pair) for name in ("train", "dev", "test") if (pair := getattr(corpus, name)) is not None]
    with repeatable([path for _, pair in groups for path in pair]) as files:
        if len(files) != 2 * len(groups):
            raise NlpcliError("each side of a parallel corpus must be one file, not a folder or several files")
        read = {
            name: _read(files[2 * i : 2 * i + 2], pair, tokenizers, corpus) for i, (name, pair) in enumerate(groups)
        }
        train = read["train"]
        if train.paired:
            train.evidence = _evidence(train, corpus.limit)
        findings = [
            *_counts(train), *_side_findings(train, corpus), *_languages(train, corpus),
            *(_pair_findings(train, corpus) if train.paired else ()),
        ]  # fmt: skip
        overlaps, shared = overlap_with_training.between(read, corpus.show)
    facts = _facts(train, corpus) | {"overlap": overlaps}
    title = (
        f"parallel corpus, {counted(len(train.sides[0]), 'pair')}"
        if train.paired
        else "two files with different numbers of lines"
    )
    path = " ".join(corpus.train)
    return Inspection("parallel", title, path, facts, _sections(facts), [*findings, *shared])


def _tokenizers(corpus: Corpus) -> list[Any]:
    from nlpcli.runs.open_tokenizer import open_tokenizer

    if corpus.tokenizer is None:
        if corpus.target_tokenizer is not None:
            raise NlpcliError(
                "--target-tokenizer has no effect without --tokenizer", hint="add --tokenizer for the source side"
            )
        return [None, None]
    first = open_tokenizer(corpus.tokenizer)
    return [first, first if corpus.target_tokenizer is None else open_tokenizer(corpus.target_tokenizer)]


def _read(files: Sequence[Path], names: Sequence[str], tokenizers: Sequence[Any], corpus: Corpus) -> Pairs:
    sides = [Scan(file, tok, name) for file, tok, name in zip(files, tokenizers, names, strict=True)]
    guesses = [language_identification.LanguageGuess() for _ in sides]
    for portion in zip_longest(*(side.read(corpus.limit) for side in sides)):
        for guess, block in zip(guesses, portion, strict=True):
            guess.add(block or ())
        if corpus.on_line is not None:
            corpus.on_line(max(map(len, sides)))
    for side in sides:
        if not len(side):
            raise NlpcliError(f"{side.name}: the file is empty")
    return Pairs(names, sides, [g.best(text_report.letters(side)) for g, side in zip(guesses, sides, strict=True)])


def _evidence(pairs: Pairs, limit: int | None) -> list[np.ndarray]:
    sides = Sides()
    for number, side in enumerate(pairs.sides):
        for block in blocks(side.path, limit):
            sides.count(number, block)
    return [
        np.concatenate([sides.evidence(number, block) for block in blocks(side.path, limit)])
        for number, side in enumerate(pairs.sides)
    ]


# --- what is wrong -----------------------------------------------------------------------------------------------


def _counts(pairs: Pairs) -> list[Finding]:
    if pairs.paired:
        return []
    source, target = pairs.sides
    place = parting(source.characters, target.characters, source.numbers, target.numbers)
    where = "; the line where they diverge is unknown" if place is None else f"; they diverge near line {place:,}"
    description = (
        f"the numbers of lines differ: {source.name} has {len(source):,}, but {target.name} has {len(target):,}{where}"
    )
    lines = [] if place is None else [place]
    return [Finding("unequal", description, abs(len(source) - len(target)), True, lines)]


def _side_findings(pairs: Pairs, corpus: Corpus) -> list[Finding]:
    found = []
    for name, side in zip(SIDES, pairs.sides, strict=True):
        found += text_report.odd_findings(side, corpus.show, prefix=f"{name}: ", shown=name)
        found += text_report.script_findings(side, corpus.show, prefix=f"{name}: ", shown=name, share=_FEW)
        if not pairs.paired:
            found += text_report.blank_findings(side, prefix=f"{name}: ")
    return found


def _languages(pairs: Pairs, corpus: Corpus) -> list[Finding]:
    """The whole of a side in another language than was given, or both sides in one."""
    found = []
    for name, language, guess in zip(SIDES, corpus.languages, pairs.guesses, strict=False):
        if guess is not None and guess[0] != language:
            words = f"the {name} side seems to be in '{guess[0]}', not in '{language}'"
            found.append(Finding("language", words, 1, True))
    first, second = pairs.guesses
    if not found and not corpus.languages and first and second and first[0] == second[0]:
        found.append(Finding("language", f"both sides seem to be in the same language, '{first[0]}'", 1))
    return found


def _pair_findings(pairs: Pairs, corpus: Corpus) -> list[Finding]:
    source, target = pairs.sides
    blank = source.blank | target.blank
    same = (source.exact == target.exact) & ~blank
    long = (source.words >= _LONG_WORDS) | (source.characters >= _LONG_CHARACTERS)
    first, second = pairs.evidence
    swapped = ~same & ~blank & (first < 0) & (second > 0) & (second - first > SWAPPED)
    wrong_source = ~same & ~blank & ~swapped & (first < -WRONG)
    wrong_target = ~same & ~blank & ~swapped & (second > WRONG)
    found = [
        ("blank_side", "pairs with a blank line", blank, True),
        ("swapped", "pairs with swapped sides", swapped, True),
        ("source_language", "source lines that seem to be in the target language", wrong_source, True),
        ("target_language", "target lines that seem to be in the source language", wrong_target, True),
        ("copy", f"pairs whose target is a copy of the source ({_LONG_WORDS} or more words)", same & long, True),
        (
            "short_copy",
            "shorter pairs whose target is a copy of the source (such as names or numbers)",
            same & ~long,
            False,
        ),
        *_outliers(pairs, blank),
    ]
    return [
        item
        for name, description, places, problem in found
        for item in finding(name, description, np.flatnonzero(places) + 1, problem=problem,
                            examples=pair_examples(pairs, np.flatnonzero(places) + 1, corpus.show))
    ] + _duplicates(pairs, blank, corpus.show)  # fmt: skip


def _outliers(pairs: Pairs, blank: np.ndarray) -> Iterable[tuple[str, str, np.ndarray, bool]]:
    source, target = pairs.sides
    z = _ratio(pairs, "characters").z(source.characters, target.characters)
    yield (
        "length_ratio",
        f"pairs with unusual length ratios in characters (|z| > {LIMIT:g})",
        (~blank & (np.abs(z) > LIMIT)),
        False,
    )
    if source.tokenizer is not None:
        z = _ratio(pairs, "tokens").z(source.tokens, target.tokens)
        yield (
            "token_length_ratio",
            f"pairs with unusual length ratios in tokens (|z| > {LIMIT:g})",
            (~blank & (np.abs(z) > LIMIT)),
            False,
        )
        yield "unknown", "pairs with unknown tokens", (source.unknown > 0) | (target.unknown > 0), False


def _ratio(pairs: Pairs, what: str) -> Ratio:
    return Ratio.of(*(getattr(side, what) for side in pairs.sides))


def _duplicates(pairs: Pairs, blank: np.ndarray, show: int) -> list[Finding]:
    """Pairs that stand there again; lines that have several translations."""
    source, target, both = pairs.hashes("exact")
    again, first = repeated(both, ~blank)
    repeats = np.zeros(len(both), dtype=bool)
    repeats[again] = True
    found = finding(
        "duplicate", "repeated pairs (ignoring case and white space)", again + 1,
        examples=pair_examples(pairs, again + 1, show, first + 1),
    )  # fmt: skip
    for name, values, other, description in (
        ("one_to_many", source, 1, "repeated sources with another target"),
        ("many_to_one", target, 0, "repeated targets with another source"),
    ):
        places, origin = repeated(values, ~blank & ~repeats)
        examples = pair_examples(pairs, places + 1, show, origin + 1, other)
        found += finding(name, description, places + 1, examples=examples)
    return found


def pair_examples(
    pairs: Pairs,
    lines: Sequence[int] | np.ndarray,
    show: int,
    first: Sequence[int] | np.ndarray | None = None,
    other: int | None = None,
) -> list[Example]:
    """The first `show` of some pairs. first: the line that each repeats; other: the side that was another one there."""
    numbers = [int(number) for number in lines[:show]]
    origins = [] if first is None else [int(number) for number in first[:show]]
    sides = [fetch(side.path, numbers) for side in pairs.sides]
    before = {} if other is None else fetch(pairs.sides[other].path, origins)
    found = []
    for place, number in enumerate(numbers):
        shown = {name: side[number] for name, side in zip(SIDES, sides, strict=True)}
        if origins:
            origin = origins[place]
            shown["earlier"] = f"line {origin:,}" + (f": {before[origin]}" if origin in before else "")
        found.append(Example(number, shown))
    return found


def _has_tokens(pairs: Pairs) -> bool:
    return pairs.sides[0].tokenizer is not None


# --- what it is --------------------------------------------------------------------------------------------------


def _facts(pairs: Pairs, corpus: Corpus) -> dict[str, Any]:
    facts: dict[str, Any] = {"lines": len(pairs.sides[0]) if pairs.paired else None}
    for name, side, guess in zip(SIDES, pairs.sides, pairs.guesses, strict=True):
        facts[name] = text_report.text_facts(side) | {
            "language": None if guess is None else guess[0],
            "language_share": None if guess is None else guess[1],
        }
    if corpus.languages:
        facts["expected_languages"] = list(corpus.languages)
    if pairs.paired:
        for unit in ("characters", "tokens")[: 1 + _has_tokens(pairs)]:
            ratio = _ratio(pairs, unit)
            facts[f"length_ratio_in_{unit}"] = {
                "mean": round(ratio.c, 4),
                "standard_deviation": round(ratio.deviation, 4),
            }
    return facts


def _sections(facts: dict[str, Any]) -> list[Section]:
    rows = []
    for name in SIDES:
        side = facts[name]
        rows.append([name, f"{side['lines']:,}", f"{side['words']:,}", f"{side['characters']:,}",
                     ", ".join(side["scripts"]), side["language"] or "?"])  # fmt: skip
    sections = [Section("Sides", rows, ("", "lines", "words", "characters", "script", "language"))]
    rows = [
        [name, what, *text_report.length_cells(facts[name][f"{what}_per_line"])]
        for what in ("characters", "words", "tokens")
        for name in SIDES
        if f"{what}_per_line" in facts[name]
    ]
    sections.append(Section("Lengths of lines", rows, ("", "unit", "mean", "median", "95 %", "99 %", "longest")))
    ratios = [
        (
            f"length ratio in {what}",
            f"{facts[key]['mean']:.3f} (target / source), standard deviation {facts[key]['standard_deviation']:.2f}",
        )
        for what, key in (("characters", "length_ratio_in_characters"), ("tokens", "length_ratio_in_tokens"))
        if key in facts
    ]
    for name in SIDES:
        if "unknown_tokens" in facts[name]:
            side = facts[name]
            ratios.append((f"unknown tokens in the {name}", percent(side["unknown_tokens"], side["tokens"])))
    for name in SIDES:
        if facts[name]["rare_characters"]:
            ratios.append((f"rare characters in the {name}", text_report.rare_words(facts[name]["rare_characters"])))
    if ratios:
        sections.append(Section("Comparison of the sides", ratios))
    if facts["overlap"]:
        sections.append(overlap_with_training.section(facts["overlap"]))
    return sections
