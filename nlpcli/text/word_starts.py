"""The starts of words, also in scripts without spaces, for whole-word masking."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nlpcli.text.byte_bpe import byte_alphabet
from nlpcli.text.tokenizer import Tokenizer
from nlpcli.text.wordpiece import CONTINUATION

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"  # Han, kana, their punctuation
    "\U00020000-\U0003ffff]"
)
_BYTE = re.compile("<0x(..)>")
_LEAD_BYTES = range(0xE3, 0xEA)  # of the three bytes of a character of Han or kana
_BROKEN = "\ufffd"
_IDEOGRAPH = "〇"
_BYTE_OF = {char: value for value, char in enumerate(byte_alphabet())}
_SPACE = byte_alphabet()[ord(" ")]


class WordStarts:
    """`tokenizer.word_starts`, and beside them the beginning of every piece that begins with a character of a script
    written without spaces (Han, kana, Thai, Lao, Khmer, Burmese), and of what follows such a piece.

    There a piece of the tokenizer counts as a word: a run of Chinese would otherwise be a single one. Marks that
    combine with the character before them, and bytes inside a character, begin nothing.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) ids -> (n,) bool."""
        ids = np.asarray(ids, dtype=np.int64)
        pieces = self._pieces
        starts = np.array(self._tokenizer.word_starts(ids.tolist()), dtype=bool)
        starts |= pieces.begins[ids]
        whole = np.where(pieces.goes_on[ids], 0, np.arange(len(ids)))
        last_begun = ids[np.maximum.accumulate(whole)]  # the piece in which the character at each place begins
        starts[1:] |= pieces.ends[last_begun[:-1]] & pieces.visible[ids[1:]]
        return starts

    @cached_property
    def _pieces(self) -> _Pieces:
        """Read when a word is first needed: spelling a whole vocabulary takes a moment."""
        texts = [_text(self._tokenizer, id_, text) for id_, text in enumerate(_decoded(self._tokenizer))]
        return _Pieces(
            begins=np.array([_begins(piece) for piece in texts], dtype=bool),
            ends=np.array([bool(_UNSPACED.fullmatch(piece.rstrip(_BROKEN)[-1:])) for piece in texts], dtype=bool),
            goes_on=np.array([piece != "" == piece.strip(_BROKEN) for piece in texts], dtype=bool),
            visible=np.array([piece[:1].isalnum() for piece in texts], dtype=bool),
        )


class _Pieces(NamedTuple):
    """Of each piece, (vocab,) bool: whether it begins and whether it ends with a character of a script without spaces,
    whether it is but bytes inside a character, and whether it begins with a letter or digit."""

    begins: np.ndarray
    ends: np.ndarray
    goes_on: np.ndarray
    visible: np.ndarray


def _decoded(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.decode([[id_] for id_ in range(tokenizer.vocab_size)])


def _text(tokenizer: Tokenizer, id_: int, decoded: str) -> str:
    """What a piece spells; an ideograph stands for the first byte of a character of Han or kana."""
    piece = tokenizer.id_to_piece(id_)
    if tokenizer.kind == "wordpiece":
        return decoded.removeprefix(CONTINUATION)
    decoded = decoded.lstrip(" ")
    if decoded.startswith(_BROKEN) and _first_byte(tokenizer, piece) in _LEAD_BYTES:
        return _IDEOGRAPH + decoded[1:]
    return decoded


def _first_byte(tokenizer: Tokenizer, piece: str) -> int:
    if tokenizer.kind == "byte-bpe":
        return _BYTE_OF.get(piece.lstrip(_SPACE)[:1], 0)
    spelled = _BYTE.match(piece)
    return int(spelled[1], 16) if spelled else 0


def _begins(piece: str) -> bool:
    return bool(_UNSPACED.match(piece)) and not unicodedata.category(piece[0]).startswith("M")
