"""The scripts of a line, and characters in it that are usually mistakes."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

_UNKNOWN = 255
_SAME = {"CJK": "Han", "KANGXI": "Han", "IDEOGRAPHIC": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}
_LEADING = {"FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "MODIFIER", "SUPERSCRIPT", "SUBSCRIPT"}
_NO_SCRIPT = {"LETTER", "MASCULINE", "FEMININE", "MICRO", "KELVIN", "ANGSTROM", "OHM"}

ODDITIES: Mapping[str, tuple[str, bool]] = {
    "encoding": ("lines that are not valid UTF-8", True),
    "replacement": ("lines with the replacement character U+FFFD (lost characters)", True),
    "mojibake": ("lines with UTF-8 decoded as another encoding (Ã¤, â€™)", True),
    "control": ("lines with control characters", True),
    "separator": ("lines with characters that other programs read as line ends (CR, U+0085, U+2028, FF, VT)", False),
    "space": ("lines with spaces other than U+0020 (U+00A0, U+2009, …)", False),
    "invisible": ("lines with invisible characters (U+200B, U+FEFF, U+00AD, …)", False),
    "private": ("lines with private-use characters", False),
    "entity": ("lines with HTML or Moses escape sequences (&amp; &#39; &apos;)", False),
    "decomposed": ("lines that are not in Unicode normalization form NFC", False),
    "crlf": ("lines that end with CR LF", False),
    "bom": ("a byte order mark (BOM) at the beginning of the file", False),
}
"""Unusual features of a line: their names, and whether they are always a problem."""

_PATTERNS = {
    "control": re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]"),
    "separator": re.compile("[\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]"),
    "space": re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]"),
    "invisible": re.compile("[\xad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"),
    "replacement": re.compile("\ufffd"),
    "private": re.compile("[\ue000-\uf8ff]"),
}
_ANY = re.compile("|".join(pattern.pattern for pattern in _PATTERNS.values()))
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|bar|#\d{1,6}|#x[0-9a-fA-F]{1,6}|#91|#93);")
# what the first bytes of UTF-8's Latin, Greek, Cyrillic, Hebrew, Arabic, punctuation and emoji look like in Latin 1
_MISREAD = re.compile("[\xc2-\xc6\xcb-\xcf\xd0\xd1\xd7-\xd9\xe2\xef\xf0][\x80-\xbf\u0152-\u2122]+")


def oddities(line: str) -> Iterator[str]:
    """The names in `ODDITIES` of what is odd in a line; those that belong to bytes or line ends are not seen here."""
    if "&" in line and _ENTITY.search(line):
        yield "entity"
    if _ANY.search(line):
        yield from (name for name, pattern in _PATTERNS.items() if pattern.search(line))
    if line.isascii():
        return
    if any(_is_misread(found.group()) for found in _MISREAD.finditer(line)):
        yield "mojibake"
    if not unicodedata.is_normalized("NFC", line):
        yield "decomposed"


def _is_misread(text: str) -> bool:
    """Whether the beginning of `text`, back in the bytes of Windows-1252, is a character of UTF-8."""
    data = b"".join(_byte(character) for character in text)
    need = 2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4
    try:
        return len(data[:need].decode("utf-8")) == 1
    except UnicodeDecodeError:
        return False


@functools.lru_cache(maxsize=512)
def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return bytes([ord(character)]) if character <= "\xff" else b"?"


def script_of(character: str) -> str | None:
    """The script of a letter, by its name in Unicode (Latin, Cyrillic, Han, Kana, …); None for other characters."""
    if not character.isalpha():
        return None
    words = unicodedata.name(character, "").replace("-", " ").split()
    while words and words[0] in _LEADING:
        words = words[1:]
    if not words or words[0] in _NO_SCRIPT:
        return None
    return _SAME.get(words[0], words[0].capitalize())


class Scripts:
    """The script in which most letters of a line are, for many lines at once. names[i]: the script of number i."""

    def __init__(self) -> None:
        self.names: list[str] = [""]  # number 0: no letters
        self._table = np.full(0x110000, _UNKNOWN, dtype=np.uint8)

    def of(self, lines: Sequence[str], least: int = 1) -> np.ndarray:
        """(lines,): the number of each line's script, 0 where there are fewer than `least` letters of it."""
        codes = np.frombuffer("\n".join([*lines, ""]).encode("utf-32-le", "replace"), dtype="<u4")
        kinds = self._table[codes]
        if (kinds == _UNKNOWN).any():
            for code in set(codes[kinds == _UNKNOWN].tolist()):
                self._table[code] = self._number(script_of(chr(code)))
            kinds = self._table[codes]
        ends = np.flatnonzero(codes == ord("\n"))
        starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)
        best = np.zeros(len(lines), dtype=np.uint8)
        most = np.full(len(lines), least - 1, dtype=np.int64)
        for number in range(1, len(self.names)):
            count = np.add.reduceat(kinds == number, starts, dtype=np.int64)
            best[count > most] = number
            most = np.maximum(most, count)
        return best

    def _number(self, name: str | None) -> int:
        if name is None:
            return 0
        if name not in self.names:
            if len(self.names) == _UNKNOWN:
                return 0
            self.names.append(name)
        return self.names.index(name)


def spelled(character: str) -> str:
    """A character for a reader: itself where it can be seen, and its number: `é U+00E9`."""
    code = f"U+{ord(character):04X}"
    return f"{character} {code}" if character.isprintable() and not character.isspace() else code
