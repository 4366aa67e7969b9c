"""Marian's tokenizer: sources are cut by one model, what is to be written by the other, into the same ids."""

from __future__ import annotations

import io

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import Tokenizer, load_tokenizer, train_tokenizer
from nlpcli.text.marian_tokenizer import MarianModel
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer import TokenizerSettings

SIDES = {"source": ["the house of the man", "a man and a house", "the mouse"],
         "target": ["das Haus des Mannes", "ein Mann und ein Haus", "die Maus"]}  # fmt: skip


@pytest.fixture(scope="module")
def sides():
    """The two SentencePiece models."""
    sides = {}
    for side, texts in SIDES.items():
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 20), model_writer=written, vocab_size=40, minloglevel=2,
            hard_vocab_limit=False,
        )  # fmt: skip
        sides[side] = written.getvalue()
    return sides


@pytest.fixture(scope="module")
def tokenizer(sides):
    pieces: dict[str, None] = {}
    for proto in sides.values():
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        pieces |= dict.fromkeys(map(processor.id_to_piece, range(3, processor.vocab_size())))
    vocabulary = {piece: id_ for id_, piece in enumerate(["</s>", "<unk>", *pieces, "<pad>"])}
    pad = len(vocabulary) - 1
    special = SpecialTokens(pad=pad, unk=1, bos=pad, eos=0, cls=0, sep=0, mask=1)
    model = MarianModel(vocabulary, sides["source"], sides["target"], special)
    return Tokenizer(TokenizerSettings(kind="marian", byte_fallback=False), model, special, {})


@given(words=st.lists(st.sampled_from(" ".join([*SIDES["source"], *SIDES["target"]]).split()), max_size=6))
def test_targets_are_cut_by_the_target_s_model_and_sources_by_the_source_s(tokenizer, sides, words):
    text = " ".join(words)
    for reader, side in ((tokenizer, "source"), (tokenizer.for_targets(), "target")):
        pieces = sentencepiece.SentencePieceProcessor(model_proto=sides[side]).encode(text, out_type=str)
        [ids] = reader.encode([text])
        assert ids == [tokenizer.piece_to_id(piece) for piece in pieces]


def test_what_is_written_is_the_same_text_by_either(tokenizer):
    targets = tokenizer.for_targets()
    ids = targets.encode(SIDES["target"])
    assert targets.decode(ids) == tokenizer.decode(ids) == SIDES["target"]
    assert targets.vocab_size == tokenizer.vocab_size and targets.special == tokenizer.special


def test_texts_encoded_by_one_half_are_not_taken_for_those_of_the_other(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint != tokenizer.for_targets().fingerprint
    assert again.for_targets().fingerprint == tokenizer.for_targets().fingerprint


def test_every_other_tokenizer_cuts_both_alike():
    tokenizer = train_tokenizer("chars", SIDES["source"])
    assert tokenizer.for_targets() is tokenizer
