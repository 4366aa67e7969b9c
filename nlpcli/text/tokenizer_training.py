"""Training a tokenizer on a stream of texts of any length."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from nlpcli.errors import NlpcliError
from nlpcli.text.normalization import normalizer
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer import Tokenizer, TokenizerSettings, lone_surrogate
from nlpcli.text.tokenizer_kinds import TOKENIZERS
from nlpcli.text.tokenizer_model import TrainingOptions

MAX_LINES = 1_000_000
COUNTED = ("chars", "words")
"""Kinds that only count: they need no size, and memory for no line."""


@dataclass(frozen=True)
class CharacterSettings:
    """How characters are treated before a text is cut into tokens.

    normalization, lowercase: see `nlpcli.text.normalization`. coverage: the share of all characters of the training
    text that the tokenizer covers; the rarest ones are left out.
    """

    normalization: str = "identity"
    lowercase: bool = False
    coverage: float = 1.0


LARGEST_VOCABULARY = 1 << 24
MOST_SENTINELS = 10_000  # each takes the place of a span, and no window has as many


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    sentinels: int = 0,
    byte_fallback: bool = True,
    characters: CharacterSettings = CharacterSettings(),
    max_lines: int | None = MAX_LINES,
    seed: int = 0,
) -> Tokenizer:
    """A tokenizer of that kind for these texts; the same texts and settings give the same tokenizer.

    vocab_size: number of ids, special tokens and bytes included; may be None for chars and words (all of them).
    sentinels: see `TrainingOptions`.
    byte_fallback: wordpiece and words never have it, byte-bpe always.
    max_lines: at most so many texts are kept in memory, sampled uniformly from the whole stream with `seed`; None keeps
        all. Characters and words are counted over all texts without keeping any.

    Raises: NlpcliError for an unknown kind or normalization, no text, or a vocabulary size the text can't fill.
    """
    model_class = TOKENIZERS.load(kind)
    byte_fallback = {"wordpiece": False, "words": False, "byte-bpe": True}.get(kind, byte_fallback)
    _check(kind, vocab_size, sentinels, characters.coverage, max_lines)
    special = SpecialTokens.first(sentinels)
    settings = TokenizerSettings(
        kind=kind,
        normalization=characters.normalization,
        lowercase=characters.lowercase,
        byte_fallback=byte_fallback,
        character_coverage=characters.coverage,
    )
    options = TrainingOptions(vocab_size, special, byte_fallback, characters.coverage, characters.lowercase)
    normalize = normalizer(characters.normalization, lowercase=characters.lowercase and kind != "wordpiece")
    stream = _Counted(normalize(_checked(text)) for text in texts)
    chosen: Iterable[str] = stream
    if max_lines is not None and kind not in COUNTED:
        chosen = sample_lines(stream, max_lines, seed)
    used = _Counted(chosen)
    model = model_class.train(used, options)
    trained = {"lines": used.count, "of": stream.count, "with": _library(model_class.file_name)}
    return Tokenizer(settings, model, special, trained)


def sample_lines(texts: Iterable[str], size: int, seed: int) -> list[str]:
    """At most `size` texts, each with the same probability, in their order (Vitter 1985, algorithm R)."""
    kept: list[tuple[int, str]] = []
    rng = random.Random(seed)
    for number, text in enumerate(texts):
        if number < size:
            kept.append((number, text))
        else:
            place = rng.randrange(number + 1)
            if place < size:
                kept[place] = (number, text)
    kept.sort(key=lambda item: item[0])
    return [text for _, text in kept]


class _Counted:
    """A stream that remembers how many items went by."""

    def __init__(self, items: Iterable[str]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for item in self._items:
            self.count += 1
            yield item


def _checked(text: str) -> str:
    wrong = lone_surrogate([text])
    if wrong is not None:
        raise wrong
    return text


def _check(kind: str, vocab_size: int | None, sentinels: int, character_coverage: float, max_lines: int | None) -> None:
    if vocab_size is None and kind not in COUNTED:
        raise NlpcliError(
            f"a tokenizer of type {kind} needs a vocabulary size",
            hint="set it, for example: nlpcli tokenize train --vocab-size 8000",
        )
    if vocab_size is not None and vocab_size < 1:
        raise NlpcliError(f"the vocabulary size must be at least 1, not {vocab_size}")
    if vocab_size is not None and vocab_size > LARGEST_VOCABULARY:
        raise NlpcliError(f"the vocabulary size must be at most {LARGEST_VOCABULARY:,}, not {vocab_size:,}")
    if not 0.0 < character_coverage <= 1.0:
        raise NlpcliError(f"the character coverage must be greater than 0 and at most 1, not {character_coverage:g}")
    if sentinels < 0:
        raise NlpcliError(f"the number of sentinel tokens can't be negative: {sentinels}")
    if sentinels > MOST_SENTINELS:
        raise NlpcliError(
            f"{sentinels:,} sentinel tokens are too many",
            hint=f"choose at most {MOST_SENTINELS:,}; T5 has 100",
        )
    if max_lines is not None and max_lines < 1:
        raise NlpcliError(f"the maximum number of lines to train on must be at least 1, not {max_lines}")


def _library(file_name: str) -> str:
    name = {"sentencepiece.model": "sentencepiece", "tokenizer.json": "tokenizers"}.get(file_name, "nlpcli")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name
