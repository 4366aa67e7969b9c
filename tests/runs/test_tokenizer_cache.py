"""A tokenizer is trained once for a text and its settings, and the second time taken from the cache."""

from __future__ import annotations

import pytest

from nlpcli.config.schema import TokenizerConfig
from nlpcli.runs.tokenizer_cache import trained_tokenizer

TEXTS = [f"the {a} sees {b} and {c} dogs at home" for a in ("cat", "man") for b in "abcdef" for c in "xyz"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPCLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/tokenizers"


def made(texts=TEXTS, **settings):
    """The tokenizer, and whether it was trained now."""
    notes = []
    tokenizer = trained_tokenizer(lambda: iter(texts), TokenizerConfig(**{"vocab_size": 290, **settings}), notes.append)
    return tokenizer, notes


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece", "byte-bpe"])
def test_the_second_time_nothing_is_trained_and_the_tokenizer_is_the_same(kind, monkeypatch):
    size = {"wordpiece": 60, "byte-bpe": 290}.get(kind, 290)
    first, notes = made(type=kind, vocab_size=size)
    assert notes[0].startswith(f"training a tokenizer ({kind}")
    monkeypatch.setattr("nlpcli.text.train_tokenizer", lambda *_, **__: pytest.fail("trained again"))
    again, notes = made(type=kind, vocab_size=size)
    assert again.fingerprint == first.fingerprint and again.encode(TEXTS) == first.encode(TEXTS)
    assert "trained on this text before" in notes[0]


@pytest.mark.parametrize("change", [
    {"vocab_size": 291}, {"type": "bpe"}, {"normalization": "nfkc"}, {"sentinels": 2},
    {"texts": TEXTS[:-1]}, {"texts": TEXTS[::-1]}, {"texts": ["".join(TEXTS[:2]), *TEXTS[2:]]},
])  # fmt: skip
def test_another_text_or_setting_is_trained_anew(change):
    made()
    assert made(**change)[1][0].startswith("training a tokenizer")
    assert "before" in made()[1][0] and "before" in made(**change)[1][0]


def test_what_the_text_could_not_fill_is_reported_again():
    first, notes = made(vocab_size=5000)
    again, once_more = made(vocab_size=5000)
    assert notes[1] == once_more[1]
    assert notes[1].endswith(f"; the tokenizer has {first.vocab_size:,} tokens")
    assert again.vocab_size == first.vocab_size


def test_a_damaged_tokenizer_is_trained_again_and_put_back(cache):
    first, _ = made()
    (place,) = cache.iterdir()
    (place / "tokenizer.yaml").write_text("kind: unigram\n")
    again, notes = made()
    assert notes[0].startswith("training") and again.fingerprint == first.fingerprint
    assert "before" in made()[1][0]


def test_a_cache_that_cannot_be_written_is_done_without(cache):
    cache.parent.mkdir()
    cache.write_text("a file is in the way")
    assert made()[1][0].startswith("training") and made()[1][0].startswith("training")
