"""The options of `visualize-attention`: how they are parsed, and which of them have no effect on the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlpcli.cli import convention
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from typer._click import Context

_NUMBERS = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})?(?:,[0-9]{1,18}(?:-[0-9]{1,18})?)*")
_MOST = 10_000
_LINKED = ("TEXT", "--model", "--target", "--target-file", "--gradient", "--layer", "--words")
"""What links of words are made of, besides the options that are about nothing else."""


class Command(convention.Command):
    """`--layer 1 2` as `--layer 1 --layer 2`; what is no number after it is a text."""

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

    reading: what a model reads and how; choosing: what of its attention is shown; drawing: what is about drawing
    without a model, which `pattern`, `positions` and `explain` ask for; aligning: what is about links of words;
    viewing: how matrices look in a terminal; machine: what a model runs on.
    """

    reading: Mapping[str, Any]
    choosing: Mapping[str, Any]
    drawing: Mapping[str, Any]
    aligning: Mapping[str, Any]
    viewing: Mapping[str, Any]
    machine: Mapping[str, Any]
    pattern: str | None
    positions: str | None
    explain: str | None

    @property
    def without_model(self) -> bool:
        return any(given is not None for given in (self.pattern, self.positions, self.explain))

    def check(self, format: str) -> None:
        """Raises: NlpcliError for an option that has no effect on this format, or that excludes another."""
        if format != "pharaoh":
            useless(self.aligning, "applies to word alignments only", hint="add --format pharaoh")
        if self.viewing["--view"] == "grid":
            useless({"--links": self.viewing["--links"]}, "has no effect on a grid, which contains no full matrices")
        if self.without_model:
            self._check_without_model()
            return
        without = {name: value for name, value in self.drawing.items() if name != "--seed"}
        useless(without, "applies to drawings without a model only", hint="add --pattern, --positions or --explain")
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

    def _drawing(self, *names: str) -> dict[str, Any]:
        return {name: self.drawing[name] for name in names}

    def _check_without_model(self) -> None:
        given = {"--pattern": self.pattern, "--positions": self.positions, "--explain": self.explain}
        name, *others = (option for option, value in given.items() if value is not None)
        useless({other: given[other] for other in others}, f"can't be used with {name}", hint="give one of them")
        useless({**self.reading, **self.choosing, **self.machine}, f"needs a model, but {name} uses none")
        of_vectors, of_relative = ("--d-model",), ("--buckets", "--distance")
        if self.pattern is not None:
            useless(self._drawing(*of_vectors, *of_relative), "applies to positions, not to a pattern")
            useless(
                self._drawing("--seed") if not _is_random(self.pattern) else {},
                "has no effect, because the pattern is not random",
            )
            return
        if self.explain is not None:
            sizes = self._drawing("--length", *of_vectors, *of_relative)
            useless({**sizes, **self.viewing}, "has no effect on --explain")
            return
        useless(self._drawing("--seed"), "has no effect, because positions are not random")
        if self.positions == "relative":
            useless(self._drawing(*of_vectors), "applies to vectors, but relative positions are buckets")
        else:
            useless(self._drawing(*of_relative, "--causal"), "applies to relative positions only")

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


def _is_random(pattern: str) -> bool:
    """Whether a seed makes another pattern of it."""
    from nlpcli.attention.pattern_parser import parse

    return parse(pattern, seed=0) != parse(pattern, seed=1)
