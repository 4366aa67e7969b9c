"""The largest vocabulary that a training text allows, and the errors beyond it, the same for every kind."""

from __future__ import annotations

from collections import Counter

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError


def most_frequent(counts: Counter[str], coverage: float) -> list[str]:
    """The most frequent items that make up that part of all, by falling count, equal ones in their own order."""
    ordered = sorted(counts, key=lambda item: (-counts[item], item))
    if coverage >= 1.0:
        return ordered
    wanted, seen = coverage * counts.total(), 0
    for number, item in enumerate(ordered):
        if seen >= wanted:
            return ordered[:number]
        seen += counts[item]
    return ordered


def no_text() -> NlpcliError:
    return NlpcliError("there is no text to train a tokenizer on")


class VocabularyTooLarge(NlpcliError):
    """The text allows at most `possible` tokens."""

    possible: int


def too_large(size: int, possible: int) -> VocabularyTooLarge:
    """The error for a size beyond what the text has."""
    error = VocabularyTooLarge(
        f"a vocabulary of {counted(size, 'token')} is too large for this text, which allows at most {possible:,}",
        hint=f"{_set(possible, 'or less')}, or use more text",
    )
    error.possible = possible
    return error


def too_small(size: int, least: int, named: str, *, coverage: float | None = None) -> NlpcliError:
    """The error for a size in which the tokens that every vocabulary of this text needs, `named`, do not fit."""
    lower = (
        f"; or set a lower character coverage than {coverage:g} (nlpcli tokenize train --character-coverage)"
        if coverage is not None
        else ""
    )
    return NlpcliError(
        f"a vocabulary of {counted(size, 'token')} is too small: {named} alone need {least:,}",
        hint=f"{_set(least, 'or more')}{lower}",
    )


def no_sampling(kind: str) -> NlpcliError:
    """The error for subword sampling with a kind of tokenizer that has one segmentation for a text."""
    return NlpcliError(
        f"a tokenizer of type {kind} does not support subword sampling",
        hint="use a tokenizer of type unigram, bpe or byte-bpe",
    )


def _set(size: int, limit: str) -> str:
    """How the size of a vocabulary is set, by those who train a model and by those who train a tokenizer alone."""
    return f"set tokenizer.vocab_size (nlpcli tokenize train --vocab-size) to {size} {limit}"
