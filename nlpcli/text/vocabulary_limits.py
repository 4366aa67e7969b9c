"""How much a training text can give, and the errors that say so, the same for every kind."""

from __future__ import annotations

from collections import Counter

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
    """The text has no more pieces to give than `possible`."""

    possible: int


def too_large(size: int, possible: int) -> VocabularyTooLarge:
    """The error for a size beyond what the text has."""
    error = VocabularyTooLarge(
        f"a vocabulary of {size} is too large for this text: the largest possible is {possible}",
        hint=f"{_set(possible)} or less, or give more text",
    )
    error.possible = possible
    return error


def too_small(size: int, least: int, named: str, *, coverage: float | None = None) -> NlpcliError:
    """What every vocabulary of this text has to hold does not fit; `named` says what that is."""
    remedy = f", or of 'nlpcli tokenize train' a --character-coverage below {coverage}" if coverage is not None else ""
    return NlpcliError(
        f"a vocabulary of {size} is too small: {named} alone are {least}",
        hint=f"{_set(least)} or more{remedy}",
    )


def _set(size: int) -> str:
    """How the size of a vocabulary is set, by those who train a tokenizer alone and by those who train a model."""
    return f"set the vocabulary size ('nlpcli tokenize train --vocab-size', or tokenizer.vocab_size of a run) to {size}"
