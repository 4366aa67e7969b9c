"""The input texts: given one by one, as a pair, or as the lines of standard input."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nlpcli.commands.visualize_attention.request import AttentionInput
from nlpcli.config.counting import counted
from nlpcli.config.files import write_atomic
from nlpcli.data.open_text import STDIN, check_opens, display_name
from nlpcli.data.readers import blank, read_lines
from nlpcli.errors import NlpcliError


@dataclass(frozen=True)
class Texts:
    """texts: () for the lines of standard input, where a tab divides two texts. second: of a pair with the only
    text. target: of the only text; target_file: with a line for each text.

    Raises: NlpcliError for what excludes each other, and for a file that is not there.
    """

    texts: Sequence[str] = ()
    second: str | None = None
    target: str | None = None
    target_file: Path | None = None

    def __post_init__(self) -> None:
        if self.target is not None and self.target_file is not None:
            raise NlpcliError("--target and --target-file can't be used together", hint="give one of them")
        if self.target is not None and len(self.texts) > 1:
            raise NlpcliError(
                f"only one target is given, but there are {len(self.texts):,} texts",
                hint="name a file with a target for each text: --target-file FILE",
            )
        if self.target_file is not None:
            check_opens(self.target_file)

    def read(self, *, warn: Callable[[str], None]) -> Iterator[AttentionInput]:
        """Each text with its target. Blank texts are left out; `warn` receives a message.

        Raises: NlpcliError where there are more texts than targets, or fewer, after all before it were given.
        """
        targets = None if self.target_file is None else read_lines(self.target_file)
        number = 0
        for number, line in enumerate(self.texts or read_lines(STDIN), start=1):
            place = f"text {number}" if self.texts else f"{display_name(STDIN)}:{number}"
            target = self.target
            if target is not None and number > 1:
                raise NlpcliError(
                    f"{place}: only one target is given, but there are several lines",
                    hint="name a file with a target for each text: --target-file FILE",
                )
            if targets is not None:
                target = next(targets, None)
                if target is None:
                    raise NlpcliError(
                        f"{place}: no target is left; {self.target_file} has only {counted(number - 1, 'line')}",
                        hint="the file needs one line for each text",
                    )
            text, second = line, self.second
            if second is None and not self.texts and "\t" in line:
                text, second = line.split("\t", 1)
            if blank(text):
                warn(f"{place}: the text is blank and was skipped")
                continue
            yield AttentionInput(text, second, target, place, None if self.texts else number)
        if targets is not None and next(targets, None) is not None:
            raise NlpcliError(f"{self.target_file}: the file has more lines than there are texts ({number:,})")

    @contextmanager
    def files(self) -> Iterator[tuple[str, str]]:
        """Names of a file of the texts and one of their targets, which there must be."""
        with tempfile.TemporaryDirectory() as folder:
            sources, targets = STDIN, str(self.target_file)
            if self.texts:
                sources = str(Path(folder) / "texts")
                write_atomic(Path(sources), (f"{_one_line(text)}\n" for text in self.texts))
            if self.target_file is None:
                targets = str(Path(folder) / "targets")
                write_atomic(Path(targets), f"{_one_line(self.target or '')}\n")
            yield sources, targets


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
