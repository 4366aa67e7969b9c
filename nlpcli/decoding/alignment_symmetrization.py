"""Word links out of weights between words, and one alignment out of two: what is left, or grown, of both directions.

Weights are arrays (target words, source words). Sources: Och and Ney 2003; Koehn, Och and Marcu 2003; the methods'
names are those of Moses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nlpcli.errors import unknown

Links = frozenset[tuple[int, int]]
"""Pairs (source word, target word), from 0."""

SYMMETRISED = ("intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and")

_LEAST = 1e-6  # what one direction holds of a link that the other is sure of, so that it can't forbid it
_AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def shares(weights: np.ndarray) -> np.ndarray:
    """Each target word's weights as shares of their sum; a word without any keeps none."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def agreed(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """The product of two models' shares: of source words for each target word, and the other way round.

    Source: Liang et al. 2006, where posteriors are multiplied. A word that has no share in its own
    direction has none.
    """
    product = (forward + _LEAST) * (backward + _LEAST)
    there = (forward.sum(axis=1, keepdims=True) > 0) & (backward.sum(axis=0, keepdims=True) > 0)
    return np.where(there, product, 0)


def links_of_targets(weights: np.ndarray) -> Links:
    """For each target word the source word with the largest weight; none where all are 0."""
    if not weights.size:
        return frozenset()
    best = weights.argmax(axis=1)
    return frozenset((int(i), j) for j, i in enumerate(best) if weights[j, i] > 0)


def links_of_sources(weights: np.ndarray) -> Links:
    """For each source word the target word that gives it the largest share.

    Source: Jalili Sabet et al. 2020, where the links in which both sides agree are kept.
    """
    return turned(links_of_targets(weights.T))


def turned(links: Iterable[tuple[int, int]]) -> Links:
    """The same links with their two words exchanged."""
    return frozenset((j, i) for i, j in links)


def symmetrised(forward: Links, backward: Links, method: str) -> Links:
    """The links of both directions, each (source word, target word), made one.

    `intersection` and `union` are those of the sets. `grow-diag` begins with the intersection and adds, until nothing
    changes, links of the union that are neighbours (also diagonally) of one that is there, and where at least one
    word has no link yet. `grow-diag-final` then adds the links of `forward`, and after them those of `backward`,
    where one word has none yet; `grow-diag-final-and` those where neither has.

    Raises: NlpcliError for another method.
    """
    if method not in SYMMETRISED:
        raise unknown("symmetrization method", method, SYMMETRISED)
    if method == "union":
        return forward | backward
    if method == "intersection":
        return forward & backward
    grown = _Growing(forward & backward)
    grown.grow(forward | backward)
    if method != "grow-diag":
        for links in (forward, backward):
            grown.finish(links, both=method == "grow-diag-final-and")
    return frozenset(grown.links)


def agreement(some: Iterable[Links], others: Iterable[Links]) -> float:
    """How far two alignments of the same text agree, 2·|A ∩ B| / (|A| + |B|), from 0 to 1: 1 − AER of one by the other.

    Source: Chen et al. 2020, where layers are chosen by it.
    """
    common = total = 0
    for first, second in zip(some, others, strict=True):
        common += len(first & second)
        total += len(first) + len(second)
    return 2 * common / total if total else 1.0


class _Growing:
    """Links to which others are added, and which words they link."""

    def __init__(self, links: Links) -> None:
        self.links = set(links)
        self.sources = {i for i, _ in links}
        self.targets = {j for _, j in links}

    def grow(self, union: Links) -> None:
        """Adds neighbours out of `union` that link a word without a link, in the order of their places."""
        changed = True
        while changed:
            changed = False
            for link in sorted(self.links):
                for near in _neighbours(link):
                    if near in union and near not in self.links and self._new(near):
                        self._add(near)
                        changed = True

    def finish(self, links: Links, *, both: bool) -> None:
        """Adds those of `links` where one word, or with `both` each word, has no link so far."""
        for i, j in sorted(links):
            free = (i not in self.sources, j not in self.targets)
            if all(free) if both else any(free):
                self._add((i, j))

    def _new(self, link: tuple[int, int]) -> bool:
        return link[0] not in self.sources or link[1] not in self.targets

    def _add(self, link: tuple[int, int]) -> None:
        self.links.add(link)
        self.sources.add(link[0])
        self.targets.add(link[1])


def _neighbours(link: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for i, j in _AROUND:
        yield link[0] + i, link[1] + j
