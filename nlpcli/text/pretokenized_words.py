"""Token ids of each word of pretokenized sentences; labels of words are assigned to them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from nlpcli.text.tokenizer import Tokenizer


class WordTokens(NamedTuple):
    """ids: of the pieces of a word, at least one. first: the place among them of the first that spells more than the
    space before the word."""

    ids: list[int]
    first: int


def word_tokens(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[list[WordTokens]]:
    """The pieces of each word of each sentence, as they are in the running text of the words with spaces between.

    A word of which the tokenizer leaves nothing, and one whose characters are all in a piece that begins with another
    word, is unk.
    """
    texts = [" ".join(words) for words in sentences]
    all_ids, all_spans = tokenizer.encode_with_offsets(texts)
    unk = tokenizer.special.unk
    found = []
    for words, ids, spans in zip(sentences, all_ids, all_spans, strict=True):
        starts = [0, *accumulate(len(word) + 1 for word in words)]
        groups: list[list[int]] = [[] for _ in words]
        firsts = [-1] * len(words)
        word = 0
        for id_, (start, end) in zip(ids, spans, strict=True):
            if start < end:
                word = max(word, bisect_right(starts, start) - 1)
                if firsts[word] < 0:
                    firsts[word] = len(groups[word])
            elif groups[word] and word + 1 < len(words) and start >= starts[word + 1] - 1:
                word += 1
            groups[word].append(id_)
        found.append([_whole(group, first, unk) for group, first in zip(groups, firsts, strict=True)])
    return found


def _whole(ids: list[int], first: int, unk: int) -> WordTokens:
    return WordTokens(ids, first) if first >= 0 else WordTokens([*ids, unk], len(ids))
