"""The files that a folder may have or lack: every variant gives the same model and ids, or is refused by its family."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from nlpcli.convert.huggingface_in import read_description, read_huggingface
from nlpcli.convert.tokenizer_in import has_tokenizer, read_tokenizer
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model

SIZES = {"d_model": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "d_kv": 8}
NAMED = {  # what tokenizer.json and the vocabulary files don't say
    "bert": ("BertConfig", "BertForMaskedLM", "BertTokenizer", ["vocab.txt"]),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", "GPT2Tokenizer", ["vocab.json", "merges.txt"]),
    "t5": ("T5Config", "T5ForConditionalGeneration", "T5Tokenizer", ["spiece.model"]),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", "RobertaTokenizer", ["vocab.json", "merges.txt"]),
}
MODELS = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "t5": SIZES,
}
TEXTS = ["Two men", "the dogs are standing"]


@pytest.fixture(params=NAMED)
def published(request, tokenizer_folders, tmp_path):
    """The family, a folder that `transformers` wrote and that of its tokenizer."""
    kind = request.param
    config, cls, *_ = NAMED[kind]
    tokens = read_tokenizer(tokenizer_folders[kind], {"model_type": kind})
    torch.manual_seed(1)
    described = getattr(transformers, config)(vocab_size=tokens.vocab_size, **MODELS[kind])
    getattr(transformers, cls)(described).save_pretrained(tmp_path / "model")
    return kind, tmp_path / "model", tokenizer_folders[kind]


def copied(source, folder, names):
    for name in names:
        shutil.copy(source / name, folder / name)


def read(folder):
    found = read_huggingface(folder)
    build_model(found.config, found.vocab_size)
    return found


@pytest.mark.parametrize("slow", [False, True], ids=["nothing", "a slow class"])
@pytest.mark.parametrize("whole", [False, True], ids=["vocabulary files", "tokenizer.json"])
def test_few_tokenizer_files_are_enough(published, whole, slow):
    kind, folder, tokens = published
    *_, tokenizer_class, files = NAMED[kind]
    copied(tokens, folder, ["tokenizer.json"] if whole else files)
    if slow:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    expected = read_tokenizer(tokens, {"model_type": kind, "is_encoder_decoder": kind == "t5"})
    found = read(folder).tokenizer
    texts = [text.lower() for text in TEXTS] if kind == "bert" else TEXTS
    assert found.encode(texts) == expected.encode(texts)
    for role in ("pad", "unk", "eos", "cls", "sep", "mask"):
        if role not in found.special.absent:
            assert getattr(found.special, role) == getattr(expected.special, role)


def test_shards_and_an_index_are_one_model(published):
    kind, folder, tokens = published
    copied(tokens, folder, ["tokenizer.json"])
    whole = read(folder).weights
    theirs = getattr(transformers, NAMED[kind][1]).from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="8KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    found = read(folder).weights
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in whole)
    next(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(NlpcliError, match=r"model-0000\d-of-\d+\.safetensors"):
        read_huggingface(folder)


def test_a_config_without_architectures_is_read_by_its_model_type(published):
    _, folder, tokens = published
    copied(tokens, folder, ["tokenizer.json"])
    whole = read(folder)
    described = json.loads((folder / "config.json").read_text())
    del described["architectures"]
    (folder / "config.json").write_text(json.dumps(described))
    found = read(folder)
    assert found.config == whole.config and found.info == whole.info
    assert all(torch.equal(found.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.parametrize("kind", ["deberta-v2", "albert", "gemma", "fsmt", "bertt"])
def test_other_families_are_named_with_those_that_are_supported(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": ["SomeModel"]}))
    for reader in (read_huggingface, read_description):
        with pytest.raises(NlpcliError, match=f"the model type '{kind}' is not") as error:
            reader(tmp_path)
        assert "did you mean" not in error.value.hint
        assert all(name in error.value.hint for name in ("bert", "roberta", "marian", "t5"))


def test_a_config_without_model_type_says_so(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    with pytest.raises(NlpcliError, match="the key 'model_type' is missing"):
        read_huggingface(tmp_path)


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model"])
def test_a_sentencepiece_file_of_another_family_is_seen(tokenizer_folders, tmp_path, name):
    shutil.copy(tokenizer_folders["t5"] / "spiece.model", tmp_path / name)
    assert has_tokenizer(tmp_path)
    with pytest.raises(NlpcliError, match=f"{name}: this file is not supported for the model type 'camembert'"):
        read_tokenizer(tmp_path, {"model_type": "camembert"})
