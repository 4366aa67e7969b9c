"""The inputs of an encoder: running text, or pairs of segments (Devlin et al. 2019, 3.1; Liu et al. 2019, 4.2).

A format selects the spans of text that are an epoch's examples; `Inputs` puts them into batches.

    full-sentences   cls text sep             stretches that may go on in the next document, with a sep in between
    doc-sentences    cls text sep             stretches that end with their document
    segment-pair     cls A sep B sep          A and B are runs of sentences
    sentence-pair    cls A sep B sep          A and B are single sentences
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.next_sentence_pairs import NO_LABEL, Example, SentencePairs
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError, unknown
from nlpcli.text.special_tokens import SpecialTokens

FORMATS = ("full-sentences", "doc-sentences", "segment-pair", "sentence-pair")
PAIR_FORMATS = FORMATS[2:]


class Format(Protocol):
    """One way to cut examples out of a shard set."""

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The examples of an epoch: where each is, (examples, …), and how many tokens it has, (examples,)."""
        ...

    def read(self, place: np.ndarray, rng: np.random.Generator) -> Example:
        """One of them."""
        ...


def make_format(
    name: str, shards: ShardSet, special: SpecialTokens, *, context: int, order: bool = False
) -> FullSentences | DocSentences | SentencePairs:
    """The format `name` over a shard set, with examples of at most `context` tokens.

    order: pairs are two neighbours, half of them the wrong way round (sop), instead of half of them strangers (nsp).
    Raises: NlpcliError for an unknown name, a context without room, a pair format over shards without sentences, and
        where there are no documents to make pairs of.
    """
    if name not in FORMATS:
        raise unknown("input format", name, FORMATS)
    special.check("cls", "sep")
    if name in PAIR_FORMATS:
        documents = SentenceDocuments(shards)
        return SentencePairs(documents, special, context=context, single=name == "sentence-pair", order=order)
    return (FullSentences if name == "full-sentences" else DocSentences)(shards, special, context=context)


class FullSentences:
    """Stretches of the text of all documents, one after another, a sep between two of them.

    Over a set with sentences, whole sentences fill each stretch, and one that is longer is cut; otherwise all stretches
    are full. The first stretch of an epoch has a random length, so that the borders move from epoch to epoch.
    Every token is in exactly one stretch.
    """

    def __init__(self, shards: ShardSet, special: SpecialTokens, *, context: int) -> None:
        self.shards, self.special = shards, special
        self.room = _room(context)
        offsets = np.asarray(shards.offsets, dtype=np.int64)
        units = np.arange(shards.documents)
        if shards.sentences is None:  # a sep after each document
            self._seps = offsets[1:] + units
            self._borders = None
        else:  # an empty unit is a sep
            empty = np.diff(offsets) == 0
            self._borders = offsets + np.append(0, np.cumsum(empty))
            self._seps = self._borders[:-1][empty]
        self._length = shards.tokens + len(self._seps)

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        cuts = _cuts(0, self._length, self.room, self._borders, first=int(rng.integers(1, self.room + 1)))
        places = np.column_stack([cuts[:-1], cuts[1:]])
        for side, step in ((0, 1), (1, -1)):  # no sep at either end
            while True:
                at = places[:, side] - side
                idle = self._is_sep(at) & (places[:, 0] < places[:, 1])
                if not idle.any():
                    break
                places[idle, side] += step
        places = places[places[:, 0] < places[:, 1]]
        return places, places[:, 1] - places[:, 0] + 2

    def read(self, place: np.ndarray, rng: np.random.Generator) -> Example:
        start, stop = place.tolist()
        first, last = np.searchsorted(self._seps, [start, stop])
        is_token = np.ones(stop - start, dtype=bool)
        is_token[self._seps[first:last] - start] = False
        text = np.full(stop - start, self.special.sep, dtype=np.int64)
        text[is_token] = self.shards.read(start - int(first), stop - int(last))
        return _framed(text, self.special)

    def _is_sep(self, places: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self._seps, places)
        return np.append(self._seps, -1)[at] == places


