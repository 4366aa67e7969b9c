"""Which characters pieces stand for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import TOKENIZERS, train_tokenizer
from nlpcli.text.detokenization import SPACE_MARK
from nlpcli.text.normalization import NORMALIZATIONS, normalizer
from nlpcli.text.offsets import origins
from nlpcli.text.sentencepiece_tokenizer import ESCAPE
from nlpcli.text.tokenizer_training import CharacterSettings

KINDS = list(TOKENIZERS)
LOSSLESS = [kind for kind in KINDS if kind not in ("wordpiece", "words")]

characters = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("abcdehinorstuwy .,-$ABCDE"),
    st.sampled_from(" \t\r\n\0\x85\u2028\u2581\U000f2581\ufffd\u0301\u0323ßÉéİΣ½ﬁ가각ᄀ東京"),
)
texts = st.text(characters, max_size=40)


def ordered(spans) -> bool:
    return all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_ids_are_those_of_encode_and_spans_come_in_order_without_space_around(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    (ids,), (spans,) = tokenizer.encode_with_offsets([text])
    assert ids == tokenizer.encode([text])[0]
    assert len(spans) == len(ids) and ordered(spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
def test_every_character_but_white_space_has_a_piece_that_spells_it(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    (ids,), (spans,) = tokenizer.encode_with_offsets([text])
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, char in enumerate(text) if not char.isspace()} <= covered
    for id_, (start, end) in zip(ids, spans, strict=True):
        (spelled,) = tokenizer.decode([[id_]])
        escaped = {SPACE_MARK, ESCAPE} & set(text[start:end])  # two characters for SentencePiece, maybe two tokens
        if "\ufffd" not in spelled and not escaped:  # not bytes of a character
            assert spelled.strip() == text[start:end]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte-bpe", "chars", "wordpiece", "words"])
def test_a_piece_stands_for_the_characters_it_spells(tokenizers, kind):
    text = "Two young  men stand in the kitchen, cooking for the others."
    (ids,), (spans,) = tokenizers[kind].encode_with_offsets([text])
    for id_, (start, end) in zip(ids, spans, strict=True):
        spelled = tokenizers[kind].decode([[id_]])[0].removeprefix("##")
        assert spelled.strip() == text[start:end]


def test_a_run_of_unknown_characters_is_one_piece_with_all_of_them(lines):
    tokenizer = train_tokenizer("unigram", lines, vocab_size=140, byte_fallback=False)
    (ids,), (spans,) = tokenizer.encode_with_offsets(["the ☃☃ of"])
    assert spans[ids.index(tokenizer.special.unk)] == (4, 6)
    assert spans[-1][1] == 9


@pytest.mark.parametrize("name", list(NORMALIZATIONS))
@pytest.mark.parametrize("lowercase", [False, True])
@given(text=texts)
def test_each_normalised_character_has_an_origin_and_all_are_covered_in_order(name, lowercase, text):
    normalize = normalizer(name, lowercase=lowercase)
    normal = normalize(text)
    found = origins(text, normalize, normal)
    if found is None:
        assert len(normal) == len(text)
        return
    assert len(found) == len(normal) and ordered(found)
    for start, end in set(found):
        part = "".join(char for char, span in zip(normal, found, strict=True) if span == (start, end))
        assert part.replace("ς", "σ") == normalize(text[start:end]).replace("ς", "σ")


@pytest.mark.parametrize("kind", ["unigram", "byte-bpe", "chars"])
@given(text=texts)
def test_spans_are_of_the_text_before_its_normalisation(normalising, kind, text):
    (ids,), (spans,) = normalising[kind].encode_with_offsets([text])
    assert ids == normalising[kind].encode([text])[0]
    assert ordered(spans) and all(0 <= start <= end <= len(text) for start, end in spans)


@pytest.fixture(scope="module")
def normalising(lines):
    sizes = {"unigram": 380, "byte-bpe": 380, "chars": None}
    return {
        kind: train_tokenizer(kind, lines, vocab_size=size, characters=CharacterSettings("nfkc", lowercase=True))
        for kind, size in sizes.items()
    }


def test_what_was_composed_and_taken_apart_is_found_again(normalising):
    (_,), (spans,) = normalising["chars"].encode_with_offsets(["e\u0301½X"])
    assert spans[0] == (0, 2)
    assert spans[-1] == (3, 4)
    assert set(spans[1:-1]) <= {(0, 2), (2, 3)}
