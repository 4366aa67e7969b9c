"""Characters as pieces."""

from __future__ import annotations

from nlpcli.text import train_tokenizer


def test_frequent_characters_come_first_and_equal_ones_in_their_order():
    tokenizer = train_tokenizer("chars", ["ccc bb", "bb a\n"], byte_fallback=False)
    pieces = [tokenizer.id_to_piece(id_) for id_ in range(7, tokenizer.vocab_size)]
    assert pieces == ["b", "c", "▁", "<0x0A>", "a"]


def test_a_vocabulary_size_keeps_the_most_frequent():
    tokenizer = train_tokenizer("chars", ["aaabbc"], vocab_size=9, byte_fallback=False)
    assert tokenizer.encode(["abc"]) == [[7, 8, tokenizer.special.unk]]


def test_strange_characters_are_their_bytes():
    tokenizer = train_tokenizer("chars", ["abc"])
    ids = tokenizer.encode(["aé"])[0]
    assert [tokenizer.id_to_piece(id_) for id_ in ids] == ["a", "<0xC3>", "<0xA9>"]


def test_a_space_and_the_mark_that_prints_it_are_two_pieces():
    tokenizer = train_tokenizer("chars", ["a ▁"])
    space, mark = tokenizer.encode([" ▁"])[0]
    assert tokenizer.id_to_piece(space) == "▁"
    assert tokenizer.id_to_piece(mark) == "<0xE2><0x96><0x81>"


def test_all_texts_are_counted_however_many():
    stream = (char for char in "abcdefgh" * 100 + "z")
    assert "z" in train_tokenizer("chars", stream, max_lines=1)
