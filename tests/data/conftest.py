from __future__ import annotations

from pathlib import Path

import pytest

from nlpcli.text import train_tokenizer

TEXT = "the cat sat on a mat while it rained in Größe and 日本 , and then ? some more words came along"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """No test sees the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NLPCLI_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def characters():
    """A tokenizer of single characters, bytes for those it has not seen."""
    return train_tokenizer("chars", [TEXT])


@pytest.fixture(scope="session")
def pieces():
    """A subword tokenizer."""
    return train_tokenizer("unigram", [TEXT[i:] + " " + TEXT[:i] for i in range(len(TEXT))], vocab_size=340)
