"""Hits, substitutions, deletions and insertions of two texts, those of the alignment that jiwer finds.

The alignment is RapidFuzz's, as jiwer's is. With N units in the reference and M in the hypothesis,

    S + D + I = number of edits      D - I = N - M      H = N - S - D

so that only the substitutions of an alignment are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rapidfuzz.distance import Levenshtein

HITS, SUBSTITUTIONS, DELETIONS, INSERTIONS = range(4)
"""The columns of a table of counts."""

Counts = tuple[int, int, int, int]
_SEVERAL_SPACES = re.compile(r"\s\s+")
_KNOWN = 1 << 16  # words with a character of their own


def character_edits(reference: str, hypothesis: str) -> Counts:
    """The counts over code points, without white space at both ends, as in `jiwer.process_characters`."""
    return _edits(reference.strip(), hypothesis.strip())


def word_edits() -> Callable[[str, str], Counts]:
    """Counts over words as `jiwer.process_words` does."""
    letters = _Letters()

    def of(reference: str, hypothesis: str) -> Counts:
        if len(letters) > _KNOWN:
            letters.clear()
        letter = letters.__getitem__
        return _edits("".join(map(letter, words(reference))), "".join(map(letter, words(hypothesis))))

    return of


class _Letters(dict[str, str]):
    """For each word one character, so that texts of words are compared as strings."""

    def __missing__(self, word: str) -> str:
        self[word] = letter = chr(len(self))
        return letter


def words(text: str) -> list[str]:
    """The words of a text as jiwer's defaults cut it: at spaces, runs of white space being one space."""
    found = text.split()
    if " ".join(found) == text:
        return found
    return [word for word in _SEVERAL_SPACES.sub(" ", text).strip().split(" ") if word]


def _edits(reference: str, hypothesis: str) -> Counts:
    if reference == hypothesis:
        return len(reference), 0, 0, 0
    operations = Levenshtein.editops(reference, hypothesis)
    count, longer = len(operations), len(reference) - len(hypothesis)
    replaced = 0 if count == abs(longer) else sum(kind == "replace" for kind, _, _ in operations.as_list())
    deleted = (count - replaced + longer) // 2
    return len(reference) - replaced - deleted, replaced, deleted, deleted - longer
