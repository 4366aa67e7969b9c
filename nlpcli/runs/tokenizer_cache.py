"""Tokenizers that training makes from a text, kept so that the same text and settings need no second training."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.config.files import new_directory
from nlpcli.config.schema import TokenizerConfig
from nlpcli.errors import NlpcliError


def trained_tokenizer(
    texts: Callable[[], Iterable[str]], settings: TokenizerConfig, note: Callable[[str], None]
) -> Any:
    """The tokenizer of these settings for `texts`, from the cache if it was trained before. note: reports which.

    Raises: NlpcliError as `train_tokenizer`.
    """
    from nlpcli.text import load_tokenizer
    from nlpcli.text.tokenizer_training import COUNTED

    what = f"{settings.type}, {counted(settings.vocab_size, 'token')}"
    if settings.type in COUNTED:  # to count is as much work as to look whether it was done before
        note(f"training a tokenizer ({what})")
        return _trained(texts, settings, note)
    place = _place(texts(), settings)
    if place.exists():
        with contextlib.suppress(NlpcliError):  # damaged: it is trained again
            tokenizer = load_tokenizer(place)
            note(f"using the tokenizer in {place}, which was trained on this text before ({what})")
            if tokenizer.vocab_size < settings.vocab_size:
                note(_fewer_tokens(tokenizer.vocab_size))
            return tokenizer
    note(f"training a tokenizer ({what})")
    tokenizer = _trained(texts, settings, note)
    # a cache that can't be written costs time only, and another process may have been faster
    with contextlib.suppress(NlpcliError, OSError), new_directory(place, replace=place.exists()) as folder:
        tokenizer.save(folder)
    return tokenizer


def _trained(texts: Callable[[], Iterable[str]], settings: TokenizerConfig, note: Callable[[str], None]) -> Any:
    from nlpcli.text import train_tokenizer
    from nlpcli.text.tokenizer_training import CharacterSettings
    from nlpcli.text.vocabulary_limits import VocabularyTooLarge

    make = functools.partial(
        train_tokenizer,
        settings.type,
        sentinels=settings.sentinels,
        characters=CharacterSettings(settings.normalization),
    )
    try:
        tokenizer = make(texts(), vocab_size=settings.vocab_size)
    except VocabularyTooLarge as error:
        note(_fewer_tokens(error.possible))
        tokenizer = make(texts(), vocab_size=error.possible)
    if warning := getattr(tokenizer.model, "note", None):
        note(f"warning: {warning}")
    return tokenizer


def _fewer_tokens(count: int) -> str:
    return f"the text is too small for this vocabulary size; the tokenizer has {counted(count, 'token')}"


def _place(texts: Iterable[str], settings: TokenizerConfig) -> Path:
    """Where the cache has the tokenizer: named by all that it depends on."""
    from nlpcli.data.shards import cache_folder

    digest = hashlib.sha256(f"{__version__}\n{settings.model_dump_json()}\n".encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d\n" % len(data))
        digest.update(data)
    return cache_folder() / "tokenizers" / digest.hexdigest()[:32]
