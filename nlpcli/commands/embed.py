"""Embedding files: from lines, plain or JSON, to vectors of the lines, or of the words in them, in the same order."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.vector_files import unit
from nlpcli.errors import NlpcliError
from nlpcli.runs.embedder import Embedder, Span
from nlpcli.runs.embedding_inputs import EmbedRequest, check_files, fitted, read_texts, warn_cut_lines, windows
from nlpcli.runs.embedding_processes import WordsOf, embed_windows, text_vectors
from nlpcli.runs.text_inputs import Input, check_first

MOST_COMPARED = 1000  # words in one table
_AROUND = 2  # words shown on either side
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han
_MARK = "\u0300"  # represents any mark or joiner
_JOINERS = "\u200c\u200d"
_RUN = rf"[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|{_MARK})*"
_WORD = re.compile(rf"[{_UNSPACED}]{_MARK}*|{_RUN}(?:['’\-]{_RUN})*|[^\w\s]{_MARK}*")


class Word(NamedTuple):
    """A word of the input. line, index: counted from 1; around: the word in brackets among its neighbours;
    sentence: the whole line."""

    line: int
    index: int  # type: ignore[assignment]  # a word is never searched, as a tuple would be
    text: str
    around: str
    sentence: str
    vector: np.ndarray
    static: np.ndarray


class Compared(NamedTuple):
    """Two words: the cosine of their vectors in their contexts, and that of the vectors they begin from."""

    first: Word
    second: Word
    cosine: float
    static: float


# --- texts -------------------------------------------------------------------------------------------------------


def embed_texts(embedder: Embedder, texts: Iterator[str], *, warn: Callable[[str], None]) -> Iterator[np.ndarray]:
    """The vectors of texts, (n, width) for each portion that is ready."""
    for window in windows(fitted(embedder, texts, str)):
        yield embedder.vectors(window)
    warn_cut_lines(embedder, warn)


def embed(
    job: EmbedRequest, *, objects: bool = True, notify: Callable[[str], None], warn: Callable[[str], None]
) -> tuple[int, Iterator[tuple[list[Input], np.ndarray]]]:
    """The numbers of a vector, and lines with their vectors (n, width) in the portions in which they are ready.

    objects: whether vectors are added to the JSON objects that come in, which must not have such a field then.

    Raises: NlpcliError for bad input, after all vectors before it were given.
    """
    added = (job.output_field,) if objects else ()
    check_files(job.files)
    check_first(job.files, job.format, job.field, added)
    embedder = Embedder(job.vectors, notify=notify)
    notify(f"vectors: {embedder.describe()}")

    def portions() -> Iterator[tuple[list[Input], np.ndarray]]:
        lines = fitted(embedder, read_texts(job, added), _text)
        yield from embed_windows(embedder, job.vectors, windows(lines), text_vectors, job.processes)
        warn_cut_lines(embedder, warn)

    return embedder.width, portions()


def _text(line: Input) -> str:
    return line.text


def json_line(line: Input, vector: np.ndarray, output_field: str = "vector") -> str:
    """The object a line stood in, or one with its text, and its vector beside."""
    record = line.record if line.record is not None else {"text": line.text}
    return _with_vectors(record, **{output_field: vector})


def _with_vectors(record: dict[str, Any], **vectors: np.ndarray) -> str:
    """Nine digits: just enough for each number to be read back as the same one."""
    parts = [json.dumps(record, ensure_ascii=False)[:-1]] if record else ["{"]
    for name, vector in vectors.items():
        key, numbers = json.dumps(name, ensure_ascii=False), ", ".join(f"{x:.9g}" for x in vector.tolist())
        parts.append(f"{'' if parts[-1] == '{' else ', '}{key}: [{numbers}]")
    return "".join(parts) + "}"


# --- words -------------------------------------------------------------------------------------------------------


def embed_words(
    job: EmbedRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[list[Word]]:
    """The words of the lines with their vectors, in order, in the portions in which they are ready.

    Words are runs of letters, digits and what joins them (don't, well-known), single signs, and single characters of
    Han and kana; each with its marks (accents, vowel signs, joiners).

    Raises: NlpcliError for bad input, after all words before it were given, and when no word of `only` is found.
    """
    check_files(job.files)
    embedder = Embedder(job.vectors, notify=notify)
    pooling = "mean of the word's tokens" if job.word == "mean" else "first token of the word"
    notify(f"vectors of words: dimension {embedder.width}, {pooling}, {embedder.states}")
    compute = WordsOf(_finder, job.only, job.word)
    number, found = 0, 0
    for window, of_lines in embed_windows(embedder, job.vectors, windows(read_texts(job)), compute, job.processes):
        portion = []
        for text, vectors in zip((line.text for line in window), of_lines, strict=True):
            number += 1
            ends = [end for _, end in words_in(text)] if vectors else []
            for span, vector, static in ((one.span, one.vector, one.static) for one in vectors):
                index = 1 + sum(end <= span[0] for end in ends)
                portion.append(Word(number, index, text[slice(*span)], _around(text, span), text, vector, static))
        found += len(portion)
        yield portion
    warn_cut_lines(embedder, warn)
    if job.only and not found:
        raise NlpcliError(
            f"the word '{job.only[0]}' does not occur in {counted(number, 'line')}",
            hint="--word finds only whole words",
        )


def words_in(text: str) -> list[Span]:
    """The characters of each word of a text, see `embed_words`."""
    shape = text if text.isascii() else "".join(_MARK if _is_mark(character) else character for character in text)
    return [found.span() for found in _WORD.finditer(shape)]


def _is_mark(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def _finder(wanted: Sequence[str]) -> Callable[[str], list[Span]]:
    """Finds some words, or several on end, longer ones first, where they begin and end as words of `words_in` do.

    wanted: none of them means all words.
    """
    if not wanted:
        return words_in
    patterns = [
        re.compile(r"\s+".join(map(re.escape, one.split())), re.IGNORECASE)
        for one in sorted(wanted, key=len, reverse=True)
    ]

    def find(text: str) -> list[Span]:
        words = words_in(text)
        ends = {end for _, end in words}
        found: list[Span] = []
        for start, _ in words:
            if found and start < found[-1][1]:
                continue
            matches = (match.span() for pattern in patterns if (match := pattern.match(text, start)))
            found += [span for span in matches if span[1] in ends][:1]
        return found

    return find


def _around(text: str, span: Span) -> str:
    start, end = span
    before, after = text[:start].split()[-_AROUND:], text[end:].split()[:_AROUND]
    glued_before = bool(before) and not text[start - 1 : start].isspace()
    glued_after = bool(after) and not text[end : end + 1].isspace()
    shown = f"[{text[start:end]}]"
    left = " ".join(before) + ("" if glued_before or not before else " ")
    right = ("" if glued_after or not after else " ") + " ".join(after)
    return left + shown + right


def word_line(word: Word, *, static: bool = False) -> str:
    """A word as a JSON object; its index in the line counts from 0. static: with the vector it begins from as well."""
    record = {"text": word.sentence, "line": word.line, "index": word.index - 1, "word": word.text}
    vectors = {"vector": word.vector} | ({"static": word.static} if static else {})
    return _with_vectors(record, **vectors)


def compare(words: Sequence[Word]) -> list[Compared]:
    """All pairs of words. Raises: NlpcliError for a single word, and for too many words."""
    if len(words) < 2:
        found = "was" if len(words) == 1 else "were"
        raise NlpcliError(f"a comparison needs at least 2 words, but {counted(len(words), 'word')} {found} found")
    if len(words) > MOST_COMPARED:
        raise NlpcliError(
            f"a table can compare at most {MOST_COMPARED:,} words, not {len(words):,}",
            hint="choose words with --word WORD",
        )
    cosines, statics = _cosines([word.vector for word in words]), _cosines([word.static for word in words])
    return [
        Compared(words[i], words[j], float(cosines[i, j]), float(statics[i, j]))
        for i, j in combinations(range(len(words)), 2)
    ]


def _cosines(vectors: Sequence[np.ndarray]) -> np.ndarray:
    rows = unit(np.stack(vectors).astype(np.float64))
    return rows @ rows.T
