"""Reading the tokenizers of Hugging Face folders."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.convert.sentencepiece_file import parse_spm
from nlpcli.convert.tokenizer_in import read_tokenizer
from nlpcli.errors import NlpcliError
from nlpcli.text import load_tokenizer

KINDS = ["bert", "roberta", "bart", "gpt2", "openai-gpt", "t5", "pegasus", "xlnet", "marian", "xlm-roberta",
         "longformer", "big_bird"]  # fmt: skip
OLD_FILES = [kind for kind in KINDS if kind not in ("pegasus", "marian")]  # these two have nothing else
STARTS_WITH_PAD = {"is_encoder_decoder": True, "decoder_start_token_id": 0}
CONFIGS = {"t5": STARTS_WITH_PAD, "pegasus": STARTS_WITH_PAD}
UNKNOWN_ONLY = {"roberta", "bart", "gpt2"}  # every byte is a piece of theirs


def read(folders, kind):
    return read_tokenizer(folders[kind], {"model_type": kind, **CONFIGS.get(kind, {})})


@pytest.fixture(scope="module")
def ours(tokenizer_folders):
    return {kind: read(tokenizer_folders, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def theirs(tokenizer_folders):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Marian's asks for a library it does not use
        return {kind: transformers.AutoTokenizer.from_pretrained(folder) for kind, folder in tokenizer_folders.items()}


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def same_rules(kind, texts):
    # where the file says nothing, `transformers` keeps a space at the end for PEGASUS, SentencePiece itself doesn't
    return [text.strip() for text in texts] if kind == "pegasus" else texts


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(ours, theirs, texts, kind):
    texts = same_rules(kind, texts)
    assert ours[kind].encode(texts) == [plain_ids(theirs[kind], text) for text in texts]
    assert ours[kind].vocab_size == len(theirs[kind])


@pytest.mark.parametrize("kind", OLD_FILES)
def test_ids_are_those_of_transformers_from_vocabulary_files_alone(ours, tokenizer_folders, tmp_path, texts, kind):
    shutil.copytree(tokenizer_folders[kind], tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    found = read_tokenizer(tmp_path, {"model_type": kind, **CONFIGS.get(kind, {})})
    assert found.encode(texts) == ours[kind].encode(texts)
    assert found.special == ours[kind].special


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_that_of_transformers(ours, theirs, texts, kind):
    ids = ours[kind].encode(texts)
    expected = [theirs[kind].decode(row, clean_up_tokenization_spaces=False) for row in ids]
    # punctuation after a WordPiece, and spaces at the ends, are cosmetics of either side
    squeeze = "".join if kind in ("bert", "openai-gpt") else " ".join
    known = [ours[kind].special.unk not in row or kind in UNKNOWN_ONLY for row in ids]
    found = ours[kind].decode(ids)
    assert [squeeze(a.split()) for a, k in zip(found, known, strict=True) if k] == [
        squeeze(b.split()) for b, k in zip(expected, known, strict=True) if k
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_spelling_of_a_special_token_is_text(ours, all_texts, kind):
    tokenizer = ours[kind]
    spelled = [*all_texts, " ".join(tokenizer.special.names.values()), "".join(tokenizer.special.names.values())]
    forbidden = tokenizer.special.all() - {tokenizer.special.unk}
    for row in tokenizer.encode(spelled):
        assert forbidden.isdisjoint(row)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5", "xlnet"])
@given(text=st.text(max_size=30))
def test_no_unicode_text_gives_a_special_id_but_unk(ours, kind, text):
    tokenizer = ours[kind]
    ids = tokenizer.encode([text])[0]
    assert (tokenizer.special.all() - {tokenizer.special.unk}).isdisjoint(ids)
    assert len(tokenizer.word_starts(ids)) == len(ids)
    pieces = [tokenizer.id_to_piece(id_) for id_ in ids]
    assert " ".join(pieces).split() == pieces


def test_roles_are_those_of_the_families(ours):
    expected = {
        "bert": {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"},
        "roberta": {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"},
        "bart": {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "mask": "<mask>"},
        "gpt2": {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"},
        "t5": {"pad": "<pad>", "bos": "<pad>", "eos": "</s>", "unk": "<unk>"},
        "pegasus": {"pad": "<pad>", "bos": "<pad>", "eos": "</s>", "mask": "<mask_2>"},
        "xlnet": {"cls": "<cls>", "sep": "<sep>", "pad": "<pad>", "mask": "<mask>", "bos": "<s>"},
        "marian": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
    }
    for kind, roles in expected.items():
        special = ours[kind].special
        assert {role: special.names[getattr(special, role)] for role in roles} == roles
    assert ours["gpt2"].special.absent == ("pad", "cls", "sep", "mask")
    assert "mask" in ours["t5"].special.absent
    with pytest.raises(NlpcliError, match="no mask token"):
        ours["gpt2"].special.check("eos", "mask")
    ours["bert"].special.check("bos", "eos", "mask")


def test_t5s_first_sentinel_has_the_last_id(ours):
    special = ours["t5"].special
    assert len(special.sentinels) == 100
    assert special.sentinels[0] == ours["t5"].vocab_size - 1
    assert special.names[special.sentinels[99]] == "<extra_id_99>"


def test_ids_beyond_the_tokenizers_are_special(tokenizer_folders, texts):
    config = {"model_type": "t5", "vocab_size": 300, **STARTS_WITH_PAD}
    padded, plain = read_tokenizer(tokenizer_folders["t5"], config), read(tokenizer_folders, "t5")
    assert padded.vocab_size == 300 > plain.vocab_size
    assert padded.id_to_piece(299) == "<unused_299>"
    assert set(range(plain.vocab_size, 300)) <= padded.special.all()
    assert padded.encode(texts) == plain.encode(texts)
    assert padded.decode([[299, *plain.encode(["reading"])[0]]]) == ["reading"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same_tokenizer(ours, tmp_path, all_texts, kind):
    ours[kind].save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == ours[kind].fingerprint
    assert loaded.special == ours[kind].special
    assert loaded.encode(all_texts) == ours[kind].encode(all_texts)


@pytest.mark.parametrize("kind", KINDS)
def test_words_begin_where_spaces_say(ours, kind):
    ids = ours[kind].encode(["the housekeeper reading stories"])[0]
    assert sum(ours[kind].word_starts(ids)) == 4


def test_bytes_without_rules_lose_nothing(ours, all_texts):
    assert ours["gpt2"].lossless
    assert ours["gpt2"].decode(ours["gpt2"].encode(all_texts)) == all_texts
    assert not any(ours[kind].lossless for kind in ("bert", "t5", "marian"))


def test_a_language_code_of_the_vocabulary_stands_first(ours, theirs):
    for text in (">>fr<< the kitchen", "the >>fr<< kitchen", "the kitchen"):
        assert ours["marian"].encode([text])[0] == plain_ids(theirs["marian"], text)
    assert ours["marian"].encode([">>fr<< the"])[0][0] == 2


@pytest.mark.parametrize("kind", ["bert", "marian"])
def test_it_refuses_to_sample_and_to_train(ours, kind):
    with pytest.raises(NlpcliError, match="sampling"):
        ours[kind].encode(["a"], sampling=0.1, rng=np.random.default_rng(0))


def test_a_folder_without_tokenizer_files_says_what_it_looked_for(tmp_path):
    with pytest.raises(NlpcliError, match="the tokenizer is missing"):
        read_tokenizer(tmp_path, {"model_type": "bert"})


def test_damaged_files_are_named(tokenizer_folders, tmp_path):
    for name, content in (("tokenizer.json", "{"), ("spiece.model", "xyz")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(NlpcliError, match="can't be read"):
            read_tokenizer(folder, {"model_type": "t5"})
    (tmp_path / "special_tokens_map.json").write_text("[1]")
    with pytest.raises(NlpcliError, match=r"special_tokens_map\.json: the file is not a JSON object"):
        read_tokenizer(tmp_path, {"model_type": "t5"})


def test_added_tokens_keep_their_ids(tokenizer_folders, tmp_path, texts):
    shutil.copytree(tokenizer_folders["gpt2"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    size = len(json.loads((tmp_path / "vocab.json").read_text()))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": size}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    found = read_tokenizer(tmp_path, {"model_type": "gpt2"})
    assert found.special.pad == size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": size + 5}))
    with pytest.raises(NlpcliError, match=f"can't have the id {size + 5}"):
        read_tokenizer(tmp_path, {"model_type": "gpt2"})


def test_a_file_of_an_old_version_is_understood(tokenizer_folders, ours, tmp_path, texts):
    for kind in ("bert", "gpt2"):
        content = json.loads((tokenizer_folders[kind] / "tokenizer.json").read_text())
        del content["model"]["type"]
        content["model"].pop("byte_fallback", None)
        if "merges" in content["model"]:
            content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        assert read_tokenizer(tmp_path, {"model_type": kind}).encode(texts) == ours[kind].encode(texts)


def test_a_sentencepiece_file_says_what_the_library_says(tokenizer_folders):
    import sentencepiece

    path = tokenizer_folders["t5"] / "spiece.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    parsed = parse_spm(path.read_bytes())
    assert parsed.unk == processor.unk_id() == 2
    assert parsed.normalization
    assert [piece for piece, _ in parsed.pieces] == [processor.id_to_piece(i) for i in range(len(processor))]
    assert [score for _, score in parsed.pieces] == [processor.get_score(i) for i in range(len(processor))]
    for damaged in (path.read_bytes()[:-3], b"", b"\xff" * 30):
        with pytest.raises(ValueError):
            parse_spm(damaged)
