"""Which characters and words the pieces of published tokenizers stand for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.convert.tokenizer_in import read_tokenizer
from nlpcli.text.pretokenized_words import word_tokens

KINDS = ["bert", "roberta", "bart", "gpt2", "openai-gpt", "t5", "pegasus", "xlnet", "marian"]
BYTES = ("roberta", "bart", "gpt2")
WORDS = ["Two", "young", "men", "stand", "in", "the", "kitchen,", "Mädchen", "Straße", "naïve", "東京", "1,234.50", "½"]
SENTENCE = "Two young  men in the kitchen, 日本語 1,234.50 $ (or 7 %) naïve"


@pytest.fixture(scope="module")
def tokenizers(tokenizer_folders):
    return {kind: read_tokenizer(tokenizer_folders[kind], {"model_type": kind}) for kind in KINDS}


@pytest.fixture(scope="module")
def theirs(tokenizer_folders):
    return {kind: transformers.AutoTokenizer.from_pretrained(tokenizer_folders[kind]) for kind in ("bert", "gpt2")}


texts = st.lists(
    st.one_of(
        st.sampled_from([*WORDS, "``", "☃", "e\u0301", "ﬁ", "\u200b", ">>fr<<", "▁", "🙂"]),
        st.text("ab, .", max_size=4),
    ),
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_spans_come_in_order_without_space_around(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    (ids,), (spans,) = tokenizer.encode_with_offsets([text])
    assert ids == tokenizer.encode([text])[0]
    assert len(ids) == len(spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))


@pytest.mark.parametrize("kind", KINDS)
def test_every_character_but_white_space_is_in_a_span(tokenizers, kind):
    (_,), (spans,) = tokenizers[kind].encode_with_offsets([SENTENCE])
    covered = {place for start, end in spans for place in range(start, end)}
    assert covered == {place for place, char in enumerate(SENTENCE) if not char.isspace()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_stands_for_the_characters_it_spells(tokenizers, kind):
    tokenizer = tokenizers[kind]
    text = "two young  men stand in the kitchen, cooking for the others."
    (ids,), (spans,) = tokenizer.encode_with_offsets([text])
    for id_, (start, end) in zip(ids, spans, strict=True):
        if id_ not in tokenizer.special.all():
            assert tokenizer.decode([[id_]])[0].removeprefix("##").strip() == text[start:end]


@pytest.mark.parametrize("kind", KINDS)
@given(words=st.lists(st.sampled_from([*WORDS, "\u200b", "☃", "``"]), max_size=10))
def test_words_have_the_pieces_of_their_sentence(tokenizers, kind, words):
    tokenizer = tokenizers[kind]
    unk = tokenizer.special.unk
    (found,) = word_tokens(tokenizer, [words])
    assert len(found) == len(words) and all(word.ids for word in found)
    together = [id_ for word in found for id_ in word.ids if id_ != unk]
    assert together == [id_ for id_ in tokenizer.encode([" ".join(words)])[0] if id_ != unk]
    for word, pieces in zip(words, found, strict=True):
        if unk not in pieces.ids and kind in (*BYTES, "marian") and word not in ("½", "\u200b"):
            assert tokenizer.decode([pieces.ids])[0].strip() == word.strip()


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=10))
def test_the_pieces_of_berts_words_are_those_of_transformers(tokenizers, theirs, words):
    (found,) = word_tokens(tokenizers["bert"], [words])
    encoded = theirs["bert"](words, is_split_into_words=True, add_special_tokens=False)
    groups = [[] for _ in words]
    for id_, word in zip(encoded.input_ids, encoded.word_ids(), strict=True):
        groups[word].append(id_)
    assert [word.ids for word in found] == groups
    assert all(word.first == 0 for word in found)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@given(text=texts)
def test_spans_are_those_of_transformers_without_space_around(tokenizers, theirs, kind, text):
    (_,), (spans,) = tokenizers[kind].encode_with_offsets([text])
    expected = theirs[kind](text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    cut = [(start + len(text[start:end]) - len(text[start:end].lstrip()), end) for start, end in expected]
    assert [span for span in spans if span[0] < span[1]] == [span for span in cut if span[0] < span[1]]
