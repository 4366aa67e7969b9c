"""One token for each character, with UTF-8 bytes for the characters that were not in the training text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from nlpcli.text.detokenization import BYTE_PIECES, SPACE_MARK, byte_piece, join_surfaces, printable, word_starts
from nlpcli.text.offsets import Encoded, Span
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.vocabulary_limits import most_frequent, no_sampling, no_text, too_small

if TYPE_CHECKING:
    import numpy as np


class CharacterModel:
    """Ids in this order: special tokens, 256 bytes (with byte fallback), characters by falling frequency."""

    file_name: ClassVar[str] = "characters.json"

    def __init__(self, characters: Sequence[str], options: TrainingOptions) -> None:
        self.lossless = options.byte_fallback
        self._characters = list(characters)
        reserved = len(options.special.all())
        self._unk = options.special.unk
        self._first_byte = reserved if options.byte_fallback else None
        byte_count = 256 if options.byte_fallback else 0
        self.pieces = [""] * reserved + BYTE_PIECES[:byte_count] + [_spelled(char) for char in characters]
        self.surfaces = [b""] * reserved + [bytes([value]) for value in range(byte_count)]
        self.surfaces += [char.encode() for char in characters]
        self._ids = {char: id_ for id_, char in enumerate(characters, reserved + byte_count)}

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> CharacterModel:
        """Counts in constant memory. Raises: NlpcliError for no text, or a vocabulary too small for one character."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        if not counts:
            raise no_text()
        ordered = most_frequent(counts, options.character_coverage)
        if options.vocab_size is not None:
            reserved = len(options.special.all()) + (256 if options.byte_fallback else 0)
            if options.vocab_size <= reserved:
                raise too_small(options.vocab_size, reserved + 1, "the special tokens, bytes and one character")
            ordered = ordered[: options.vocab_size - reserved]
        return cls(ordered, options)

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> CharacterModel:
        return cls(json.loads(data)["characters"], options)

    def to_bytes(self) -> bytes:
        return json.dumps({"characters": self._characters}).encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError:
            pass
        ids: list[int] = []
        for char in text:
            known = self._ids.get(char)
            if known is not None:
                ids.append(known)
            elif self._first_byte is None:
                ids.append(self._unk)
            else:
                ids += [self._first_byte + value for value in char.encode()]
        return ids

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        all_ids = self.encode(texts)
        return all_ids, [self._spans(text, len(ids)) for text, ids in zip(texts, all_ids, strict=True)]

    def _spans(self, text: str, count: int) -> list[Span]:
        if len(text) == count:
            return [(place, place + 1) for place in range(count)]
        spans: list[Span] = []
        for place, char in enumerate(text):
            spans += [(place, place + 1)] * (1 if char in self._ids else len(char.encode()))
        return spans

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        raise no_sampling("chars")

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [join_surfaces(self.surfaces, sequence) for sequence in ids]

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return word_starts([self.surfaces[id_] for id_ in ids])


def _spelled(char: str) -> str:
    if char == " ":
        return SPACE_MARK
    if char == SPACE_MARK:
        return "".join(map(byte_piece, char.encode()))
    return printable(char)
