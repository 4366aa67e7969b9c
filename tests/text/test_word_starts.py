from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import train_tokenizer
from nlpcli.text.word_starts import WordStarts


def words(tokenizer, text):
    """The text of the words of a text."""
    ids = tokenizer.encode([text])[0]
    starts = WordStarts(tokenizer)(ids).tolist()
    groups: list[list[int]] = []
    for id_, start in zip(ids, starts, strict=True):
        if start or not groups:
            groups.append([])
        groups[-1].append(id_)
    return [tokenizer.decode([group])[0].replace("##", "") for group in groups]


def test_spaced_scripts_keep_the_tokenizers_words(tokenizer):
    for text in ("Two young men stand in the kitchen", "Größe der Straße - 1,234.50 $", "unbelievable housekeepers"):
        ids = tokenizer.encode([text])[0]
        assert WordStarts(tokenizer)(ids).tolist() == tokenizer.word_starts(ids)


def test_special_tokens_are_words_of_their_own(tokenizer):
    special = tokenizer.special
    inner = tokenizer.encode(["Two men"])[0]
    starts = WordStarts(tokenizer)([special.cls, *inner, special.sep, *inner]).tolist()
    again = WordStarts(tokenizer)(inner).tolist()
    assert starts == [True, *again, True, *again]


def test_each_piece_of_a_script_without_spaces_begins_a_word(tokenizer):
    found = words(tokenizer, "日本語 東京 and")
    assert [word.strip() for word in found][-1] == "and"
    assert len(found) >= 3 and max(len(word.strip()) for word in found) <= 3


@pytest.mark.parametrize("kind", ["chars", "byte-bpe", "unigram"])
def test_letters_after_ideographs_begin_a_word_and_bytes_do_not(kind):
    size = {"chars": None, "byte-bpe": 263 + 7, "unigram": 279}[kind]
    tokenizer = train_tokenizer(kind, ["the cat goes", "日本 go a the cats", "a mat at the gate"] * 20, vocab_size=size)
    assert [word.strip() for word in words(tokenizer, "行日本go on") if word] in (
        ["行", "日", "本", "go", "on"],
        ["行", "日本", "go", "on"],
    )


def test_marks_combine_with_the_character_before_them():
    tokenizer = train_tokenizer("chars", ["ก็ กา ผู้"])
    assert words(tokenizer, "ก็กา") == ["ก็", "ก", "า"]


@pytest.fixture(scope="module")
def every(tokenizers):
    return {kind: WordStarts(tokenizer) for kind, tokenizer in tokenizers.items()}


@given(st.text(alphabet="ab 日本ก็é。(", max_size=30))
def test_every_word_of_the_tokenizer_still_begins_where_it_did(tokenizers, every, text):
    for kind, tokenizer in tokenizers.items():
        ids = tokenizer.encode([text])[0]
        starts = every[kind](ids)
        assert all(ours or not theirs for ours, theirs in zip(starts, tokenizer.word_starts(ids), strict=True))
