"""Words as pieces, and the ends of lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.readers import PART_CHARACTERS
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.text import train_tokenizer
from nlpcli.text.vocabulary_limits import VocabularyTooLarge

TEXT = " \n = A title = \n \n the cat saw the <unk> \n"


def pieces(tokenizer, text):
    return [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode([text])[0]]


def test_frequent_words_come_first_and_equal_ones_in_their_order():
    tokenizer = train_tokenizer("words", ["b b\n", "c a\n"])
    assert [tokenizer.id_to_piece(id_) for id_ in range(7, tokenizer.vocab_size)] == ["<0x0A>", "b", "a", "c"]


def test_each_line_has_one_end_mark_and_each_word_is_one_piece():
    tokenizer = train_tokenizer("words", TEXT.splitlines(keepends=True))
    ids = tokenizer.encode([TEXT])[0]
    assert len(ids) == len(TEXT.split()) + TEXT.count("\n")
    assert pieces(tokenizer, TEXT)[:6] == ["<0x0A>", "=", "A", "title", "=", "<0x0A>"]


def test_the_unk_of_a_published_set_is_unk_as_every_other_unknown_word_is():
    tokenizer = train_tokenizer("words", [TEXT])
    assert "<unk>" in tokenizer and tokenizer.encode(["<unk> dog <pad>"]) == [[tokenizer.special.unk] * 3]


def test_a_word_spelled_as_the_printed_end_of_a_line_is_not_one():
    tokenizer = train_tokenizer("words", ["<0x0A> a\n"])
    assert tokenizer.encode(["<0x0A>"]) == [[tokenizer.special.unk]]
    assert pieces(tokenizer, "\n") == ["<0x0A>"]


def test_a_text_comes_back_with_single_spaces():
    tokenizer = train_tokenizer("words", [TEXT])
    assert tokenizer.decode(tokenizer.encode(["the   cat\n\tsaw \n\n A"])) == ["the cat\nsaw\n\nA"]
    assert not tokenizer.lossless


@given(st.text(max_size=60))
def test_the_words_are_those_of_split(text):
    tokenizer = train_tokenizer("words", [text, "word"])
    ids = tokenizer.encode([text])[0]
    assert sum(tokenizer.word_starts(ids)) == len(text.split())
    assert len(ids) == len(text.split()) + text.count("\n")


def test_a_vocabulary_size_keeps_the_most_frequent_and_none_keeps_all():
    assert train_tokenizer("words", [TEXT]).vocab_size == 7 + 1 + 6
    tokenizer = train_tokenizer("words", ["a a b b c"], vocab_size=10)
    assert tokenizer.encode(["a b c"]) == [[8, 9, tokenizer.special.unk]]


def test_a_size_the_text_cannot_fill_names_the_one_it_can():
    with pytest.raises(VocabularyTooLarge, match="this text, which allows at most 14") as error:
        train_tokenizer("words", [TEXT], vocab_size=15)
    assert train_tokenizer("words", [TEXT], vocab_size=error.value.possible).vocab_size == 14


def test_a_size_without_room_for_a_word_is_refused():
    with pytest.raises(NlpcliError, match="the line end and one word alone need 9"):
        train_tokenizer("words", [TEXT], vocab_size=8)


def test_all_texts_are_counted_however_many():
    stream = (word for word in ["some"] * 100 + ["rare"])
    assert "rare" in train_tokenizer("words", stream, max_lines=1)


def test_a_file_read_as_one_document_has_a_token_for_each_word_and_each_line_end(tmp_path):
    text = "".join(f" word{n} of <unk> line {n % 7} \n" for n in range(12_000))
    assert len(text) > PART_CHARACTERS  # so that it is read in pieces
    (tmp_path / "text").write_text(text)
    tokenizer = train_tokenizer("words", text.splitlines(keepends=True), vocab_size=5000)
    shards = build_shards(tmp_path / "text", tokenizer, out=tmp_path / "shards", documents="file", workers=1)
    assert shards.documents == 1 and shards.tokens == len(text.split()) + 12_000
    assert shards.read(0, shards.tokens).tolist() == tokenizer.encode([text])[0]
