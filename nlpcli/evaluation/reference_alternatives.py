"""References that leave a choice: `THE { INDUSTRY'S / INDUSTRY } SLIDE` accepts either word, `{ @ / AN }` none or one.

A hypothesis is scored against the reading of its reference that needs the fewest edits; the errors and the length are
those of this reading. The notation is that of the NIST tool sclite (transcript alternations in its trn format); the
braces and slashes are words of their own and groups do not nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nlpcli.errors import NlpcliError

NOTHING = "@"  # an alternative without words

Group = list[list[str]]  # alternatives, each a list of words; plain text is a group with one alternative


def parse(text: str, *, line: int | None = None) -> list[Group]:
    """The groups of a reference, left to right. Raises: NlpcliError for braces that do not match or nest."""
    where = f"reference line {line}" if line is not None else "reference"
    groups: list[Group] = [[[]]]
    inside = False
    for word in text.split():
        if word == "{":
            if inside:
                raise NlpcliError(f"{where}: alternatives can't be nested: {_short(text)}")
            inside = True
            groups.append([[]])
        elif word == "}":
            if not inside:
                raise NlpcliError(f"{where}: a '}}' has no matching '{{': {_short(text)}")
            inside = False
            groups.append([[]])
        elif word == "/" and inside:
            groups[-1].append([])
        elif not (inside and word == NOTHING):
            groups[-1][-1].append(word)
    if inside:
        raise NlpcliError(f"{where}: a '{{' has no matching '}}': {_short(text)}")
    return [group for group in groups if group != [[]]]


def nearest_reading(
    reference: str, hypothesis: str, normalise: Callable[[str], str] = str, *, line: int | None = None
) -> str:
    """The reading of `reference` nearest to `hypothesis` in word edits; the one written first where several are.

    `hypothesis` is normalised already; `normalise` is applied to every alternative, after the notation was read.
    """
    groups = [
        [normalise(" ".join(alternative)).split() for alternative in group] for group in parse(reference, line=line)
    ]
    return " ".join(_choose(groups, hypothesis.split()))


def _choose(groups: list[Group], hypothesis: list[str]) -> list[str]:
    numbers: dict[str, int] = {}
    target = np.array([numbers.setdefault(word, len(numbers)) for word in hypothesis], dtype=np.int64)
    coded = [[[numbers.get(word, -1) for word in alternative] for alternative in group] for group in groups]

    # after[g][j]: edits from groups g.. to the words j.. of the hypothesis, over all readings
    after = [np.arange(len(target), -1, -1)]
    for codes in reversed(coded):
        ends = [_advance(after[-1][::-1], alternative[::-1], target[::-1])[::-1] for alternative in codes]
        after.append(np.minimum.reduce(ends))
    after.reverse()

    # before[j]: edits from the reading chosen so far to the first j words of the hypothesis
    before = np.arange(len(target) + 1)
    reading: list[str] = []
    for group, codes, rest in zip(groups, coded, after[1:], strict=True):
        reached = [_advance(before, alternative, target) for alternative in codes]
        best = int(np.argmin([(row + rest).min() for row in reached]))
        before = reached[best]
        reading += group[best]
    return reading


def _advance(row: np.ndarray, words: Sequence[int], target: np.ndarray) -> np.ndarray:
    """Levenshtein's recurrence for `words` more reference words; row[j]: edits to the first j words of `target`.

    d(i, j) = min( d(i-1, j) + 1,  d(i-1, j-1) + [w_i != t_j],  d(i, j-1) + 1 )
    """
    steps = np.arange(len(row))
    for word in words:
        below = row + 1
        below[1:] = np.minimum(below[1:], row[:-1] + (target != word))
        row = np.minimum.accumulate(below - steps) + steps
    return row


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
