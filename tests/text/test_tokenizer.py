"""What every kind of tokenizer promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.text import TOKENIZERS, load_tokenizer, train_tokenizer
from nlpcli.text.tokenizer_training import CharacterSettings

KINDS = list(TOKENIZERS)
LOSSLESS = [kind for kind in KINDS if kind not in ("wordpiece", "words")]
SAMPLING = ["unigram", "bpe", "byte-bpe"]

# every character of Unicode, and often the ones that a tokenizer may take for its own
texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \t\r\n\0\x1c\x85\u2028\u2581\U000f2581\u2047\u2585\ufeff\ufffdĠĊ01#<>[]/adpksunox_"),
    ),
    max_size=40,
)
spellings = st.lists(
    st.sampled_from(["<pad>", "<unk>", "<s>", "<bos>", "<sentinel_0>", "<0x41>", "[MASK]", "##a", " ", "▁", "Ġ", "a"])
).map("".join)


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=st.one_of(texts, spellings))
def test_every_unicode_text_comes_back_from_a_lossless_kind(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    assert tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.one_of(texts, spellings))
def test_no_text_gives_a_special_id_but_unk(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    forbidden = tokenizer.special.all() - ({tokenizer.special.unk} if not tokenizer.lossless else set())
    assert forbidden.isdisjoint(tokenizer.encode([text])[0])


@pytest.mark.parametrize("kind", SAMPLING)
@given(text=texts, seed=st.integers(0, 2**32))
def test_a_sampled_segmentation_is_of_the_same_text_and_the_seed_repeats_it(tokenizers, kind, text, seed):
    tokenizer = tokenizers[kind]
    first = tokenizer.encode([text, text], sampling=0.2, rng=np.random.default_rng(seed))
    assert tokenizer.decode(first) == [text, text]
    assert tokenizer.special.all().isdisjoint(first[0])
    assert tokenizer.encode([text, text], sampling=0.2, rng=np.random.default_rng(seed)) == first


@pytest.mark.parametrize("kind", SAMPLING)
def test_sampling_varies(tokenizers, kind, lines):
    rng = np.random.default_rng(0)
    found = {tuple(ids) for ids in tokenizers[kind].encode([lines[0]] * 20, sampling=0.2, rng=rng)}
    assert len(found) > 5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SAMPLING])
def test_a_kind_with_one_segmentation_refuses_to_sample(tokenizers, kind):
    with pytest.raises(NlpcliError, match="sampling"):
        tokenizers[kind].encode(["a"], sampling=0.1, rng=np.random.default_rng(0))


def test_sampling_without_a_generator_is_a_fault_of_the_program(tokenizers):
    with pytest.raises(ValueError, match="random generator"):
        tokenizers["unigram"].encode(["a"], sampling=0.1)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_pieces_name_ids_and_hold_no_space_or_line_end(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode([text])[0]
    pieces = [tokenizer.id_to_piece(id_) for id_ in ids]
    assert [tokenizer.piece_to_id(piece) for piece in pieces] == ids
    line = " ".join(pieces)
    assert line.split(" ") == (pieces or [""])
    assert not set(line) & set("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")


def test_special_ids_have_their_roles_and_are_left_out_of_a_text(tokenizer):
    special = tokenizer.special
    assert [special.pad, special.unk, special.bos, special.eos, special.cls, special.sep, special.mask] == [*range(7)]
    assert special.sentinels == (7, 8, 9)
    assert special.all() == frozenset(range(10))
    assert [tokenizer.id_to_piece(id_) for id_ in (0, 6, 9)] == ["<pad>", "<mask>", "<sentinel_2>"]
    assert tokenizer.piece_to_id("<sentinel_2>") == 9
    ids = tokenizer.encode(["reading"])[0]
    assert tokenizer.decode([[special.bos, *ids, special.sentinels[1], special.eos, special.pad]]) == ["reading"]


def test_an_unknown_spelling_is_unk(tokenizer):
    assert tokenizer.piece_to_id("no piece at all") == tokenizer.special.unk
    assert "no piece at all" not in tokenizer


def test_no_texts_and_empty_texts_are_fine(tokenizer):
    assert tokenizer.encode([]) == []
    assert tokenizer.decode([]) == []
    assert tokenizer.encode(["", "reading", ""])[::2] == [[], []]
    assert tokenizer.decode([[], []]) == ["", ""]


def test_many_texts_at_once_are_encoded_as_one_by_one(tokenizer, lines):
    assert tokenizer.encode(tuple(lines)) == [tokenizer.encode([line])[0] for line in lines]


def test_an_id_out_of_the_vocabulary_is_named(tokenizer):
    for wrong in (tokenizer.vocab_size, -1):
        with pytest.raises(
            NlpcliError, match=rf"id {wrong} is not in the vocabulary \(0 to {tokenizer.vocab_size - 1}"
        ):
            tokenizer.decode([[3, wrong]])


def test_a_lone_surrogate_is_no_text(tokenizer):
    with pytest.raises(NlpcliError, match=r"text 2: character 3 is half of a surrogate pair \(U\+D800\)"):
        tokenizer.encode(["fine", "ab\ud800"])


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
def test_one_word_start_for_each_word_of_a_text(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode([text])[0]
    starts = tokenizer.word_starts(ids)
    assert len(starts) == len(ids)
    # a piece may hold the ends of two words, as ".\tA" does
    assert sum(starts) <= len(text.split())
    if not set(text) & set("\t\r\n\0\x1c\x85\u2028") and not any(c.isspace() and c != " " for c in text):
        assert sum(starts) == len(text.split())


def test_words_begin_where_spaces_say(tokenizer):
    ids = tokenizer.encode(["the housekeeper reading stories"])[0]
    starts = tokenizer.word_starts(ids)
    assert sum(starts) == 4
    borders = [*(place for place, begins in enumerate(starts) if begins), len(ids)]
    words = [tokenizer.decode([ids[a:b]])[0].strip() for a, b in pairwise(borders)]
    assert words == ["the", "housekeeper", "reading", "stories"]


def test_a_special_id_is_a_word_of_its_own(tokenizer):
    word = tokenizer.encode(["unbelievable"])[0]
    starts = tokenizer.word_starts([tokenizer.special.bos, *word, tokenizer.special.mask, tokenizer.special.eos])
    assert starts == [True, *tokenizer.word_starts(word), True, True]
    assert starts[1]


def test_a_saved_tokenizer_is_the_same_tokenizer(tokenizer, lines, tmp_path):
    tokenizer.save(tmp_path / "tok")
    loaded = load_tokenizer(tmp_path / "tok")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.kind, loaded.vocab_size, loaded.special) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.special,
    )
    assert loaded.encode(lines) == tokenizer.encode(lines)
    loaded.save(tmp_path / "again")
    for file in (tmp_path / "tok").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_fingerprints_differ_between_tokenizers(tokenizers, lines):
    plain = tokenizers["chars"]
    other = [
        train_tokenizer("chars", lines, sentinels=2),
        train_tokenizer("chars", lines, sentinels=3, characters=CharacterSettings(lowercase=True)),
        train_tokenizer("chars", lines, sentinels=3, characters=CharacterSettings("nfkc")),
        train_tokenizer("chars", lines, sentinels=3, byte_fallback=False),
        *tokenizers.values(),
    ]
    assert len({tokenizer.fingerprint for tokenizer in other}) == len(other)
    assert train_tokenizer("chars", lines, sentinels=3).fingerprint == plain.fingerprint


def test_a_truncated_file_is_noticed(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    file = next(file for file in tmp_path.iterdir() if file.name != "tokenizer.yaml")
    data = file.read_bytes()
    for damaged in (data[:-10], b"", data.replace(data[50:60], b"xxxxxxxxxx")):
        file.write_bytes(damaged)
        with pytest.raises(NlpcliError, match=f"{file.name}: the tokenizer is damaged"):
            load_tokenizer(tmp_path)
    file.unlink()
    with pytest.raises(NlpcliError, match=rf"{file.name}: the tokenizer is damaged \(No such file"):
        load_tokenizer(tmp_path)


def test_an_edited_description_is_noticed(tokenizers, tmp_path):
    tokenizers["bpe"].save(tmp_path)
    path = tmp_path / "tokenizer.yaml"
    description = yaml.safe_load(path.read_text())
    for change, message in (
        ({"lowercase": True}, "its settings were changed after it was saved"),
        ({"vocab_size": 3}, "its settings were changed after it was saved"),
        ({"kind": "unigramm"}, "unknown tokenizer type 'unigramm'"),
        ({"format": 2}, "does not support tokenizer format 2"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"special": {**description["special"], "mask": 5}}, "its settings were changed after it was saved"),
    ):
        path.write_text(yaml.safe_dump(description | change))
        with pytest.raises(NlpcliError, match=message):
            load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_says_how_to_make_one(tmp_path):
    with pytest.raises(NlpcliError, match=r"contains no tokenizer") as error:
        load_tokenizer(tmp_path / "none")
    assert "nlpcli tokenize train" in error.value.hint
