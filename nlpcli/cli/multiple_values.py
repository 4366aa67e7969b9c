"""Options that take several values at once, as `--train train.en train.de`: the values up to the next option."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from nlpcli.cli.option_conventions import LETTERS, Command

if TYPE_CHECKING:
    from typer._click import Context


def repeat_options(arguments: Sequence[str], names: Collection[str]) -> list[str]:
    """`--train a b` as `--train a --train b`, for the options in `names`."""
    result: list[str] = []
    current, given = "", True  # the option whose values are being read, and whether it has got one
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            if not given:
                result.append(current)  # without a value, which the parser reports
            current, given = (argument, False) if argument in names else ("", True)
            if not current:
                result.append(argument)
        else:
            result += [current, argument] if current else [argument]
            given = True
    return result if given else [*result, current]


class MultiValueCommand(Command):
    """A command whose `multi_value_options` may be given several values at once."""

    multi_value_options: ClassVar[Collection[str]] = ("--train", "--dev", "--data", "--choices", "--only")

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        letters = {LETTERS[name] for name in self.multi_value_options if name in LETTERS}
        return super().parse_args(ctx, repeat_options(args, {*self.multi_value_options, *letters}))
