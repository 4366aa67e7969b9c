"""The pieces of words given one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import TOKENIZERS
from nlpcli.text.pretokenized_words import word_tokens

words = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Z", "Cc"]),
        st.sampled_from("abcdehinorstuwy.,-$ABCDE\u200b\u0301\ufffd\u2581東京"),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("kind", list(TOKENIZERS))
@given(sentence=st.lists(words, max_size=8))
def test_the_pieces_of_all_words_are_those_of_the_sentence_but_for_unk(tokenizers, kind, sentence):
    tokenizer = tokenizers[kind]
    (found,) = word_tokens(tokenizer, [sentence])
    unk = tokenizer.special.unk
    assert len(found) == len(sentence)
    assert all(0 <= word.first < len(word.ids) for word in found)
    together = [id_ for word in found for id_ in word.ids if id_ != unk]
    assert together == [id_ for id_ in tokenizer.encode([" ".join(sentence)])[0] if id_ != unk]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte-bpe", "chars"])
@given(sentence=st.lists(words, min_size=1, max_size=8))
def test_the_pieces_of_a_word_spell_it_with_the_space_before_it(tokenizers, kind, sentence):
    (found,) = word_tokens(tokenizers[kind], [sentence])
    for word, pieces in zip(sentence, found, strict=True):
        assert tokenizers[kind].decode([pieces.ids])[0].strip() == word.strip()


def test_a_word_begins_at_its_first_piece_that_is_no_space(tokenizers):
    (found,) = word_tokens(tokenizers["chars"], [["ab", "c"]])
    assert [(len(word.ids), word.first) for word in found] == [(2, 0), (2, 1)]


def test_pieces_of_a_bert_word_are_those_of_the_word_alone(tokenizers, lines):
    tokenizer = tokenizers["wordpiece"]
    sentence = lines[10].split()
    (found,) = word_tokens(tokenizer, [sentence])
    alone = tokenizer.encode(sentence)
    assert [word.ids for word in found] == [ids or [tokenizer.special.unk] for ids in alone]


def test_a_word_of_which_nothing_is_left_is_unk(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    (found,) = word_tokens(tokenizer, [["the", "\u200b", "dogs"]])
    assert found[1].ids == [tokenizer.special.unk]
    assert tokenizer.special.unk not in found[2].ids
