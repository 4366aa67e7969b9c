"""Tokens as a reader sees them: on one line, without broken characters, with their words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.visualize_attention.readable_tokens import Part, escaped, readable, side
from nlpcli.text import train_tokenizer

TEXTS = [
    "Two young men stand in the kitchen.",
    "Ein Mädchen klettert über die Straße",
    "東京都に住んでいる",
    "x\ty 👍",
] * 5
SIZES = {"byte-bpe": 290, "unigram": 309, "bpe": 320, "chars": None, "wordpiece": 90, "words": None}


@pytest.fixture(scope="module", params=SIZES)
def tokenizer(request):
    return train_tokenizer(request.param, TEXTS, vocab_size=SIZES[request.param], seed=1)


def test_every_piece_of_a_vocabulary_is_one_visible_line(tokenizer):
    for id_ in range(tokenizer.vocab_size):
        shown = readable(tokenizer, id_)
        assert shown and shown.isprintable() and " " not in shown
        assert "\ufffd" not in shown and not any("\ud800" <= char <= "\udfff" for char in shown)


def test_words_are_those_that_spaces_separate_and_special_tokens_are_of_none(tokenizer):
    special = tokenizer.special
    one, two = tokenizer.encode(["Two young men", "Ein Mädchen"])
    parts = [Part([special.cls], True, "a"), Part(one, group="a"), Part([special.sep], True, "a"), Part(two, group="b")]
    found = side(tokenizer, parts)
    assert [word for word in dict.fromkeys(found.words) if word >= 0] == [0, 1, 2, 3, 4]
    assert found.words[0] == found.words[len(one) + 1] == -1
    assert found.special == (True, *[False] * len(one), True, *[False] * len(two))
    assert found.groups == ("a",) * (len(one) + 2) + ("b",) * len(two)
    assert found.tokens[0] == "<cls>"


def test_texts_without_spaces_have_a_word_for_each_piece(tokenizer):
    [ids] = tokenizer.encode(["東京都に住んで"])
    words = side(tokenizer, [Part(ids)]).words
    if tokenizer.kind == "words":
        assert words == (0,)
    else:
        assert len(set(words)) > 1


def test_an_unknown_token_of_a_text_is_no_special_one():
    tokenizer = train_tokenizer("bpe", ["aa bb"], vocab_size=12, byte_fallback=False, seed=1)
    [ids] = tokenizer.encode(["aa q"])
    assert tokenizer.special.unk in ids
    found = side(tokenizer, [Part(ids)])
    assert not any(found.special) and -1 not in found.words and "<unk>" in found.tokens


def test_parts_of_characters_are_hexadecimal_and_spaces_are_marks():
    tokenizer = train_tokenizer("byte-bpe", ["ab"], vocab_size=263, seed=1)
    [ids] = tokenizer.encode([" ä\n🙂"])
    assert side(tokenizer, [Part(ids)]).tokens == (
        "▁",
        "<0xC3>",
        "<0xA4>",
        "\\n",
        "<0xF0>",
        "<0x9F>",
        "<0x99>",
        "<0x82>",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202eleft", "\\u202eleft"),
        ("\x00\x7f\xa0", "\\x00\\x7f\\xa0"),
        ("\U000e0001", "\\U000e0001"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_what_can_not_be_seen_is_written_as_its_escape(text, shown):
    assert escaped(text) == shown


@given(st.text(max_size=12))
def test_any_text_has_printable_tokens_that_survive_json(text):
    tokenizer = _BYTES
    [ids] = tokenizer.encode([text])
    found = side(tokenizer, [Part(ids)])
    assert len(found) == len(ids)
    assert json.loads(json.dumps(found.tokens)) == list(found.tokens)
    assert all(char.isprintable() or char in "\u200c\u200d" for token in found.tokens for char in token)


_BYTES = train_tokenizer("byte-bpe", TEXTS, vocab_size=290, seed=1)


def test_the_byte_level_tokens_of_a_foreign_folder_are_read_the_same_way():
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
    from nlpcli.text.special_tokens import SpecialTokens
    from nlpcli.text.tokenizer import Tokenizer, TokenizerSettings

    core = Core(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False))
    core.add_special_tokens(["<|endoftext|>"])
    end = core.get_vocab_size() - 1
    special = SpecialTokens(*[end] * 7, spellings=((end, "<|endoftext|>"),))
    foreign = Tokenizer(
        TokenizerSettings(kind="huggingface"), HuggingFaceModel(core.to_str().encode(), special), special
    )
    [ids] = foreign.encode(["Two ß men"])
    found = side(foreign, [Part(ids), Part([end], True)])
    assert "".join(found.tokens).replace("<0xC3><0x9F>", "ß").startswith("Two▁ß▁men<|endoftext|>")
    assert found.tokens[-1] == "<|endoftext|>"
