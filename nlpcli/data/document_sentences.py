"""Documents as lists of sentences: how they get into a shard set, and how they are found again.

A set built with sentences holds each sentence as one unit, and one empty unit after the last sentence of each document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from nlpcli.data.readers import PART_CHARACTERS, TextPart
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError
from nlpcli.text.sentence_splitting import sentence_spans

if TYPE_CHECKING:
    from nlpcli.text.tokenizer import Tokenizer

SENTENCES = ("lines", "split")
DOCUMENT_END = ("", True)

_UNITS_AT_A_TIME = 1 << 20


def sentence_units(chunks: Iterable[TextPart], how: str, *, space: str = "") -> Iterator[TextPart]:
    """The sentences of documents that come in chunks, each a unit of its own, and `DOCUMENT_END` after each document.

    how: `lines`: each line of a document is a sentence. `split`: lines are cut by `split_sentences`.
    space: put before each sentence that had white space before it, but not before the first of a document.
    Sentences come without any other white space around them; blank ones, and documents without any, are left out. A
    line of more than `PART_CHARACTERS` may be cut where its document was.
    """
    spans = sentence_spans if how == "split" else _line_spans
    rest, found = "", False
    for text, ends in chunks:
        text = rest + text
        complete = len(text) if ends else text.rfind("\n") + 1
        if not complete and len(text) > PART_CHARACTERS:
            complete = len(text)
        text, rest = text[:complete], text[complete:]
        for start, stop in spans(text):
            apart = found and (start == 0 or text[start - 1].isspace())
            found = True
            yield (space if apart else "") + text[start:stop], True
        if ends:
            if found:
                yield DOCUMENT_END
            rest, found = "", False


def space_between(tokenizer: Tokenizer) -> str:
    """The prefix of a sentence with which sentences encoded one by one join to the encoding of the whole text.

    Tokenizers that mark the beginnings of words need nothing there; tokenizers with spaces as ordinary characters need
    the space.
    """
    whole, first, bare, spaced = tokenizer.encode(["a b", "a", "b", " b"])
    return " " if whole != first + bare and whole == first + spaced else ""


def _line_spans(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            first = begin + len(line) - len(line.lstrip())
            yield first, first + len(stripped)
        begin += len(line) + 1


class SentenceDocuments:
    """The documents of a shard set that was built with sentences; holds where each begins, reads the rest on demand.

    The sentences of a document laid end to end are the document; where the tokenizer needs it, all but the first begin
    with a space.

    count: number of documents that have sentences. Where the set is a stretch of another that begins or ends inside a
    document, the part that is there counts as one.
    Raises: NlpcliError for a set that was built without sentences.
    """

    def __init__(self, shards: ShardSet) -> None:
        if shards.sentences is None:
            raise NlpcliError(
                "the shards were built without sentences",
                hint="build them with sentences=split, or with sentences=lines if each line is a sentence",
            )
        self.shards = shards
        self._bounds = _documents(shards.offsets)  # (documents, 2), units

    def __reduce__(self) -> tuple[type[SentenceDocuments], tuple[ShardSet]]:
        # The bounds are found again, the files mapped again.
        return SentenceDocuments, (self.shards,)

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        return len(self._bounds)

    @property
    def sentence_counts(self) -> np.ndarray:
        """(documents,), int64: how many sentences each document has."""
        return self._bounds[:, 1] - self._bounds[:, 0]

    def sentence_lengths(self, document: int) -> np.ndarray:
        """(sentences,), int64: tokens of each sentence of a document."""
        return np.diff(self.borders(document))

    def sentences(self, document: int) -> list[np.ndarray]:
        """The sentences of a document, each (length,), int64."""
        offsets = self.borders(document)
        begin, end = int(offsets[0]), int(offsets[-1])
        return np.split(self.shards.read(begin, end).astype(np.int64), offsets[1:-1] - begin)

    def tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Sentences `start` to `stop` of a document laid end to end, (tokens,), int64."""
        offsets = self.borders(document)
        if not 0 <= start <= stop < len(offsets):
            raise IndexError(f"sentences {start} to {stop} of {len(offsets) - 1}")
        return self.shards.read(int(offsets[start]), int(offsets[stop])).astype(np.int64)

    def borders(self, document: int) -> np.ndarray:
        """(sentences + 1,), int64: where the sentences of a document begin in the tokens of the set, and its end."""
        if not 0 <= document < self.count:
            raise IndexError(f"document {document} of {self.count}")
        first, last = self._bounds[document]
        return np.asarray(self.shards.offsets[first : last + 1], dtype=np.int64)


def _documents(offsets: np.ndarray) -> np.ndarray:
    """(documents, 2), int64: first and past-the-last unit of each run of units that are not empty."""
    units = len(offsets) - 1
    ends = [np.array([-1])]
    for start in range(0, units, _UNITS_AT_A_TIME):
        stop = min(start + _UNITS_AT_A_TIME, units)
        ends.append(start + np.flatnonzero(np.diff(offsets[start : stop + 1]) == 0))
    borders = np.concatenate([*ends, [units]])
    bounds = np.column_stack([borders[:-1] + 1, borders[1:]])
    return bounds[bounds[:, 1] > bounds[:, 0]]
