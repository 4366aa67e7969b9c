"""The options of `visualize-attention`: how they are parsed, and which of them have no effect on the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlpcli.cli import option_conventions
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from typer._click import Context

_NUMBERS = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})?(?:,[0-9]{1,18}(?:-[0-9]{1,18})?)*")
_MOST = 10_000
_LINKED = ("TEXT", "--model", "--target", "--target-file", "--gradient", "--layer", "--words")
"""Options that also apply to word alignment."""

_POINTS = "--kernel-regression"
_OF_VECTORS, _OF_RELATIVE = ("--d-model",), ("--buckets", "--distance")


class Command(option_conventions.Command):
    """`--layer 1 2` as `--layer 1 --layer 2`; what is not a number after it is a text."""

    exclusive: ClassVar = (("json", "format"),)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        result: list[str] = []
        current = ""
        for argument in args:
            if argument in ("--layer", "--head"):
                current = argument
                result.append(argument)
            elif current and result[-1] != current and _NUMBERS.fullmatch(argument):
                result += [current, argument]
            else:
                current = current if current and result[-1] == current else ""
                result.append(argument)
        return super().parse_args(ctx, result)


def numbers(name: str, given: Sequence[str] | None) -> tuple[int, ...]:
    """`3`, `1,2` and `1-4` as numbers. Raises: NlpcliError for anything else, and a range that counts down."""
    found: list[int] = []
    for text in given or ():
        if not _NUMBERS.fullmatch(text):
            raise NlpcliError(
                f"{name} {text} is not a number", hint=f"write {name} 3, {name} 1 2 or {name} 1-4; numbers start at 1"
            )
        for part in text.split(","):
            first, _, last = part.partition("-")
            span = range(int(first), int(last or first) + 1)
            if not span:
                raise NlpcliError(f"{name} {part} is a descending range", hint=f"write {last}-{first}")
            found += span[:_MOST]  # no model has more, so the first missing one is reported
    return tuple(dict.fromkeys(found))


def useless(given: Mapping[str, Any], why: str, hint: str = "leave it out") -> None:
    """Raises: NlpcliError for the first option that was given though it has no effect."""
    for name, value in given.items():
        if value is not None and value is not False and value not in ([], ()):  # 0 was given
            raise NlpcliError(f"{name} {why}", hint=hint)


@dataclass(frozen=True)
class Options:
    """Values by the names of options, None, False or empty where one was not given.

    reading: what a model reads and how; choosing: what of its attention is shown; subjects: what can be drawn without a
    model; drawing: how that is drawn; aligning: what is about links of words; viewing: how matrices look in a terminal;
    machine: what a model runs on.
    """

    reading: Mapping[str, Any]
    choosing: Mapping[str, Any]
    subjects: Mapping[str, Any]
    drawing: Mapping[str, Any]
    aligning: Mapping[str, Any]
    viewing: Mapping[str, Any]
    machine: Mapping[str, Any]

    @property
    def without_model(self) -> bool:
        return bool(self._given_subjects)

    @property
    def subject(self) -> tuple[str, Any]:
        """The option that selects the drawing without a model, and its value."""
        return next(iter(self._given_subjects.items()))

    @property
    def _given_subjects(self) -> dict[str, Any]:
        return {name: value for name, value in self.subjects.items() if value is not None and value is not False}

    def check(self, format: str) -> None:
        """Raises: NlpcliError for an option that has no effect on this format, or that excludes another."""
        if format != "pharaoh":
            useless(self.aligning, "applies to word alignments only", hint="add --format pharaoh")
        if self.viewing["--view"] == "grid":
            useless({"--links": self.viewing["--links"]}, "has no effect on a grid, which contains no full matrices")
        if not self.subjects[_POINTS]:
            useless(self._drawing("--bandwidth"), "applies to kernel regression only", hint=f"add {_POINTS}")
        if self.without_model:
            self._check_without_model()
            return
        without = {name: value for name, value in self.drawing.items() if name != "--seed"}
        useless(without, "applies to drawings without a model only", hint=f"add {_listed(self.subjects)}")
        if self.reading["--order"] != "random":
            useless(self._drawing("--seed"), "applies to a random order only", hint="add --order random")
        self._check_texts()
        if self.choosing["--stats"]:
            useless(self.viewing, "applies to matrices, but --stats prints a table")
        if format == "pharaoh":
            self._check_links()
        elif self.reading["--gradient"]:
            useless(
                {name: self.choosing[name] for name in ("--rollout", "--stats")},
                "applies to attention weights, but --gradient shows gradients",
                hint="leave one of them out",
            )

    @property
    def positions_of_model(self) -> bool:
        """Whether positions are drawn that a model has learned."""
        return self.subjects["--positions"] == "learned"

    def _drawing(self, *names: str) -> dict[str, Any]:
        return {name: self.drawing[name] for name in names}

    def _check_without_model(self) -> None:
        name, *others = self._given_subjects
        useless(
            {other: self.subjects[other] for other in others}, f"can't be used with {name}", hint="give one of them"
        )
        used = {_POINTS: "TEXT", "--positions": "--model" if self.positions_of_model else None}.get(name)
        given = {**self.reading, **self.choosing, **self.machine}
        unused = {what: value for what, value in given.items() if what != used}
        learned = "has no effect on --positions learned"
        useless(unused, learned if self.positions_of_model else f"needs a model, but {name} uses none")
        if name == "--pattern":
            self._check_pattern()
        elif name == "--positions":
            self._check_positions()
        else:
            self._check_example(name)

    def _check_pattern(self) -> None:
        useless(self._drawing(*_OF_VECTORS, *_OF_RELATIVE), "applies to positions, not to a pattern")
        useless(
            self._drawing("--seed") if not _is_random(self.subjects["--pattern"]) else {},
            "has no effect, because the pattern is not random",
        )

    def _check_positions(self) -> None:
        useless(self._drawing("--seed"), "has no effect, because positions are not random")
        if self.positions_of_model:
            useless(self._drawing(*_OF_VECTORS, *_OF_RELATIVE, "--causal"), "has no effect on --positions learned")
        elif self.subjects["--positions"] == "relative":
            useless(self._drawing(*_OF_VECTORS), "applies to vectors, but relative positions are buckets")
        elif self.subjects["--positions"] == "alibi":
            useless(self._drawing(*_OF_VECTORS), "applies to vectors, but alibi is a number for each distance")
            useless(self._drawing(*_OF_RELATIVE, "--causal"), "applies to relative positions only")
        else:
            useless(self._drawing(*_OF_RELATIVE, "--causal"), "applies to relative positions only")

    def _check_example(self, name: str) -> None:
        sizes = self._drawing("--length", *_OF_VECTORS, *_OF_RELATIVE)
        causal = {} if name == "--explain" else self._drawing("--causal")
        useless({**sizes, **causal, **self.viewing}, f"has no effect on {name}")
        files = self.reading["TEXT"] or ()
        if name == _POINTS and len(files) > 1:
            raise NlpcliError(f"{_POINTS} takes one file of points, but {len(files):,} are given")
        if name == _POINTS and files:
            useless(self._drawing("--seed"), "has no effect, because the points come from a file")

    def _check_texts(self) -> None:
        texts, first, second = (self.reading[name] for name in ("TEXT", "--text-a", "--text-b"))
        if first is not None and texts:
            raise NlpcliError("--text-a and another text can't be used together", hint="give one of them")
        if second is not None and first is None and len(texts or ()) != 1:
            raise NlpcliError(
                "--text-b is the second text of a pair, but the first text is missing", hint="add --text-a"
            )

    def _check_links(self) -> None:
        if self.reading["--target"] is None and self.reading["--target-file"] is None:
            raise NlpcliError(
                "a word alignment needs a translation, but none is given",
                hint="add --target-file; to align the model's own translations: nlpcli translate --alignments",
            )
        others = {**self.reading, **self.choosing}
        useless(
            {name: value for name, value in others.items() if name not in _LINKED}, "has no effect on word alignments"
        )


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


def _is_random(pattern: str) -> bool:
    """Whether a seed makes another pattern of it."""
    from nlpcli.attention.pattern_parser import parse

    return parse(pattern, seed=0) != parse(pattern, seed=1)
