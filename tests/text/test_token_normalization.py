"""What pieces stand for, across the kinds of tokenizers."""

from __future__ import annotations

import json

import pytest

from nlpcli.text import SpecialTokens, Tokenizer
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
from nlpcli.text.token_normalization import Spelling, spellings
from nlpcli.text.tokenizer import TokenizerSettings


def by_kind(tokenizers):
    return {kind: spellings(tokenizer) for kind, tokenizer in tokenizers.items()}


def test_special_ids_stand_for_nothing(tokenizer):
    found = spellings(tokenizer)
    special = tokenizer.special.all()
    assert len(found) == tokenizer.vocab_size
    assert all((spelling is None) == (id_ in special) for id_, spelling in enumerate(found))


def test_a_word_that_is_one_piece_is_spelled_alike_by_every_kind(tokenizers):
    word = Spelling(b"the", "start")
    for kind, found in by_kind(tokenizers).items():
        assert (word in found) == (kind != "chars"), kind
        if kind != "chars":
            text = tokenizers[kind].encode(["in the"])[0]
            assert found.index(word) in text


def test_a_character_inside_a_word_is_spelled_alike_by_every_kind_but_words(tokenizers):
    for kind, found in by_kind(tokenizers).items():
        assert (Spelling(b"e", "inside") in found) == (kind != "words"), kind


def test_bytes_are_distinguished_from_characters(tokenizers):
    found = by_kind(tokenizers)
    for kind in ("unigram", "bpe", "chars", "byte-bpe"):
        assert Spelling(b"\xc3", "byte") in found[kind], kind
    assert Spelling("ü".encode(), "inside") in found["chars"] and Spelling("ä".encode(), "inside") in found["byte-bpe"]
    assert Spelling(b"\n", "byte") in found["words"]


def test_the_space_alone_is_the_start_of_a_word_not_begun(tokenizers):
    for kind in ("unigram", "bpe", "chars", "byte-bpe"):
        assert Spelling(b"", "start") in spellings(tokenizers[kind]), kind


def theirs(model, decoder):
    core = {
        "added_tokens": [{"id": 0, "content": "<s>", "special": True, "lstrip": False, "rstrip": False,
                          "single_word": False, "normalized": False}],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": decoder,
        "truncation": None, "padding": None, "version": "1.0", "model": model,
    }  # fmt: skip
    special = SpecialTokens(*[0] * 7, spellings=((0, "<s>"),))
    model = HuggingFaceModel(json.dumps(core).encode(), special)
    return spellings(Tokenizer(TokenizerSettings(kind="huggingface", byte_fallback=False), model, special))


BPE = {"type": "BPE", "merges": [], "unk_token": None, "fuse_unk": False, "byte_fallback": False, "dropout": None,
       "continuing_subword_prefix": None, "end_of_word_suffix": None}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "decoder", "expected"),
    [
        (
            {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
             "vocab": {"<s>": 0, "a": 1, "##a": 2, "##": 3}},
            {"type": "WordPiece", "prefix": "##", "cleanup": True},
            [(b"a", "start"), (b"a", "inside"), (b"##", "start")],
        ),
        (
            {**BPE, "vocab": {"<s>": 0, "Ġa": 1, "a": 2, "Ã¤": 3, "Ã": 4, "Ċ": 5}},
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            [(b"a", "start"), (b"a", "inside"), ("ä".encode(), "inside"), (b"\xc3", "byte"), (b"\n", "byte")],
        ),
        (
            {**BPE, "vocab": {"<s>": 0, "a</w>": 1, "a": 2}},
            {"type": "BPEDecoder", "suffix": "</w>"},
            [(b"a", "end"), (b"a", "inside")],
        ),
        (
            {"type": "Unigram", "unk_id": 0, "byte_fallback": True,
             "vocab": [["<s>", 0.0], ["▁a", -1.0], ["a", -1.0], ["<0xC3>", -1.0], ["▁▁", -2.0]]},
            {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            [(b"a", "start"), (b"a", "inside"), (b"\xc3", "byte"), (b" ", "start")],
        ),
        (
            {"type": "WordLevel", "unk_token": "<s>", "vocab": {"<s>": 0, "a": 1}},
            None,
            [(b"a", "start")],
        ),
    ],
    ids=["BERT", "GPT-2", "GPT", "T5", "words"],
)  # fmt: skip
def test_their_tokenizers_are_read_by_their_own_way_of_writing(model, decoder, expected):
    assert theirs(model, decoder) == [None, *expected]
