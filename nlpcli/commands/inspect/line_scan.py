"""Scans a text once and records some numbers for each line, enough to find its problems."""

from __future__ import annotations

import codecs
import re
from array import array
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from nlpcli.data.open_text import open_bytes, text_lines
from nlpcli.data.readers import LONGEST_LINE, bounded
from nlpcli.data.train_dev_overlap import normal
from nlpcli.text import Tokenizer
from nlpcli.text.unusual_characters import Scripts, oddities

BLOCK = 2000  # lines
_LONGEST_LINE = 8 * LONGEST_LINE  # bytes; pretraining reads longer ones in parts
_NO_LETTERS = re.compile(r"[\W_]+")
_NUMBERS = re.compile(r"\d+")
_KEPT = 100_000  # places of an oddity
_FEW_LETTERS = 4  # of a script, before a line counts as written in it


def lenient_lines(path: Path | str, limit: int | None = None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The lines of a text file, also of one that is not quite text, and what is odd about each one's bytes.

    That is any of `bom`, `crlf` and `encoding` (bytes that are not UTF-8 become U+FFFD). limit: the most lines.
    Raises: NlpcliError for a file that is missing, binary, or compressed and damaged, and a line
    of more than 32 MiB.
    """
    with open_bytes(path) as stream:
        lines = text_lines(bounded(stream, path, _LONGEST_LINE), path)
        for number, raw in enumerate(islice(lines, limit)):
            odd: tuple[str, ...] = ()
            if not number and raw.startswith(codecs.BOM_UTF8):
                raw, odd = raw[len(codecs.BOM_UTF8) :], ("bom",)
            if raw.endswith(b"\r\n"):
                raw, odd = raw[:-2], (*odd, "crlf")
            raw = raw.removesuffix(b"\n")
            try:
                yield raw.decode("utf-8"), odd
            except UnicodeDecodeError:
                yield raw.decode("utf-8", "replace"), (*odd, "encoding")


def blocks(path: Path | str, limit: int | None = None) -> Iterator[list[str]]:
    """The lines in portions, as text alone."""
    lines = (line for line, _ in lenient_lines(path, limit))
    while block := list(islice(lines, BLOCK)):
        yield block


class Scan:
    """Lengths and hashes of the lines of a file; line i is number i + 1.

    characters, words: lengths. exact: a hash of the line as `normal` has it; near: of its letters and digits alone;
    numbers: of the numbers in it. script: see `Scripts`; a line with fewer than four letters of any has none.
    tokens, unknown: with a tokenizer, the tokens and how many of them are unknown. Hashes are those of this process.
    odd: the first lines in which each of `ODDITIES` was found; how_often: all of them. alphabet: counts of characters.
    """

    def __init__(self, path: Path | str, tokenizer: Tokenizer | None = None, shown: Path | str | None = None) -> None:
        self.path = path
        self.name = str(path if shown is None else shown)
        self.tokenizer = tokenizer
        self.scripts = Scripts()
        self.alphabet: Counter[str] = Counter()
        self.odd: dict[str, array] = {}
        self.how_often: Counter[str] = Counter()
        self._columns = {name: array("q") for name in ("exact", "near", "numbers")}
        self._columns |= {name: array("i") for name in ("characters", "words", "tokens", "unknown")}
        self._script = array("B")

    def __len__(self) -> int:
        return len(self._script)

    def __getattr__(self, name: str) -> np.ndarray:
        columns = self.__dict__.get("_columns", {})
        if name not in columns:
            raise AttributeError(name)
        return np.frombuffer(columns[name], dtype=np.int64 if columns[name].typecode == "q" else np.int32)

    @property
    def script(self) -> np.ndarray:
        return np.frombuffer(self._script, dtype=np.uint8)

    @property
    def blank(self) -> np.ndarray:
        """(lines,): True for lines of white space alone."""
        return self.words == 0

    def read(self, limit: int | None = None) -> Iterator[list[str]]:
        """Reads the file and hands on its lines in portions."""
        lines = lenient_lines(self.path, limit)
        while found := list(islice(lines, BLOCK)):
            block, before = [line for line, _ in found], len(self) + 1
            marks = {number: odd for number, (_, odd) in enumerate(found, before) if odd}
            for number, odd in marks.items():
                for name in odd:
                    self._note(name, number)
            self.add(block, {number for number, odd in marks.items() if "encoding" in odd})
            yield block

    def add(self, block: Sequence[str], broken: Container[int] = ()) -> None:
        """Adds some lines. broken: the numbers of those in which U+FFFD stands for bytes that are not text."""
        columns, before = self._columns, len(self)
        for number, line in enumerate(block, before + 1):
            self.alphabet.update(line)
            same = normal(line)
            columns["exact"].append(hash(same))
            columns["near"].append(hash(_NO_LETTERS.sub("", same)))
            columns["numbers"].append(hash(tuple(sorted(_NUMBERS.findall(line)))))
            columns["characters"].append(len(line))
            columns["words"].append(len(line.split()))
            for name in oddities(line):
                if name != "replacement" or number not in broken:
                    self._note(name, number)
        self._script.extend(self.scripts.of(block, _FEW_LETTERS).tolist())
        if self.tokenizer is not None:
            encoded = self.tokenizer.encode(list(block))
            columns["tokens"].extend(map(len, encoded))
            columns["unknown"].extend(ids.count(self.tokenizer.special.unk) for ids in encoded)

    def _note(self, name: str, number: int) -> None:
        self.how_often[name] += 1
        places = self.odd.setdefault(name, array("q"))
        if len(places) < _KEPT:
            places.append(number)


def scan(
    path: Path | str, *, tokenizer: Tokenizer | None = None, limit: int | None = None, shown: Path | str | None = None
) -> Scan:
    """Reads a whole file, or its first `limit` lines. shown: how the file is named to the user."""
    found = Scan(path, tokenizer, shown)
    for _ in found.read(limit):
        pass
    return found


def fetch(path: Path | str, numbers: Iterable[int]) -> dict[int, str]:
    """The text of some lines, by their numbers from 1."""
    wanted = set(numbers)
    if not wanted:
        return {}
    lines = enumerate(lenient_lines(path, max(wanted)), 1)
    return {number: line for number, (line, _) in lines if number in wanted}


def repeated(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries, among those where `among` is True, that repeat a value: their places, and where it was first."""
    places = np.flatnonzero(among)
    _, first, group = np.unique(values[places], return_index=True, return_inverse=True)
    origin = first[group]
    again = origin != np.arange(len(places))
    return places[again], places[origin[again]]


def found_in(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(len(values),): for each value the first place in `others` that holds it, -1 where none does."""
    if not len(others):
        return np.full(len(values), -1)
    order = np.argsort(others, kind="stable")
    at = np.searchsorted(others, values, sorter=order)
    at = order[np.minimum(at, len(others) - 1)]
    return np.where(others[at] == values, at, -1)


def lengths(values: np.ndarray) -> dict[str, float]:
    """Mean, median, 95th and 99th percentile, and the greatest."""
    if not len(values):
        return {"mean": 0.0, "median": 0, "p95": 0, "p99": 0, "longest": 0}
    median, p95, p99 = (int(value) for value in np.percentile(values, (50, 95, 99), method="inverted_cdf"))
    mean = round(float(values.mean()), 2)
    return {"mean": mean, "median": median, "p95": p95, "p99": p99, "longest": int(values.max())}
