"""Byte-level BPE: sampling meets the library at its ends, and all bytes are there."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import train_tokenizer


@given(text=st.text(max_size=60))
def test_own_merging_without_dropout_is_the_librarys(tokenizers, text):
    tokenizer = tokenizers["byte-bpe"]
    nearly_none = tokenizer.encode([text], sampling=1e-300, rng=np.random.default_rng(0))
    assert nearly_none == tokenizer.encode([text])


@given(text=st.text(max_size=60))
def test_dropping_every_merge_leaves_the_bytes_of_the_text(tokenizers, text):
    tokenizer = tokenizers["byte-bpe"]
    ids = tokenizer.encode([text], sampling=1.0, rng=np.random.default_rng(0))[0]
    assert len(ids) == len(text.encode())
    assert set(ids) <= set(range(10, 266))


def test_every_sequence_of_ids_is_a_text(tokenizers):
    tokenizer = tokenizers["byte-bpe"]
    text = tokenizer.decode([list(range(tokenizer.vocab_size))])[0]
    assert "\ufffd" in text
    assert "Mäd" in tokenizer.decode(tokenizer.encode(["Mädchen"]))[0]


def test_the_smallest_vocabulary_is_special_tokens_and_bytes():
    tokenizer = train_tokenizer("byte-bpe", ["some text"], vocab_size=7 + 256)
    assert tokenizer.vocab_size == 263
    assert len(tokenizer.encode(["häß"])[0]) == 5


def test_a_piece_prints_a_space_as_gpt2_does(tokenizers):
    tokenizer = tokenizers["byte-bpe"]
    assert "Ġthe" in [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode(["in the"])[0]]