class DocSentences:
    """Stretches of single documents, each filled from where the last one ended; those at ends of documents are shorter.

    Over a set with sentences, whole sentences fill them, and one that is longer is cut. All epochs have the same.
    """

    def __init__(self, shards: ShardSet, special: SpecialTokens, *, context: int) -> None:
        self.shards, self.special = shards, special
        self.room = room = _room(context)
        if shards.sentences is None:
            bounds = zip(shards.offsets[:-1].tolist(), shards.offsets[1:].tolist(), strict=True)
            cuts = [_cuts(begin, end, room) for begin, end in bounds if end > begin]
        else:
            documents = SentenceDocuments(shards)
            borders = (documents.borders(document) for document in range(documents.count))
            cuts = [_cuts(int(border[0]), int(border[-1]), room, border) for border in borders]
        self._places = np.concatenate([np.column_stack([cut[:-1], cut[1:]]) for cut in cuts])

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._places, self._places[:, 1] - self._places[:, 0] + 2

    def read(self, place: np.ndarray, rng: np.random.Generator) -> Example:
        start, stop = place.tolist()
        return _framed(self.shards.read(start, stop).astype(np.int64), self.special)


@dataclass(frozen=True)
class Item:
    """A batch of a plan: where its examples are, (rows, …), their numbers in the epoch, (rows,), and the number of the
    sample."""

    places: np.ndarray
    numbers: np.ndarray
    copy: int


class Inputs:
    """The examples of a format in batches of similar length, at most `batch_tokens` tokens each, padding included.

    copies: with 0 each epoch samples its examples anew. With more, there are so many samples, used in turn; `chance`
        is the same whenever an example comes back, as in BERT, whose data was prepared once, in 10 copies.
    """

    def __init__(self, format: Format, *, batch_tokens: int, seed: int, copies: int = 0) -> None:
        if copies < 0:
            raise NlpcliError(f"the number of differently masked copies (dupe_factor) can't be negative: {copies}")
        self.format, self.batch_tokens, self.seed, self.copies = format, batch_tokens, seed, copies

    def plan(self, epoch: int) -> list[Item]:
        """The batches of an epoch, each example in one; depends on nothing but seed and epoch."""
        copy = epoch % self.copies if self.copies else epoch
        places, lengths = self.format.sample(np.random.default_rng([self.seed, copy]))
        batches = token_budget_batches(lengths, max_tokens=self.batch_tokens, seed=self.seed, epoch=epoch)
        return [Item(places[numbers], numbers, copy) for numbers in batches]

    def chance(self, item: Item, rng: np.random.Generator | None) -> Sequence[np.random.Generator]:
        """The generator of each example's noise: `rng`, or with `copies` one of its own."""
        if not self.copies:
            assert rng is not None  # where noise is sampled anew
            return [rng] * len(item.numbers)
        return [np.random.default_rng([self.seed, item.copy, int(number)]) for number in item.numbers]

    def examples(self, item: Item, chance: Sequence[np.random.Generator]) -> list[Example]:
        return [self.format.read(place, rng) for place, rng in zip(item.places, chance, strict=True)]


def _room(context: int) -> int:
    if context < 3:
        raise NlpcliError(
            f"a context of {counted(context, 'token')} is too short for text between cls and sep; it must be at least 3"
        )
    return context - 2


def _framed(text: np.ndarray, special: SpecialTokens) -> Example:
    ids = np.concatenate([[special.cls], text, [special.sep]])
    return Example(ids, np.zeros(len(ids), dtype=np.int64), NO_LABEL)


def _cuts(
    begin: int, end: int, room: int, borders: np.ndarray | None = None, *, first: int | None = None
) -> np.ndarray:
    """Where stretches of at most `room` begin, and `end`: as much as fits up to one of the `borders`, if one is there.

    first: the room of the first stretch.
    """
    if borders is None:
        return np.append(np.append(begin, np.arange(begin + (first or room), end, room)), end)
    cuts = [begin]
    while cuts[-1] < end:
        reach = cuts[-1] + (first if first and len(cuts) == 1 else room)
        border = int(borders[np.searchsorted(borders, reach, side="right") - 1])
        cuts.append(border if border > cuts[-1] else min(reach, end))
    return np.array(cuts)
