"""The interface of a kind of tokenizer; `Tokenizer` adds everything that the kinds have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from nlpcli.text.offsets import Encoded
from nlpcli.text.special_tokens import SpecialTokens

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class TrainingOptions:
    """The settings for training a kind of tokenizer.

    vocab_size: number of ids, special ones and bytes included; None: as many as the kind needs (chars and words).
    byte_fallback: characters without a token become the bytes of their UTF-8 form instead of unk.
    character_coverage: part of the running characters that get a token of their own, the most frequent first; of the
        running words for the kind words.
    lowercase: letters are lowercased; wordpiece strips accents too, as BERT's uncased models do.
    """

    vocab_size: int | None
    special: SpecialTokens
    byte_fallback: bool = True
    character_coverage: float = 1.0
    lowercase: bool = False


class TokenizerModel(Protocol):
    """One way to cut a text into tokens. Texts come normalised, ids come without special ones and in range.

    pieces: the printable spelling of every id; it holds neither space nor control character.
    """

    file_name: ClassVar[str]
    lossless: bool
    pieces: list[str]

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> TokenizerModel: ...

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> TokenizerModel:
        """Raises: any exception when the data is not what `to_bytes` gave."""
        ...

    def to_bytes(self) -> bytes: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        """The ids and their spans of characters, possibly with the spaces before."""
        ...

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]: ...

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]: ...

    def word_starts(self, ids: Sequence[int]) -> list[bool]: ...
