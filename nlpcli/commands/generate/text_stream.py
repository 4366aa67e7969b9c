"""A text that is shown while it grows, and the texts that end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlpcli.text import Tokenizer

CONTEXT = 16
"""Tokens before new ones that are decoded with them, since spaces between the two depend on both."""


def added_text(tokenizer: Tokenizer, prefix: Sequence[int], ids: Iterable[int]) -> str:
    """The text that `ids` add to that of `prefix`; spaces between the two are part of it."""
    before, both = tokenizer.decode([prefix, [*prefix, *ids]])
    return both[len(before) :]


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of `stops` in it, and whether there is one."""
    ends = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


class TextStream:
    """Writes a growing text bit by bit: never half a character, and nothing of a text that ends it.

    The cost of a token does not grow with the text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], write: Callable[[str], None]) -> None:
        self.tokenizer, self.stops, self.write = tokenizer, stops, write
        self.context: list[int] = []  # the last ids whose text is known
        self.new: list[int] = []  # ids whose text is not complete
        self.held = ""  # may be the beginning of a stop
        self.written = 0  # characters

    def after(self, prefix: Sequence[int]) -> Callable[[int, int], None]:
        """A function that takes (row, id), the ids after a prefix one by one."""
        self.context = list(prefix[-CONTEXT:])
        return self._take

    def _take(self, row: int, token: int) -> None:
        self.new.append(token)
        text = added_text(self.tokenizer, self.context, self.new)
        if text.endswith("\ufffd"):
            return
        self.context, self.new = [*self.context, *self.new][-CONTEXT:], []
        text, stopped = before_stop(self.held + text, self.stops)
        keep = 0 if stopped else max((_begun(text, stop) for stop in self.stops), default=0)
        self.held = text[len(text) - keep :]
        self._write(text[: len(text) - keep])

    def finish(self, text: str) -> None:
        """Writes the rest of the finished text."""
        self._write(text[self.written :])

    def _write(self, text: str) -> None:
        if text:
            self.write(text)
            self.written += len(text)


def _begun(text: str, stop: str) -> int:
    """How many of the last characters of a text may be the beginning of `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
