"""Text in the columns of a terminal: how wide it is, and how any token is shown so that a grid stays a grid.

Terminals disagree about emoji that are joined or toned, about lone jamo and about flags. Tokens are shown in a form
about which they agree, and what has no form of its own (control characters, joiners that join nothing) as its escape.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ: they shape letters of Arabic and Indic scripts
_ISOLATE, _POP = "\u2066", "\u2069"
_CIRCLE = "◌"  # carries a mark that stands alone
_SPACE = "␣"
_PLAIN = str.maketrans({"▁": "_", "×": "x", "–": "-", "…": "...", "·": "."})  # what tokenizers and titles have


def cells(text: str) -> int:
    """The columns that `text`, as `printable` gives it, takes in a terminal."""
    return sum(map(_cells, text))


def printable(token: str, *, unicode: bool = True) -> str:
    """`token` in a form that has the same width in every terminal.

    Composed (NFC); spaces are ␣; emoji lose tones, variation selectors and joiners (a family is its members); control
    and format characters, lone surrogates, lone joiners and lone halves of flags are written as escapes; a mark
    without a letter stands on ◌. Without `unicode` it is ASCII: spaces and ▁ are _, all else is escaped.
    """
    token = unicodedata.normalize("NFC", token)
    if not unicode:
        spaced = "".join("_" if unicodedata.category(char) == "Zs" else char for char in token.translate(_PLAIN))
        return "".join(char if " " <= char <= "~" else _escaped(char) for char in spaced)
    parts: list[str] = []
    before = ""
    for index, char in enumerate(token):
        part = _part(char, before, token[index + 1 : index + 2])
        parts.append(part)
        before = char if part or not before else before
    return "".join(parts)


def clusters(text: str) -> Iterator[str]:
    """The letters of a shown text with their marks, each one or two columns wide."""
    cluster, width = "", 0
    for char in text:
        more = _cells(char)
        if cluster and (more == 0 or _joins(cluster, char, width)):
            cluster, width = cluster + char, width + more
            continue
        if cluster:
            yield cluster
        cluster, width = char, more
    if cluster:
        yield cluster


def cut(text: str, width: int, mark: str = "…") -> str:
    """A shown text in at most `width` columns; `mark` ends it where something is left out."""
    if cells(text) <= width:
        return text
    mark = mark if cells(mark) < width else mark[:width]
    kept, used = [], cells(mark)
    for cluster in clusters(text):
        used += cells(cluster)
        if used > width:
            break
        kept.append(cluster)
    return "".join(kept) + mark


def to_right(text: str, width: int) -> str:
    """A shown text at the right end of `width` columns, kept apart from the direction of what follows."""
    return " " * (width - cells(text)) + isolated(text)


def to_left(text: str, width: int) -> str:
    """A shown text at the left end of `width` columns, kept apart from the direction of what follows."""
    return isolated(text) + " " * (width - cells(text))


def isolated(text: str) -> str:
    """`text` between marks that keep right-to-left letters from turning round what stands beside them."""
    if any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in text):
        return f"{_ISOLATE}{text}{_POP}"
    return text


def wrapped(text: str, width: int) -> list[str]:
    """Plain text in lines of at most `width` columns, broken between words where it can be."""
    lines, line = [], ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if cells(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while cells(line) > width:
            head = cut(line, width, mark="")
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line] if line else lines


def _part(char: str, before: str, after: str) -> str:
    """How `char` is shown between its neighbours; `before` is empty at the start."""
    category = unicodedata.category(char)
    if category == "Zs":
        return _SPACE
    if _is_selector(char) or _is_tone(char) or _is_tag(char):
        return "" if before else (char if _is_tone(char) else _escaped(char))
    if char in _JOINERS:
        if _is_pictured(before) or _is_selector(before) or _is_tone(before):
            return ""
        return char if before and after and unicodedata.category(before)[0] in "LM" else _escaped(char)
    if category in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
        return _escaped(char)
    if _is_flag(char) and not (_is_flag(before) or _is_flag(after)):
        return _escaped(char)
    return (_CIRCLE + char) if not before and _cells(char) == 0 else char


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if char != "\\" else char


def _cells(char: str) -> int:
    if char < "\u0300":
        return int(char >= " ")
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or _is_inner_jamo(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _joins(cluster: str, char: str, width: int) -> bool:
    """Marks that take a column of their own stay with a letter of one; so do the halves of a flag."""
    return width == 1 and (unicodedata.category(char) == "Mc" or (_is_flag(cluster) and _is_flag(char)))


def _is_inner_jamo(char: str) -> bool:
    return "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff"


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _is_tone(char: str) -> bool:
    return "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_tag(char: str) -> bool:
    return "\U000e0020" <= char <= "\U000e007f"


def _is_flag(text: str) -> bool:
    return len(text) == 1 and "\U0001f1e6" <= text <= "\U0001f1ff"


def _is_pictured(char: str) -> bool:
    return bool(char) and unicodedata.category(char) == "So"
