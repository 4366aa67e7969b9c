"""The cache of words against the library, which cuts every text anew."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import train_tokenizer, word_cache
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer_training import CharacterSettings
from nlpcli.text.word_cache import WordCache

ODD = " \u0301\u00a0\u2028\x00\x1c\x85\ufffd\u200d東京İΣßﬁ<unk>[]#\t\n"
TEXTS = st.lists(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(ODD + "abc  "))))


@pytest.fixture(scope="module", params=[False, True], ids=["cased", "uncased"])
def core(request, lines):
    characters = CharacterSettings(lowercase=request.param)
    return train_tokenizer("wordpiece", lines, vocab_size=260, characters=characters).model._core


def plainly(core, texts):
    return [found.ids for found in core.encode_batch(texts, add_special_tokens=False)]


@given(texts=TEXTS, limit=st.sampled_from([0, 5, 1000]))
def test_ids_are_those_of_the_library_whatever_is_kept(core, texts, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_cache, "_MOST_CHARACTERS", limit)
        cache = WordCache(core)
        for batch in (texts, texts[::-1], texts):
            assert cache.encode(batch) == plainly(core, batch)


class Counting:
    def __init__(self):
        self.words = []

    def encode_batch_fast(self, words, *, add_special_tokens):
        self.words += words
        return [SimpleNamespace(ids=[len(word)]) for word in words]


def test_a_word_is_cut_once_as_long_as_it_is_kept(monkeypatch):
    monkeypatch.setattr(word_cache, "_MOST_CHARACTERS", 10)
    core = Counting()
    cache = WordCache(core)
    assert cache.encode(["one two one", "two"]) == [[3, 3, 3], [3]]
    assert cache.encode(["two one"]) == [[3, 3]]
    assert sorted(core.words) == ["one", "two"]
    cache.encode(["three"])  # 11 characters: the first two are no longer kept
    core.words.clear()
    cache.encode(["two three"])
    assert core.words == ["two"]


def test_a_foreign_tokenizer_of_berts_kind_keeps_words_and_others_do_not(lines):
    tokenizer = train_tokenizer("wordpiece", lines, vocab_size=260)
    content = json.loads(tokenizer.model.to_bytes())
    kept = HuggingFaceModel(json.dumps(content).encode(), SpecialTokens.first(0))
    assert kept._words is not None
    assert kept.encode(lines) == tokenizer.encode(lines)
    crossing = {"id": content["model"]["vocab"]["a"], "content": "a b", "single_word": False, "lstrip": False}
    crossing |= {"rstrip": False, "normalized": False, "special": False}
    for change in ({"pre_tokenizer": None}, {"normalizer": None}, {"added_tokens": [crossing]}):
        assert HuggingFaceModel(json.dumps(content | change).encode(), SpecialTokens.first(0))._words is None
