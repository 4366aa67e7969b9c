"""A small corpus, and one trained tokenizer of every kind."""

from __future__ import annotations

import random

import pytest

from nlpcli.text import TOKENIZERS, train_tokenizer

SENTENCES = (
    "Two young men stand in the kitchen, cooking <pad> and <sentinel_0> for the others.",
    "Ein kleines Mädchen klettert über die hölzerne Straße; es heißt “Größe” – oder nicht?",
    "Whoever reads unbelievable stories about housekeepers, keeps reading: 1,234.50 $ (or 7 %).",
    "Der Hausmeister fährt unglaublich langsam nach Hause. Don't stop!  She'll wait.",
    "日本語 東京 and a\ttab, <unk> <mask> [MASK] </s> <0x41> ##ing.",
    "The dogs of the housekeeper are standing, sitting, sleeping and reading in the kitchens.",
)
SIZES = {"unigram": 400, "bpe": 430, "wordpiece": 260, "byte-bpe": 400, "chars": None, "words": None}
KINDS = list(TOKENIZERS)
LOSSLESS = [kind for kind in KINDS if kind not in ("wordpiece", "words")]


def corpus() -> list[str]:
    """A few hundred lines, always the same: sentences, and their words in other orders."""
    draw = random.Random(1)
    words = " ".join(SENTENCES).split(" ")
    return [*SENTENCES, *(" ".join(draw.sample(words, 9)) for _ in range(300))]


@pytest.fixture(scope="session")
def tokenizers() -> dict:
    """Kind to tokenizer, with three sentinels."""
    return {kind: train_tokenizer(kind, corpus(), vocab_size=SIZES[kind], sentinels=3) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request, tokenizers):
    """A tokenizer of each kind in turn."""
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def lines() -> list[str]:
    return corpus()
