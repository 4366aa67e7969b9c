"""Pairs of segments to distinguish successors from strangers, or the right order from the wrong one.

Sources: Devlin et al. 2019, 3.1 and A.2, and the code released with it; Liu et al. 2019, 4.2; Lan et al. 2020, 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.errors import NlpcliError
from nlpcli.text.special_tokens import SpecialTokens

SHORT_SHARE = 0.1
"""The share of examples that aim at a random shorter length, so that short inputs are met too."""
NO_LABEL = -1
_STRANGERS = 8  # sampled for a pair at most


class Example(NamedTuple):
    """ids (n,) and segments (n,), int64. label: 0 is next, in order; 1 is a stranger, out of order; -1: not a pair."""

    ids: np.ndarray
    segments: np.ndarray
    label: int


class SentencePairs:
    """`cls A sep B sep`, segment 0 up to the first sep, segment 1 after it; label 0 or 1, each for half of the pairs.

    A document is read from its beginning: as many sentences as reach the target length (the context, for one example in
    ten less, at random) are cut in two at random: A and B. For half of the pairs B is then replaced by sentences of
    another document as long as B, and the real B is used again by the next pair. order: instead A and B change places
    in half.
    Tokens beyond the context are removed from the longer side, from its front or its end at random.
    single: A and B are a sentence each.

    In BERT a last sentence that is left alone always gets a stranger, and strangers may begin their document, which
    successors never do; both give the label away. Here a sentence left alone is out in that epoch, and so are documents
    of a single one; strangers begin with the second sentence of their document or a later one.

    Nor do lengths give it away. In BERT a stranger, from any document with the same probability, goes on until the
    target is reached, where a real B often ends with its document before that. Here it begins with any sentence with
    the same probability, as real ones do, and ends with the sentence at which it is as long as the B it replaces, or
    comes nearest to it; of a few sampled ones the best fit is taken. What then exceeds the context is cut as ever.

    Raises: NlpcliError where there are no two sentences, or no two documents of that kind to take strangers from.
    """

    def __init__(
        self, documents: SentenceDocuments, special: SpecialTokens, *, context: int, single: bool, order: bool
    ) -> None:
        if context < 5:
            raise NlpcliError(
                f"a context of {counted(context, 'token')} is too short for two segments and their special tokens"
            )
        self.documents, self.special = documents, special
        self.room, self.single, self.order = context - 3, single, order
        self._usable = np.flatnonzero(documents.sentence_counts > 1)
        self._starts = np.append(0, np.cumsum(documents.sentence_counts[self._usable] - 1))  # where strangers may begin
        if len(self._usable) < (1 if order else 2):
            raise NlpcliError(
                f"segment pairs need at least {counted(1 if order else 2, 'document')} with two or more sentences, "
                f"but the text has {len(self._usable)}",
                hint="data.documents sets how documents are separated, data.sentences how sentences are found",
            )

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (n, 7): document, first and past-the-last sentence of A, the same of B, label; and their lengths."""
        found: list[tuple[int, ...]] = []
        lengths: list[int] = []
        for index in range(len(self._usable)):
            self._sample_from(index, rng, found, lengths)
        return np.array(found, dtype=np.int64), np.minimum(lengths, self.room) + 3

    def _sample_from(
        self, index: int, rng: np.random.Generator, found: list[tuple[int, ...]], lengths: list[int]
    ) -> None:
        document = int(self._usable[index])
        borders = self.documents.borders(document)
        begin = 0
        while len(borders) - 1 - begin > 1:
            target = int(rng.integers(2, self.room + 1)) if rng.random() < SHORT_SHARE else self.room
            end = begin + 2 if self.single else _reach(borders, begin, target, least=2)
            cut = begin + 1 if self.single else int(rng.integers(begin + 1, end))
            first, second = (document, begin, cut), (document, cut, end)
            held, size = int(borders[cut] - borders[begin]), int(borders[end] - borders[cut])
            label = int(rng.random() < 0.5)
            begin = end
            if label and self.order:
                first, second = second, first
            elif label:
                second, size = self._stranger(index, size, self.room - held, rng)
                begin = cut
            found.append((*first, *second, label))
            lengths.append(held + size)

    def _stranger(self, index: int, size: int, most: int, rng: np.random.Generator) -> tuple[tuple[int, int, int], int]:
        """Consecutive sentences of another document than the one at `index`, and how many tokens they have.

        As near as may be to `size` tokens, where those beyond `most` do not count.
        """
        wanted = max(min(size, most), 1)
        own, after = self._starts[index : index + 2].tolist()
        best, least = ((0, 0, 0), 0), -1
        for start in rng.integers(self._starts[-1] - (after - own), size=_STRANGERS).tolist():
            start += (after - own) * (start >= own)
            other = int(np.searchsorted(self._starts, start, side="right")) - 1
            document, begin = int(self._usable[other]), 1 + start - int(self._starts[other])
            borders = self.documents.borders(document)
            if self.single:
                return (document, begin, begin + 1), int(borders[begin + 1] - borders[begin])
            reach = _reach(borders, begin, wanted, least=1)
            for end in range(reach, max(reach - 2, begin), -1):
                length = int(borders[end] - borders[begin])
                off = abs(min(length, max(most, 1)) - wanted)
                if least < 0 or off < least:
                    best, least = ((document, begin, end), length), off
            if least == 0:
                break
        return best

    def read(self, place: np.ndarray, rng: np.random.Generator) -> Example:
        a, b, label = place[:3].tolist(), place[3:6].tolist(), int(place[6])
        first, second = truncated_pair(self.documents.tokens(*a), self.documents.tokens(*b), self.room, rng)
        ids = np.concatenate([[self.special.cls], first, [self.special.sep], second, [self.special.sep]])
        segments = np.zeros(len(ids), dtype=np.int64)
        segments[len(first) + 2 :] = 1
        return Example(ids, segments, label)


def truncated_pair(
    first: np.ndarray, second: np.ndarray, room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two texts made to hold at most `room` tokens together.

    Token by token, the longer one (the second if they are equal) loses its first or its last token, by chance.
    """
    excess = len(first) + len(second) - room
    if excess <= 0:
        return first, second
    uneven = min(abs(len(first) - len(second)), excess)
    off_first, off_second = (uneven, 0) if len(first) > len(second) else (0, uneven)
    off_first, off_second = off_first + (excess - uneven) // 2, off_second + (excess - uneven + 1) // 2
    return _shortened(first, off_first, rng), _shortened(second, off_second, rng)


def _shortened(text: np.ndarray, off: int, rng: np.random.Generator) -> np.ndarray:
    front = int(rng.binomial(off, 0.5))
    return text[front : len(text) - (off - front)]


def _reach(borders: np.ndarray, begin: int, target: int, *, least: int) -> int:
    """Past the last of the sentences from `begin` on that hold `target` tokens, at least `least` sentences."""
    end = int(np.searchsorted(borders, borders[begin] + target))
    return min(max(end, begin + least), len(borders) - 1)
