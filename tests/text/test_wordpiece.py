"""WordPiece against BERT's own tokenizer and against a plain reading of its description."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from nlpcli.text import train_tokenizer
from nlpcli.text.tokenizer_training import CharacterSettings
from nlpcli.text.vocabulary_limits import VocabularyTooLarge

TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cn", "Co"]), st.sampled_from("abcdehinorstu  .,'-!?ÄäÖüßé東京\t\n#")
    ),
    max_size=40,
)


@pytest.fixture(scope="module", params=[False, True], ids=["cased", "uncased"])
def pair(request, lines, tmp_path_factory):
    """Our tokenizer and BERT's with the same vocabulary."""
    ours = train_tokenizer("wordpiece", lines, vocab_size=260, characters=CharacterSettings(lowercase=request.param))
    names = {f"{role}_token": f"<{role}>" for role in ("unk", "sep", "pad", "cls", "mask")}
    vocabulary = tmp_path_factory.mktemp("bert") / "vocab.txt"
    vocabulary.write_text("".join(f"{ours.id_to_piece(id_)}\n" for id_ in range(ours.vocab_size)), encoding="utf-8")
    theirs = BertTokenizerFast(str(vocabulary), do_lower_case=request.param, **names)
    return ours, theirs


@given(text=TEXTS)
def test_ids_are_those_of_bert(pair, text):
    ours, theirs = pair
    assert ours.encode([text])[0] == theirs.encode(text, add_special_tokens=False)


@given(text=TEXTS)
def test_decoding_joins_as_bert_does(pair, text):
    ours, theirs = pair
    ids = ours.encode([text])[0]
    assert ours.decode([ids])[0] == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)


def plain_wordpiece(text: str, pieces: set[str], *, lowercase: bool) -> list[str]:
    """Devlin et al. 2019, released code, for texts of letters, spaces and ASCII punctuation."""
    if lowercase:
        text = "".join(char for char in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(char))
    spaced = "".join(f" {char} " if char in "!?.,;:'-#" or "\u4e00" <= char <= "\u9fff" else char for char in text)
    found: list[str] = []
    for word in spaced.split():
        cut: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in pieces)
            end = next(ends, None)
            if end is None:
                cut = ["<unk>"]
                break
            cut.append(prefix + word[start:end])
            start = end
        found += cut
    return found


@given(text=st.text("abcdefghiknorstuäöüßéAHDM .,'-#京語", max_size=40), lowercase=st.booleans())
def test_a_word_is_cut_into_the_longest_pieces_from_the_left(uncased_and_cased, text, lowercase):
    tokenizer = uncased_and_cased[lowercase]
    pieces = {tokenizer.id_to_piece(id_) for id_ in range(7, tokenizer.vocab_size)}
    expected = plain_wordpiece(text, pieces, lowercase=lowercase)
    assert [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode([text])[0]] == expected


@pytest.fixture(scope="module")
def uncased_and_cased(lines):
    return {
        low: train_tokenizer("wordpiece", lines, vocab_size=260, characters=CharacterSettings(lowercase=low))
        for low in (False, True)
    }


def test_the_uncased_form_strips_accents_and_the_cased_one_does_not(uncased_and_cased):
    for lowercase, expected in ((True, "madchen"), (False, "Mädchen")):
        tokenizer = uncased_and_cased[lowercase]
        assert tokenizer.decode(tokenizer.encode(["Mädchen"])) == [expected]


def test_words_begin_at_pieces_without_a_mark(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    ids = tokenizer.encode(["unbelievable stories, reading."])[0]
    pieces = [tokenizer.id_to_piece(id_) for id_ in ids]
    assert tokenizer.word_starts(ids) == [not piece.startswith("##") for piece in pieces]
    assert sum(tokenizer.word_starts(ids)) == 5


def test_the_most_frequent_pair_is_merged_first_however_many_copies_there_are():
    # "ab" stands 2502 times against 2501 of "cd": more copies than are handed to the trainer at once
    tokenizer = train_tokenizer("wordpiece", ["cd " * 2501 + "ab " * 2502], vocab_size=14)
    assert [tokenizer.id_to_piece(id_) for id_ in range(7, 14)] == ["##b", "##d", "a", "b", "c", "d", "ab"]


def trained_with_all_pieces(texts):
    try:
        return train_tokenizer("wordpiece", texts, vocab_size=500)
    except VocabularyTooLarge as error:
        return train_tokenizer("wordpiece", texts, vocab_size=error.possible)


@pytest.mark.parametrize("length", [101, 450, 1000])
def test_a_long_word_of_the_training_text_is_cut_into_pieces_which_is_reported(length):
    word = ("มานีมีตาดีมากวันนี้อากาศดี" * 40)[:length]
    tokenizer = trained_with_all_pieces([word, "มานี มี"] * 3)
    [pieces] = tokenizer.encode([word])
    assert tokenizer.special.unk not in pieces
    assert "1 word has more than 100 characters; " in tokenizer.model.note
    [again] = type(tokenizer.model).from_bytes(tokenizer.model.to_bytes(), None).encode([word])
    assert again == pieces


def test_a_word_that_would_take_too_long_is_unknown_and_reported_and_usual_words_are_not_reported():
    assert (
        "1 of them has more than 1,000, and becomes <unk>" in trained_with_all_pieces(["ab" * 501, "a b ab"]).model.note
    )
    assert trained_with_all_pieces(["a" * 100, "b"]).model.note is None
