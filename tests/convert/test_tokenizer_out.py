"""Our tokenizers as files that `transformers` loads, with the same ids there."""

from __future__ import annotations

import json

import pytest
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st

from nlpcli.convert.tokenizer_in import read_tokenizer
from nlpcli.convert.tokenizer_out import tokenizer_files
from nlpcli.errors import NlpcliError
from nlpcli.text import TOKENIZERS, train_tokenizer
from nlpcli.text.tokenizer_training import CharacterSettings

KINDS = list(TOKENIZERS)
SIZES = {"unigram": 390, "bpe": 430, "wordpiece": 220, "byte-bpe": 420, "chars": None, "words": 30}
texts_of_unicode = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \t\r\n\0\u2028\u2581\U000f2581\ufeff\ufffdĠĊ01#<>x0A4Ein"),
    ),
    max_size=40,
)


def write(tokenizer, folder, kind="encoder", **options):
    for name, content in tokenizer_files(tokenizer, kind=kind, **options).items():
        (folder / name).write_bytes(content)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(training_lines):
    return {kind: train_tokenizer(kind, training_lines, vocab_size=SIZES[kind], sentinels=3) for kind in KINDS}


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    return {kind: write(ours[kind], tmp_path_factory.mktemp(kind)) for kind in KINDS}


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def spells_special(text):
    return any(f"<{name}" in text for name in ("pad", "unk", "bos", "eos", "cls", "sep", "mask", "sentinel"))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_in_transformers_are_ours(ours, theirs, training_lines, all_texts, kind):
    texts = [text for text in [*all_texts, *training_lines, "<0x41> 0x41", "\n", "a\nb"] if not spells_special(text)]
    assert len(texts) > 200
    assert [ids(theirs[kind], text) for text in texts] == ours[kind].encode(texts)
    assert len(theirs[kind]) == ours[kind].vocab_size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "words"])
@given(text=texts_of_unicode)
def test_ids_of_any_text_are_ours(ours, theirs, kind, text):
    assume(not spells_special(text))  # hypothesis draws strings out of the modules that are loaded, these among them
    assert ids(theirs[kind], text) == ours[kind].encode([text])[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("words", "wordpiece")])
@given(text=texts_of_unicode)
def test_any_text_comes_back_there_too(theirs, kind, text):
    assert theirs[kind].decode(ids(theirs[kind], text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_their_ids_and_roles(ours, theirs, kind):
    special, tokenizer = ours[kind].special, theirs[kind]
    for role in ("pad", "unk", "bos", "eos", "cls", "sep", "mask"):
        assert getattr(tokenizer, f"{role}_token_id") == getattr(special, role)
    names = [special.names[id_] for id_ in special.sentinels]
    assert tokenizer.convert_tokens_to_ids(names) == list(special.sentinels)
    assert tokenizer.decode([special.bos, *ids(tokenizer, "reading"), 8, 0], skip_special_tokens=True) == "reading"


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_what_stands_around_a_text_depends_on_the_model(ours, tmp_path, kind):
    tokenizer = ours[kind]
    a, b = tokenizer.encode(["the dogs", "reading"])
    cls, sep, eos = tokenizer.special.cls, tokenizer.special.sep, tokenizer.special.eos
    expected = {
        "encoder": ([cls, *a, sep], [cls, *a, sep, *b, sep]),
        "decoder": (a, a + b),
        "encoder-decoder": ([*a, eos], [*a, eos, *b, eos]),
    }
    for model, (single, pair) in expected.items():
        folder = tmp_path / model
        folder.mkdir()
        loaded = write(tokenizer, folder, model, max_length=17, segments=model == "encoder")
        assert loaded("the dogs").input_ids == single
        assert loaded("the dogs", "reading").input_ids == pair
        assert loaded.model_max_length == 17
        assert ("token_type_ids" in loaded("the dogs")) == (model == "encoder")
    assert "token_type_ids" not in write(tokenizer, tmp_path)("the dogs")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("unigram", {"byte_fallback": False}),
        ("bpe", {"byte_fallback": False, "characters": CharacterSettings("nfkc")}),
        ("chars", {"byte_fallback": False, "characters": CharacterSettings(lowercase=True)}),
        ("wordpiece", {"characters": CharacterSettings(lowercase=True)}),
        ("wordpiece", {"characters": CharacterSettings("nfc")}),
        ("byte-bpe", {"characters": CharacterSettings("nfkc", lowercase=True)}),
    ],
)
def test_settings_go_with_it(training_lines, all_texts, tmp_path, kind, settings):
    size = {"unigram": 140, "bpe": 200, "wordpiece": 220, "byte-bpe": 380, "chars": None}[kind]
    tokenizer = train_tokenizer(kind, training_lines, vocab_size=size, **settings)
    loaded = write(tokenizer, tmp_path)
    texts = [text for text in all_texts if not spells_special(text)]
    assert [ids(loaded, text) for text in texts] == tokenizer.encode(texts)


def test_case_folding_can_not_be_written(training_lines):
    tokenizer = train_tokenizer("chars", training_lines, characters=CharacterSettings("nfkc_cf"))
    with pytest.raises(NlpcliError, match="does not support the tokenizer's normalization 'nfkc_cf'"):
        tokenizer_files(tokenizer, kind="encoder")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read_with_the_same_ids(ours, theirs, all_texts, kind, tmp_path):
    write(ours[kind], tmp_path)
    back = read_tokenizer(tmp_path, {"model_type": "bert"})
    texts = [text for text in all_texts if not spells_special(text)]
    assert back.encode(texts) == ours[kind].encode(texts)
    roles = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")
    assert [getattr(back.special, role) for role in roles] == [getattr(ours[kind].special, role) for role in roles]
    assert back.special.all() == ours[kind].special.all()


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # a library Marian's does not use
@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5", "xlnet", "marian"])
def test_a_tokenizer_that_was_read_is_written_as_it_was(tokenizer_folders, tmp_path, texts, kind):
    config = {"model_type": kind}
    read = read_tokenizer(tokenizer_folders[kind], config)
    loaded = write(read, tmp_path)
    assert [ids(loaded, text) for text in texts] == read.encode(texts)
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = read_tokenizer(tmp_path, config)
    assert again.special.all() == read.special.all()
    assert again.encode(texts) == read.encode(texts)
