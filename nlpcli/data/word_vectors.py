"""Vectors of words in the text format of word2vec, GloVe and fastText: a word and its numbers on each line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.files import write_lines
from nlpcli.config.number_parsing import parse_float, parse_int
from nlpcli.data.open_text import display_name, open_bytes
from nlpcli.data.readers import LONGEST_LINE, bounded
from nlpcli.errors import NlpcliError

_HEADER = re.compile(rb"(\d+)[ \t]+(\d+)[ \t]*")
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FRACTION = re.compile(rb"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_FASTTEXT = b"\xba\x16\x4f\x2f"  # how fastText's binary models begin
_ZIP = b"PK\x03\x04"
_LOOKED_AT = 100  # lines in which a zero byte shows a binary file
_FORM = "each line must be a word and its numbers, separated by spaces"


@dataclass(frozen=True)
class WordVectors:
    """places: word -> row of matrix (words, width) float32, in the order of the file. path: of the file."""

    places: dict[str, int]
    matrix: np.ndarray
    path: str = ""

    @property
    def width(self) -> int:
        return self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, word: str) -> bool:
        return word in self.places

    def __getitem__(self, word: str) -> np.ndarray:
        """The word's vector (width,). Raises: KeyError."""
        return self.matrix[self.places[word]]


def read_word_vectors(path: Path | str, wanted: Callable[[str], bool] = lambda word: True) -> WordVectors:
    """The vectors of the words in a file, compressed or not; only those of the `wanted` words are kept.

    A first line of two whole numbers (word2vec, fastText) gives the width. A word may hold spaces, as some of GloVe's
    do; of a word that comes twice the first vector counts; what is not UTF-8 in a word becomes U+FFFD.

    Raises: NlpcliError for binary files, and, with file and line, for a vector of another width than the first, what is
    no number, and a number that is not finite.
    """
    name = display_name(path)
    places: dict[str, int] = {}
    rows: list[np.ndarray] = []
    width = seen = 0
    for number, line in _lines(path):
        if not width:
            width = _width(line, number)
            if not width:
                raise NlpcliError(f"{name}:{number}: there are no numbers after the word", hint=_FORM)
            if number == 1 and _HEADER.fullmatch(line):
                continue
        word, numbers = _split(line, width, f"{name}:{number}")
        seen += 1
        if word in places or not wanted(word):
            continue
        places[word] = len(rows)
        rows.append(_vector(numbers, f"{name}:{number}"))
    if not seen:
        raise NlpcliError(f"{name} contains no vectors", hint=_FORM)
    return WordVectors(places, np.stack(rows) if rows else np.zeros((0, width), dtype=np.float32), name)


def write_word_vectors(path: Path, words: Sequence[str], matrix: np.ndarray) -> None:
    """Writes word2vec's text format: a line with the number of words and the width, then each word with its vector.

    matrix (words, width): float32, in nine digits, so that each number is read back as the same one.
    """
    head = f"{len(words)} {matrix.shape[1]}"
    rows = (f"{word} {' '.join(f'{x:.9g}' for x in row.tolist())}" for word, row in zip(words, matrix, strict=True))
    write_lines(path, chain([head], rows))


def _lines(path: Path | str) -> Iterator[tuple[int, bytes]]:
    """The lines with vectors, and their numbers."""
    with open_bytes(path) as stream:
        for number, line in enumerate(bounded(stream, path, LONGEST_LINE), 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if number <= _LOOKED_AT:
                _check_text(line, path)
            line = line.rstrip(b" \t\r\n")  # fastText ends its lines with a space
            if line:
                yield number, line


def _check_text(line: bytes, path: Path | str) -> None:
    if line.startswith(_ZIP):
        raise NlpcliError(f"{display_name(path)} is a zip archive", hint="unpack it and use the file inside")
    if line.startswith(_FASTTEXT) or b"\x00" in line:
        raise NlpcliError(
            f"{display_name(path)} is a binary file, but word vectors must be in the text format",
            hint="use the .vec or .txt file; word2vec writes text with -binary 0",
        )


def _width(line: bytes, number: int) -> int:
    """The dimension of a vector: from the header, or the count of numbers after the word in the first line."""
    header = _HEADER.fullmatch(line)
    if number == 1 and header:
        return parse_int(header[2].decode()) or 0
    parts = re.split(rb"[ \t]+", line)
    count = 0
    while count < len(parts) - 1 and _NUMBER.fullmatch(parts[-1 - count]):
        count += 1
    return count


def _split(line: bytes, width: int, place: str) -> tuple[str, list[bytes]]:
    line = line.replace(b"\t", b" ")
    parts = line.rsplit(b" ", width)
    found = len(parts) - 1
    if found == width:  # a word that ends in numbers shows that the vector is too long
        extra = 0
        before = parts[0].split(b" ")
        while extra < len(before) - 1 and _FRACTION.fullmatch(before[-1 - extra]):
            extra += 1
        found += extra
    if found != width:
        raise NlpcliError(
            f"{place}: the vector has {counted(found, 'number')}, but {width} are expected from the first line",
            hint=_FORM,
        )
    return parts[0].decode("utf-8", "replace"), parts[1:]


def _vector(numbers: list[bytes], place: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # infinite, and refused below
            # NumPy reads 1_0 as 10
            vector = None if b"_" in b" ".join(numbers) else np.array(numbers, dtype=np.float32)
    except ValueError:
        vector = None
    if vector is None or not np.isfinite(vector).all():
        wrong = next(part for part in numbers if not _is_finite(part))
        shown_part = wrong.decode("utf-8", "replace")[:40]
        raise NlpcliError(f"{place}: {shown_part!r} is not a finite number", hint=_FORM)
    return vector


def _is_finite(part: bytes) -> bool:
    number = parse_float(part.decode("utf-8", "replace"))
    return number is not None and abs(number) <= float(np.finfo(np.float32).max)
