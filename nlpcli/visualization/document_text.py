"""Attention to the words of each sentence and to the sentences of a document, as a text that can be written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nlpcli.visualization.attention_data import Attention, Side
from nlpcli.visualization.text_width import cells


class Word(NamedTuple):
    """A word, or a part of one. spaced: whether a space stands before it. weight: in its sentence."""

    text: str
    spaced: bool
    weight: float


class WeightedSentence(NamedTuple):
    """A sentence, whose words' weights sum to 1. weight: in its document; None where it was not selected."""

    words: tuple[Word, ...]
    weight: float | None


def weighted_sentences(attention: Attention) -> list[WeightedSentence]:
    """The sentences of an attention with the site "words", in their order; none of others.

    Each query of this site is a sentence, named as the group of its keys. The keys of the site "sentences" have the
    same names.
    """
    sites = {site.name: site for site in attention.sites}
    if "words" not in sites:
        return []
    words, document = sites["words"], sites.get("sentences")
    shares = (
        {} if document is None else dict(zip(document.keys.tokens, document.weights[0][0, 0].tolist(), strict=True))
    )
    sentences = []
    for name, row in zip(words.queries.tokens, words.weights[0][0], strict=True):
        places = [place for place, group in enumerate(words.keys.groups) if group == name]
        written = zip(_written(words.keys, places), (row[place] for place in places), strict=True)
        found = tuple(Word(text, spaced, float(weight)) for (text, spaced), weight in written)
        sentences.append(WeightedSentence(found, shares.get(name)))
    return sentences


def meanings(sentences: Sequence[WeightedSentence], *, signed: bool) -> list[str]:
    """The meaning of the weights, in words. signed: they are gradients times weights."""
    numbers = any(sentence.weight is not None for sentence in sentences)
    if signed:
        return ["words and numbers: gradient times attention" if numbers else "words: gradient times attention"]
    return ["words: share of their sentence", *["numbers: share of the document"] * numbers]


def _written(side: Side, places: list[int]) -> Iterator[tuple[str, bool]]:
    """The tokens at `places` without the marks of tokenizers, and whether a space stands before each."""
    before = ""
    for number, place in enumerate(places):
        text = _without_marks(side.tokens[place])
        same = number > 0 and side.words[place] == side.words[places[number - 1]] >= 0
        east_asian = bool(before and text) and cells(before[-1]) == cells(text[0]) == 2
        yield text, number > 0 and not same and not east_asian
        before = text


def _without_marks(token: str) -> str:
    """Without what SentencePiece and byte-level BPE put before words, and WordPiece before the rest of a word."""
    for mark in ("▁", "Ġ", "##"):
        if token.startswith(mark) and token != mark:
            return token.removeprefix(mark)
    return token
