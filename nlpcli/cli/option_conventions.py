"""Conventions of all commands: letters and synonyms of options, exclusive options, and checks before any work.

docs/cli.md states it for users, tests/contract/test_cli_convention.py walks all commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from nlpcli.cli import help
from nlpcli.config.number_parsing import parse_float, parse_int
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter, Parameter

LETTERS = {
    "--model": "-m",
    "--out": "-o",
    "--config": "-c",
    "--json": "-j",
    "--data": "-d",
    "--task": "-t",
    "--prompt": "-p",
    "--max-new-tokens": "-n",
    "--beam-size": "-b",
    "--ref": "-r",
    "--top": "-k",
    "--format": "-f",
    "--decimals": "-w",
}
"""The letter of an option, the same in every command that has the option."""

SYNONYMS = {"--out": "--output"}
"""Synonyms of options from other programs."""

FILES = ("--out", "--report")
FOLDERS = ("--out", "--save-index", "--predictions")
"""Options that name what is written. `--out` is a file where the help calls it FILE."""

RESULTS = "results"
"""The parameter behind `--out` of a command that leaves the file to this class: standard output goes there."""


class Command(TyperCommand):
    """A command of the program.

    exclusive: pairs of parameters that exclude each other, such as a positional argument and the option that means
    the same. needed: parameters by those of which one must be given (or be on) for them to have an effect.
    """

    exclusive: ClassVar[Collection[tuple[str, str]]] = ()
    needed: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # as Typer makes commands
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            for name in [name for name in parameter.opts if name in LETTERS]:
                if LETTERS[name] not in parameter.opts:
                    parameter.opts.insert(0, LETTERS[name])
            parameter.opts += [SYNONYMS[name] for name in parameter.opts if name in SYNONYMS]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(help.page(self, ctx, sections=help.option_sections(self, ctx)))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given = list(args)
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        self._refuse_repeated(order, given)
        for parameter in self.params:
            assert isinstance(parameter, (TyperOption, TyperArgument))  # Typer makes no others
            _check_number(parameter, values.get(parameter.name), ctx.command_path)
        rest = super().parse_args(ctx, args)
        self._refuse_contradictions(ctx)
        return rest

    def invoke(self, ctx: Context) -> Any:
        from nlpcli.cli import output_checks

        for parameter in self.params:
            path = ctx.params.get(parameter.name)
            if path is not None and isinstance(path, Path):
                if is_written(parameter, FILES) and not is_folder(parameter):
                    output_checks.check_file(path, shown_name(parameter))
                elif is_written(parameter, FOLDERS) and not ctx.params.get("resume"):  # a run to resume must be there
                    output_checks.check_folder(path, shown_name(parameter))
        output_checks.check_device(ctx.params.get("device"))
        with output_checks.redirected(ctx.params.get(RESULTS)):
            return super().invoke(ctx)

    def _refuse_repeated(self, order: Iterable[object], args: Sequence[str]) -> None:
        """Raises: NlpcliError for a second value of an option that takes one, and for a flag and its opposite."""
        counts = Counter(id(parameter) for parameter in order)
        for parameter in self.params:
            if not isinstance(parameter, TyperOption):
                continue
            name = long_name(parameter)
            if not parameter.is_flag and not parameter.multiple and counts[id(parameter)] > 1:
                values = ", ".join(_values(parameter, args))
                raise NlpcliError(
                    f"{name} takes one value but is given more than once: {values}", hint="leave one of them out"
                )
            both = [next((arg for arg in args if arg in names), None) for names in _sides(parameter)]
            if counts[id(parameter)] > 1 and all(both):
                raise NlpcliError(f"{both[0]} and {both[1]} contradict each other", hint="leave one of them out")

    def _refuse_contradictions(self, ctx: Context) -> None:
        """Raises: NlpcliError for parameters that can't be used together or have no effect."""
        named = {parameter.name: parameter for parameter in self.params}
        for first, second in self.exclusive:
            if _is_on(ctx, first) and _is_on(ctx, second) and not _agree(ctx, first, second):
                one, other = (shown_name(named[name]) for name in (first, second))
                raise NlpcliError(f"{one} and {other} can't be used together", hint="leave one of them out")
        for name, others in self.needed.items():
            if _is_given(ctx, name) and not any(ctx.params.get(other) for other in others):
                wanted = " or ".join(long_name(named[other]) for other in others)
                raise NlpcliError(f"{long_name(named[name])} has no effect without {wanted}", hint=f"add {wanted}")


