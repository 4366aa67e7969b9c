"""Finds the sentence boundaries of a text and marks them with a token, for models that distinguish sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nlpcli.config.model_settings import SentenceSplitting
from nlpcli.text.offsets import Encoded, Span
from nlpcli.text.sentence_splitting import sentence_spans

if TYPE_CHECKING:
    from nlpcli.text import Tokenizer

_T = TypeVar("_T")
_LINE = re.compile(r"[^\n]*[^\s][^\n]*")


@dataclass(frozen=True)
class SentenceBorders:
    """token: the id of the token between two sentences. splitting: how sentences are found."""

    token: int
    splitting: SentenceSplitting = "split"

    def spans(self, text: str) -> list[Span]:
        """The start and end of each sentence in a text."""
        return list(sentence_spans(text)) if self.splitting == "split" else [m.span() for m in _LINE.finditer(text)]

    def encode(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text with the token between its sentences; each sentence is encoded by itself."""
        sentences = [[text[start:stop] for start, stop in self.spans(text)] for text in texts]
        ids = iter(tokenizer.encode([sentence for own in sentences for sentence in own]))
        return [_joined((next(ids) for _ in own), lambda _: self.token) for own in sentences]

    def encode_with_offsets(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
        """As `encode`, and the span of each id in its text; that of the token between sentences is empty."""
        all_ids: list[list[int]] = []
        all_spans: list[list[Span]] = []
        for text in texts:
            borders = self.spans(text)
            ids, spans = tokenizer.encode_with_offsets([text[start:stop] for start, stop in borders])
            moved = ([(begin + a, begin + b) for a, b in own] for (begin, _), own in zip(borders, spans, strict=True))
            all_ids.append(_joined(ids, lambda _: self.token))
            all_spans.append(_joined(moved, lambda sentence: (sentence[-1][1],) * 2))
        return all_ids, all_spans

    def numbers(self, ids: Sequence[int], special: Iterable[int]) -> list[int]:
        """The number of each token's sentence, from 0 and ascending; -1 of special tokens.

        special: their ids, that of the token between sentences among them.
        """
        row = np.asarray(ids, dtype=np.int64)
        numbers = (row == self.token).cumsum()
        numbers[np.isin(row, list(special))] = -1
        return numbers.tolist()


def _joined(sentences: Iterable[list[_T]], border: Callable[[list[_T]], _T]) -> list[_T]:
    """The sentences one after the other, with border(sentence) behind each but the last; empty ones are left out."""
    found: list[_T] = []
    before: list[_T] = []
    for sentence in sentences:
        if sentence:
            found += [border(before), *sentence] if before else sentence
            before = sentence
    return found
