"""Labels as text: white space around them does not belong to them, and each can be written in one field of one line."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

from nlpcli.errors import NlpcliError

_AROUND = re.compile(r"[\s\ufeff]+")
_BREAKING = frozenset({"Cc", "Zl", "Zp"})  # Unicode's control characters, line and paragraph separators
_QUOTED = re.compile(r"""'[^'\\]*'|"[^"\\]*\"""")
_OF_NUMPY = re.compile(rf"\[(?:{_QUOTED.pattern})(?:\s+(?:{_QUOTED.pattern}))+\]")
_SHOWN = 40


class UnknownLabel(NlpcliError):
    """A label that is right in its form and that the model can't predict, since training did not have it.

    effect: what becomes of it where predictions are measured.
    """

    effect = "it counts as a mistake"


def stripped(text: str) -> str:
    """`text` without white space of any kind, and byte order marks, at its ends; inside and in case it stays as it is.

    Python's own `strip` leaves byte order marks.
    """
    start, end = 0, len(text)
    if found := _AROUND.match(text):
        start = found.end()
    while end > start and (text[end - 1].isspace() or text[end - 1] == "\ufeff"):
        end -= 1
    return text[start:end]


def look_alike(labels: Iterable[str]) -> tuple[str, str] | None:
    """Two of the labels that a reader can't distinguish, None where there are none.

    They differ only in characters that can't be seen, in kinds of spaces, or in how accents are encoded.
    """
    seen: dict[str, str] = {}
    for label in labels:
        plain = "".join(c for c in unicodedata.normalize("NFC", label) if unicodedata.category(c) != "Cf")
        other = seen.setdefault(" ".join(plain.split()), label)
        if other != label:
            return other, label
    return None


def clean_label(text: str, place: str) -> str:
    """A label as it is learnt and written: `stripped`.

    Raises: NlpcliError for a label with a line end, a tab or another control character inside: it would not fit into
        one field of one line.
    """
    label = stripped(text)
    breaking = _breaking(label)
    if breaking:
        raise NlpcliError(
            f"{place}: the label {_quoted(label)} contains {_named(breaking)}, but a label must fit on one line",
            hint="replace line ends, tabs and other control characters in labels with spaces",
        )
    return label


def clean_tag(text: str, number: int, place: str) -> str:
    """The tag of the word with this number: as `clean_label`, and without any white space inside.

    Raises: NlpcliError for white space or a control character in a tag, and for an empty one.
    """
    tag = stripped(text)
    spaces = [character for character in tag if character.isspace()]
    breaking = _breaking(tag) or (spaces[0] if spaces else "")
    if breaking:
        raise NlpcliError(
            f"{place}: the tag {_quoted(tag)} of word {number} contains {_named(breaking)}, but tags are separated by "
            "spaces",
            hint="join the parts of the tag, for example with an underscore",
        )
    if not tag:
        raise NlpcliError(f"{place}: the tag of word {number} is empty")
    return tag


def one_field(label: str) -> str:
    """A label of a model from elsewhere as one field of one line: control characters become spaces."""
    return "".join(" " if unicodedata.category(character) in _BREAKING else character for character in label)


def split_labels(label: str | Sequence[str] | None, separator: str = ",") -> tuple[str, ...]:
    """The labels in a cell: a list as JSON, Python (`['joy', 'fear']`) or NumPy (`[1 3]`) print it, or separated parts.

    Space around labels, and empty ones, are dropped; an empty cell, `[]` and None hold no label.
    """
    if label is None:
        return ()
    if not isinstance(label, str):
        return tuple(filter(None, map(stripped, label)))
    text, parted = stripped(label), separator or None
    if text.startswith("[") and text.endswith("]"):
        found = _literal_list(text)
        if found is not None:
            return tuple(filter(None, map(stripped, found)))
        text = text[1:-1]
        parted = "," if "," in text else None  # NumPy prints arrays without commas: [0 2]
    return tuple(part for part in map(stripped, text.split(parted)) if part)


def join_labels(labels: Sequence[str], separator: str = ",") -> str:
    """Labels as one cell that `split_labels` reads as the same labels.

    They stand between separators where these keep them apart, and as a JSON list where a label has the separator in it
    or begins with a bracket.
    """
    plain = separator.join(labels)
    if split_labels(plain, separator) == tuple(labels) and not _breaking(plain.replace(separator, "")):
        return plain
    return json.dumps(list(labels), ensure_ascii=any(_breaking(label) for label in labels))


def _literal_list(text: str) -> tuple[str, ...] | None:
    try:
        values = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        if _OF_NUMPY.fullmatch(text):  # which Python would read as one string
            return tuple(part[1:-1] for part in _QUOTED.findall(text))
        try:
            values = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(values, list | tuple) or not all(isinstance(value, str | int | float) for value in values):
        return None
    return tuple(_as_written(value) for value in values)


def _as_written(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _breaking(text: str) -> str:
    """The first character of `text` that does not fit into a field of a line, "" if all do."""
    return next((character for character in text if unicodedata.category(character) in _BREAKING), "")


def _named(character: str) -> str:
    names = {"\n": "a line end", "\r": "a carriage return", "\t": "a tab", " ": "a space"}
    return names.get(character, f"the character U+{ord(character):04X}")


def _quoted(text: str) -> str:
    """Text in quotation marks on one line, cut where it is long."""
    shown = "".join(f"\\u{ord(c):04x}" if _breaking(c) and c not in "\n\t\r" else c for c in text[:_SHOWN])
    shown = shown.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return f"'{shown}{'…' if len(text) > _SHOWN else ''}'"