def _check_number(parameter: TyperOption | TyperArgument, value: object, command: str) -> None:
    """Raises: NlpcliError for what a call gives to an option that takes a number, and that is none.

    Typer reads what Python's `int` and `float` take; see `nlpcli.config.number_parsing` for what a number is here.
    """
    annotation = parameter.type_descriptor.annotation
    kind = int if annotation in (int, list[int]) else float if annotation in (float, list[float]) else None
    for text in [] if kind is None else value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(text, str) and (parse_int if kind is int else parse_float)(text) is None:
            what = "whole number" if kind is int else "number"
            hint = f"'{command} --help' lists its options"
            raise NlpcliError(f"{shown_name(parameter)} needs a {what}, but {quoted(text)} is not one", hint=hint)


def _agree(ctx: Context, first: str, second: str) -> bool:
    """Whether two parameters mean the same: `--json --format json`."""
    return (first, second) == ("json", "format") and ctx.params[second] == "json"


def long_name(parameter: Parameter) -> str:
    """The long name of an option, as messages have it: `--out`."""
    return next(name for name in parameter.opts if name.startswith("--"))


def shown_name(parameter: Parameter) -> str:
    """The name of an option, or what the help calls an argument."""
    if parameter.param_type_name == "option":
        return long_name(parameter)
    return (parameter.metavar or parameter.name.upper()).strip("[].")


def is_folder(parameter: Parameter) -> bool:
    """Whether the value of an option that names what is written is a folder."""
    return not (parameter.metavar or "").startswith("FILE")


def is_written(parameter: Parameter, options: Collection[str]) -> bool:
    """Whether a parameter is one of these options, or the argument that stands for `--out`."""
    return any(name in options for name in parameter.opts) or parameter.metavar in ("OUT", "[OUT]")


def _sides(parameter: Parameter) -> tuple[Collection[str], Collection[str]]:
    return parameter.opts, parameter.secondary_opts


def _values(parameter: Parameter, args: Sequence[str]) -> list[str]:
    """The value of an option in the call, if it is a separate word or follows an equals sign."""
    found = []
    for place, argument in enumerate(args):
        name, equals, value = argument.partition("=")
        if argument in parameter.opts:
            found.append(" ".join(args[place + 1 : place + 1 + parameter.nargs]))
        elif equals and name.startswith("--") and name in parameter.opts:
            found.append(value)
        elif argument[:2] in parameter.opts and not argument.startswith("--"):
            found.append(argument[2:])
    return found


def _is_given(ctx: Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _is_on(ctx: Context, name: str) -> bool:
    """Whether the call gives a parameter, and does not turn it off."""
    return _is_given(ctx, name) and ctx.params.get(name) not in (None, False, [], ())


STANDARD_INPUT = "Without FILE, or if FILE is '-', standard input is read."
DOCUMENTS = (
    "lines (each line is a document), paragraphs (blank lines separate documents), file (the whole file is one "
    "document), jsonl (each JSON object is a document; --field names the field with its text), tsv (each row is a "
    "document) or auto: jsonl for .jsonl, .ndjson and .json files, tsv for .tsv files, otherwise paragraphs if there "
    "are blank lines between lines of text, and lines if there are none."
)
"""The meanings of the values of --documents."""
JSON_FIELD = "'data.text' means the field 'text' inside the field 'data'."
LABELED_LINES = 'labeled-lines (each line is a label, a space and a text, such as "sport Who won the match?")'

OUT_FILE = typer.Option(None, "--out", metavar="FILE", help="Write the output to this file instead of standard output.")
"""For the parameter `results`."""
