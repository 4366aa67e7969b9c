"""Which pairs of a test set were there in training: whole, one side alone, or all but exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from nlpcli.commands.inspect.findings import Example, Finding, Section, finding
from nlpcli.commands.inspect.line_pairs import SIDES, Pairs
from nlpcli.commands.inspect.line_scan import fetch, found_in
from nlpcli.config.counting import counted

_KINDS = {  # how they are described, and whether that is a problem in any case
    "pair": ("pairs of {held} that are in {train}", True),
    "source": ("sources of {held} that are in {train} with another target", False),
    "target": ("targets of {held} that are in {train} with another source", False),
    "near": ("pairs of {held} that are in {train} with other punctuation or case", True),
}


def between(read: Mapping[str, Pairs], show: int) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """The overlap of the parts of a corpus, each with each: counts by `train_test` and so on, and the findings.

    Lines are the same when they are as `nlpcli.commands.inspect.line_scan.normal` has them. Parts whose sides have
    unequal numbers of lines are compared side by side only.
    """
    counts, findings = {}, []
    for train, held in combinations(read, 2):
        found = compare(read[train], read[held])
        counts[f"{train}_{held}"] = {name: int((places >= 0).sum()) for name, places in found.items()}
        for name, places in found.items():
            description, problem = _KINDS[name]
            lines = np.flatnonzero(places >= 0)
            findings += finding(
                f"{held}_{name}_in_{train}", description.format(held=held, train=train), lines + 1, problem=problem,
                examples=_examples(read[held], lines[:show], train, places),
            )  # fmt: skip
    for name, pairs in read.items():
        if name != "train" and not pairs.paired:
            source, target = pairs.sides
            description = (
                f"{name}: {source.name} has {counted(len(source), 'line')}, but {target.name} has {len(target):,}"
            )
            findings.append(Finding(f"{name}_unequal", description, abs(len(source) - len(target)), True))
    return counts, findings


def compare(train: Pairs, held: Pairs) -> dict[str, np.ndarray]:
    """For each kind of overlap, and each line of `held`, the place in `train` where it is, -1 where it is not.

    Each line of `held` counts once: as a pair, else near, else by its source, else by its target. Blank lines don't.
    """
    result: dict[str, np.ndarray] = {}
    left = [~side.blank for side in held.sides]
    if train.paired and held.paired:
        rest = left[0] & left[1]
        for name, hashes in (("pair", "exact"), ("near", "near")):
            places = found_in(held.hashes(hashes)[2], train.hashes(hashes)[2])
            result[name] = np.where(rest, places, -1)
            rest = rest & (result[name] < 0)
        left = [rest, rest]
    for number, name in enumerate(SIDES):
        places = found_in(held.sides[number].exact, train.sides[number].exact)
        result[name] = np.where(left[number], places, -1)
        if held.paired:
            left[1] = left[1] & (result[name] < 0)
    return {name: result[name] for name in _KINDS if name in result}


def section(overlap: Mapping[str, Mapping[str, int]]) -> Section:
    rows = [
        [name.replace("_", " – "), *(f"{counts.get(kind, 0):,}" for kind in _KINDS)] for name, counts in overlap.items()
    ]
    return Section(
        "Overlap (lines of the second set that are also in the first)",
        rows,
        ("", "pairs", "source only", "target only", "nearly equal pairs"),
    )


def _examples(held: Pairs, lines: np.ndarray, train: str, places: np.ndarray) -> list[Example]:
    texts = [fetch(side.path, [int(line) + 1 for line in lines]) for side in held.sides]
    return [
        Example(
            int(line) + 1,
            {
                train: f"line {int(places[line]) + 1:,}",
                **{name: found.get(int(line) + 1, "") for name, found in zip(SIDES, texts, strict=True)},
            },
        )
        for line in lines
    ]
