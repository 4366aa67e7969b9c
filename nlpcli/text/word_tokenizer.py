"""One piece for each white-space separated word, and one for the end of a line: for sets that bring their vocabulary.

WikiText-2 and the Penn Treebank are published as words that are cut already, with `<unk>` for the rare ones and one
end mark a line (Mikolov et al. 2010; Merity et al. 2017). Perplexities are compared on just these units.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from nlpcli.text.detokenization import byte_piece, printable
from nlpcli.text.offsets import Encoded
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.vocabulary_limits import most_frequent, no_sampling, no_text, too_large, too_small

if TYPE_CHECKING:
    import numpy as np

LINE_END = byte_piece(ord("\n"))
_UNITS = re.compile(r"\n|\S+")


class WordModel:
    """Ids in this order: special tokens, the end of a line, words by falling frequency. Other words are unk.

    A word spelled as another piece is printed (`<unk>`, `<0x0A>`), or not printable, gets no piece. White space other
    than LF only separates, so a text comes back with single spaces.
    """

    file_name: ClassVar[str] = "words.json"
    lossless = False

    def __init__(self, words: Sequence[str], options: TrainingOptions) -> None:
        self._words = list(words)
        self._unk = options.special.unk
        reserved = len(options.special.all())
        self.pieces = [""] * reserved + [LINE_END, *self._words]
        self._line_end = reserved
        self._ids = {word: id_ for id_, word in enumerate(self._words, reserved + 1)} | {"\n": reserved}

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> WordModel:
        """Counts in constant memory. Raises: NlpcliError for no text, or a vocabulary too small for one word;
        VocabularyTooLarge for one of more words than there are."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text.split())
        if not counts:
            raise no_text()
        taken = {*options.special.names.values(), LINE_END}
        words = [
            word
            for word in most_frequent(counts, options.character_coverage)
            if word not in taken and printable(word) == word
        ]
        if options.vocab_size is not None:
            reserved = len(options.special.all()) + 1
            if options.vocab_size <= reserved:
                raise too_small(options.vocab_size, reserved + 1, "the special tokens, the line end and one word")
            if options.vocab_size > reserved + len(words):
                raise too_large(options.vocab_size, reserved + len(words))
            words = words[: options.vocab_size - reserved]
        return cls(words, options)

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> WordModel:
        return cls(json.loads(data)["words"], options)

    def to_bytes(self) -> bytes:
        return json.dumps({"words": self._words}).encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        find, unk = self._ids.get, self._unk
        return [[find(unit, unk) for unit in _UNITS.findall(text)] for text in texts]

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        return self.encode(texts), [[unit.span() for unit in _UNITS.finditer(text)] for text in texts]

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        raise no_sampling("words")

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [self._decode(sequence) for sequence in ids]

    def _decode(self, ids: Sequence[int]) -> str:
        lines: list[list[str]] = [[]]
        for id_ in ids:
            if id_ == self._line_end:
                lines.append([])
            else:
                lines[-1].append(self.pieces[id_])
        return "\n".join(map(" ".join, lines))

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return [id_ != self._line_end for id_ in ids]
