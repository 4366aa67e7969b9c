"""Text from outside as a terminal, a sentence or a page in Markdown can take it: controls spelled out, length bounded.

Everything from an input that is shown to people goes through here, and so does what a filter writes, where it writes to
a terminal. What it writes for the next program doesn't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

VALUE = 300
"""The most characters of a value that a sentence quotes."""

SENTENCE, HINT = 800, 1100
"""The most characters of a sentence, and of a hint below it."""

# C0, DEL and C1 steer terminals (but the tab, which only moves on); the others end lines or turn the reading direction
_STEERING = "\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff"
_CONTROLS = re.compile(f"[{_STEERING}\u2066-\u2069]")
_CONTROLS_IN_PAGES = re.compile(f"[{_STEERING}]")
_LONG_WORD = re.compile(rf"\S{{{VALUE + 1},}}")
_MARKDOWN = re.compile(r"[\\`*_\[\]>|#~$&]|<(?!\s)")
_CUT = " … "
_DEPTH = 4
_ITEMS = 50


def printable(text: str) -> str:
    """`text` on one line with what could steer a terminal spelled out: `<U+001B>`."""
    return _CONTROLS.sub(_code, text)


def printable_lines(text: str) -> str:
    """`text` with its line ends, and with all else that could steer a terminal spelled out.

    Isolates stay, which keep the reading directions of texts in a report apart.
    """
    return "\n".join(_CONTROLS_IN_PAGES.sub(_code, line) for line in text.split("\n"))


def visible(text: str) -> str:
    """`text` with everything that can't be seen spelled out, odd spaces and joiners too: `a<U+00A0>b`."""
    return "".join(
        c if c == " " or (c.isprintable() and not c.isspace()) else "→" if c == "\t" else f"<U+{ord(c):04X}>"
        for c in text
    )


def escaped(text: str) -> str:
    """`text` on one line, with a backslash before every character that would mean something to Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))


def shortened(text: str, limit: int = VALUE) -> str:
    """`text`, or its beginning and its end around ` … ` when it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 4
    return text[: limit - end - len(_CUT)] + _CUT + text[-end:]


def sentence(text: str, limit: int = SENTENCE) -> str:
    """A sentence for people: printable, with long values shortened, of at most `limit` characters."""
    if len(text) > 10 * limit:  # nobody needs to look at all of it
        text = text[: 8 * limit] + "…" + text[-2 * limit :]
    return shortened(_LONG_WORD.sub(lambda found: shortened(found.group()), printable(text)), limit)


def quoted(value: object) -> str:
    """A value as it is written in Python, bounded in length and in the work that it takes."""
    return shortened(_written(value, _DEPTH))


def _written(value: object, depth: int) -> str:
    if isinstance(value, str):
        return repr(shortened(value))
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1024:
        return f"a number of {value.bit_length():,} bits"
    if not isinstance(value, (list, tuple, Mapping)):
        return repr(value)
    left, right = "{}" if isinstance(value, Mapping) else "[]"
    if value and not depth:
        return f"{left}…{right}"
    if isinstance(value, Mapping):
        some = [f"{_written(key, 0)}: {_written(value[key], depth - 1)}" for key in islice(value, _ITEMS)]
    else:
        some = [_written(item, depth - 1) for item in value[:_ITEMS]]
    return left + ", ".join(some + ["…"] * (len(value) > _ITEMS)) + right


def _code(match: re.Match[str]) -> str:
    return f"<U+{ord(match.group()):04X}>"
