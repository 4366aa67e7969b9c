"""Tokens as labels of a figure: in any script, on one line, with a font that has them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from types import ModuleType

from nlpcli.config.counting import counted
from nlpcli.visualization.figure_style import needed

BASE = "DejaVu Sans"  # comes with matplotlib
# For what the base lacks: fonts of Linux, macOS and Windows, those with the most characters of a script first.
_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "Arial Unicode MS", "Noto Emoji", "Segoe UI Emoji", "Symbola", "Noto Sans Symbols",
    "Noto Sans Symbols2", "Segoe UI Symbol", "Apple Symbols", "Noto Sans Hebrew", "Noto Sans Arabic", "Noto Sans Thai",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil",
)  # fmt: skip
_BOX = "□"
_LONGEST = 24
_TURNS = dict.fromkeys((0x200E, 0x200F, 0x61C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))  # set no other text
_SIGNS = {"\n": "↵", "\r": "↵", "\t": "⇥", " ": "␣"}
_FIRST_EMOJI = 0x1F000


class TokenLabels:
    """The text of one figure: `families` are the fonts for matplotlib.

    tokens: written by `label`, which cuts long ones; lines: all other text, written by `line`.
    warn: gets a sentence about characters that no installed font has; a box stands in their place.
    """

    def __init__(self, tokens: Iterable[str], lines: Iterable[str], warn: Callable[[str], None] | None = None) -> None:
        written = {text: _one_line(text) for text in (*tokens, *lines)}
        self.families, missing = _fonts_for({character for text in written.values() for character in text})
        invisible = {character for character in missing if unicodedata.category(character) in ("Cf", "Mn", "Me")}
        table = {ord(character): "" if character in invisible else _BOX for character in missing}
        self._written = {text: line.translate(table) for text, line in written.items()}
        boxed = sorted(missing - invisible)
        if boxed and warn is not None:
            named = ", ".join(f"{character} (U+{ord(character):04X})" for character in boxed[:5])
            more = f" and {counted(len(boxed) - 5, 'more character')}" if boxed[5:] else ""
            warn(f"matplotlib finds no font that contains {named}{more}; the figure shows {_BOX} instead")

    def label(self, token: str) -> str:
        text = self._written[token]
        return _in_order(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")

    def line(self, text: str) -> str:
        return _in_order(self._written[text]) if text else ""


def _one_line(text: str) -> str:
    """Blanks that are all there is are made visible, control characters are dots, and none turns the direction."""
    text = text.translate(_TURNS)
    if not text:
        return "∅"
    if text.isspace():
        text = "".join(_SIGNS.get(character, "␣") for character in text)
    return "".join(_SIGNS.get(character, "·") if _unprintable(character) else character for character in text)


def _unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Cn", "Zl", "Zp")


def _fonts_for(wanted: set[str]) -> tuple[tuple[str, ...], set[str]]:
    """The base and as few other fonts as have the characters, and the characters that none has."""
    manager = needed("matplotlib.font_manager")
    installed = {font.name for font in manager.fontManager.ttflist if font.style == "normal" and font.weight == 400}
    families, missing = [BASE], wanted - _covered(manager, BASE, wanted)
    for name in [name for name in _FONTS if name in installed]:
        if found := _covered(manager, name, missing):
            families.append(name)
            missing -= found
    if any(ord(character) < _FIRST_EMOJI for character in missing):  # no other font has emoji that can be drawn
        for name in sorted(name for name in installed - {*_FONTS, BASE} if not name.startswith("Last Resort")):
            if found := _covered(manager, name, missing):
                families.append(name)
                missing -= found
    return tuple(families), missing


def _covered(manager: ModuleType, name: str, characters: set[str]) -> set[str]:
    if not characters:
        return set()
    try:
        path = manager.findfont(manager.FontProperties(family=[name]), fallback_to_default=False)
        font = manager.get_font(path)
    except (ValueError, RuntimeError, OSError):  # a font that FreeType can't read
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


def _in_order(text: str) -> str:
    """Words from right to left are turned, where matplotlib sets characters as they are stored (before 3.11)."""
    if needed("matplotlib").__version_info__[:2] >= (3, 11):
        return text
    directions = {unicodedata.bidirectional(character) for character in text}
    if not directions & {"R", "AL"} or "L" in directions:
        return text
    clusters: list[str] = []
    for character in text:
        both_digits = clusters and clusters[-1][-1].isdigit() and character.isdigit()
        if clusters and (unicodedata.combining(character) or both_digits):
            clusters[-1] += character
        else:
            clusters.append(character)
    return "".join(clusters[::-1]).translate(str.maketrans("()[]{}«»", ")(][}{»«"))
