"""Ids of words that occurred before, for tokenizers that cut the words between spaces independently of each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from tokenizers import Tokenizer

_MOST_CHARACTERS = 1 << 19  # of the words that are kept, which take some 20 MB with their ids


class WordCache:
    """The library's WordPiece with a memory: a word is cut once as long as it is kept (2 to 4 times as fast).

    core: the ids of "a b" must be those of "a" and those of "b".
    """

    def __init__(self, core: Tokenizer) -> None:
        self._core = core
        self._ids: dict[str, list[int]] = {}
        self._characters = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        split = [text.split(" ") for text in texts]
        words = set(chain.from_iterable(split))
        ids = self._ids
        new = [word for word in words if word not in ids]
        self._characters += sum(map(len, new))
        if self._characters > _MOST_CHARACTERS:  # a new dictionary, because another thread may still use the old one
            ids = self._ids = {}
            new, self._characters = list(words), sum(map(len, words))
        cut = self._core.encode_batch_fast(new, add_special_tokens=False)
        ids.update(zip(new, (found.ids for found in cut), strict=True))
        return [list(chain.from_iterable(map(ids.__getitem__, row))) for row in split]
