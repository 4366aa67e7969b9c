"""Folders that others wrote: published layouts, sharded and pickled weights, and what is not known or broken."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil

import pytest
import torch
import transformers

from nlpcli.commands.inspect.weight_statistics import header
from nlpcli.config.files import sha256_file
from nlpcli.convert.huggingface_in import read_description, read_huggingface
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights, read_tensors, stored_shapes, unshared


@pytest.fixture
def gpt2(write, tmp_path):
    folder = tmp_path / "gpt2"
    folder.mkdir()
    model, *_ = write("gpt2", folder)
    described = json.loads((folder / "config.json").read_text())
    del described["nlpcli"]
    (folder / "config.json").write_text(json.dumps(described))
    return model, folder


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(weights, folder):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")


def test_published_gpt2_files_have_no_prefix_and_carry_masks(gpt2, same_weights):
    model, folder = gpt2
    weights = {name.removeprefix("transformer."): tensor for name, tensor in tensors(folder).items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
    save(weights, folder)
    found = read_huggingface(folder)
    assert same_weights(found.weights, model)
    assert found.left_out == []
    generation = json.loads((folder / "generation_config.json").read_text())
    assert found.info == {
        "task": "language-model", "read_from": "gpt2", "document_end": True, "generation": generation
    }  # fmt: skip


def test_sharded_weights_are_put_together(gpt2, same_weights):
    model, folder = gpt2
    weights = tensors(folder)
    names = list(weights)
    (folder / "model.safetensors").unlink()
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save({name: weights[name] for name in part}, folder)
        (folder / "model.safetensors").rename(folder / f"part{number}.safetensors")
        index |= dict.fromkeys(part, f"part{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert same_weights(read_huggingface(folder).weights, model)
    for outside in ("../part0.safetensors", "/part0.safetensors", "a/part0.safetensors", "..", ""):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": outside}}))
        with pytest.raises(NlpcliError, match=r"index\.json: \".*\" can't be the name of a file"):
            read_huggingface(folder)


def test_a_pickle_is_read_only_on_request_and_only_tensors_of_it(gpt2, same_weights, tmp_path):
    model, folder = gpt2
    torch.save(tensors(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(NlpcliError, match="the weights are a pickle") as error:
        read_huggingface(folder)
    assert "--allow-pickle" in error.value.hint
    assert same_weights(read_huggingface(folder, allow_pickle=True).weights, model)
    touched = tmp_path / "touched"
    torch.save({"transformer.wte.weight": Harmful(str(touched))}, folder / "pytorch_model.bin")
    with pytest.raises(NlpcliError, match="the file is damaged or contains more than tensors"):
        read_huggingface(folder, allow_pickle=True)
    assert not touched.exists()


class Harmful:
    """Runs something when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_half_precision_becomes_single(gpt2):
    model, folder = gpt2
    save({name: tensor.half() for name, tensor in tensors(folder).items()}, folder)
    found = read_huggingface(folder).weights
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    expected = model.state_dict()["decoder.norm.weight"]
    assert torch.equal(found["decoder.norm.weight"], expected.half().float())


def test_old_names_of_norms_are_known(write, same_weights, tmp_path):
    model, *_ = write("bert", tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = tensors(tmp_path)
    for new, name in old.items():
        weights = {key.replace(new, name): tensor for key, tensor in weights.items()}
    save(weights, tmp_path)
    assert same_weights(read_huggingface(tmp_path).weights, model)


def test_weights_without_a_use_are_listed_and_missing_ones_named(gpt2):
    _, folder = gpt2
    weights = tensors(folder)
    save({**weights, "score.weight": torch.zeros(2, 16)}, folder)
    assert read_huggingface(folder).left_out == ["score.weight"]
    del weights["transformer.h.1.ln_1.bias"]
    save(weights, folder)
    with pytest.raises(NlpcliError, match=r"the weight 'transformer\.h\.1\.ln_1\.bias' is missing"):
        read_huggingface(folder)
    (folder / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(NlpcliError, match=r"model\.safetensors: the weights can't be read"):
        read_huggingface(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(NlpcliError, match="no weights"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bertt"}, "the model type 'bertt' is not supported"),
        ({"model_type": None}, "the key 'model_type' is missing"),
        ({"model_type": ["x"]}, "the model type .* is not supported"),
        ({"nlpcli": 5}, "the value of 'nlpcli' was not written by nlpcli"),
        ({"nlpcli": {"model": 5}}, "the value of 'nlpcli' was not written by nlpcli"),
        ({"nlpcli": {"info": ["x"]}}, "the value of 'nlpcli' was not written by nlpcli"),
        ({"nlpcli": {"info": {"task": 5}}}, "the task in 'nlpcli' is not a name"),
        ({"nlpcli": {"model": {"kidn": "encoder"}}}, r"config\.json: nlpcli\.model: unknown key 'kidn'"),
        ({"activation_function": ["x"]}, r"this GPT-2 model is not supported, because its activation is \['x'\]"),
        ({"n_embd": ["x"]}, "config.json"),
        ({"activation_function": "mish"}, "this GPT-2 model is not supported, because its activation is 'mish'"),
        ({"scale_attn_weights": False}, "scale_attn_weights false is not supported for GPT-2"),
        ({"n_embd": 17}, "d_model 17 can't be split into 2 heads"),
        ({"n_head": True}, r"config\.json: heads must be a whole number \(got true\)"),
    ],
)
def test_a_config_that_is_not_known_is_named(gpt2, change, message):
    _, folder = gpt2
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | change))
    with pytest.raises(NlpcliError, match=message):
        read_huggingface(folder)


@pytest.mark.parametrize("change", [{"model_type": ["x"]}, {"nlpcli": 5}, {"nlpcli": {"info": "x"}}])
def test_the_task_of_a_folder_is_read_with_the_same_care(gpt2, change):
    _, folder = gpt2
    assert read_description(folder)["task"] == "language-model"
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | change))
    with pytest.raises(NlpcliError):
        read_description(folder)


@pytest.mark.parametrize("listed", [["model.safetensors"], {"x": 5}, None, "x"])
def test_an_index_that_is_no_list_of_files_is_refused(gpt2, listed):
    _, folder = gpt2
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(NlpcliError, match=r"index\.json: 'weight_map' does not name the file of each weight"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    "name", ["bert", "t5", "xlnet", "electra", "mpnet", "modernbert", "llama-yarn", "mistral", "qwen3-windows", "neox"]
)
def test_no_setting_of_the_wrong_kind_is_an_internal_error(write, tmp_path, name):
    write(name, tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    del described["nlpcli"]
    for key in described:
        for value in (["x"], "x", {}):
            (tmp_path / "config.json").write_text(json.dumps({**described, key: value}))
            with contextlib.suppress(NlpcliError):
                read_huggingface(tmp_path)


def test_a_tokenizer_larger_than_the_model_is_refused(gpt2, tokenizer_folders):
    _, folder = gpt2
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folders["gpt2"] / name, folder / name)
    with pytest.raises(NlpcliError, match="the tokenizer has 420 tokens, but the model has only 300"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("bert", "BertModel"),
        ("roberta", "RobertaModel"),
        ("gpt2", "GPT2Model"),
        ("gpt", "OpenAIGPTModel"),
        ("bart", "BartModel"),
        ("pegasus", "PegasusModel"),
        ("t5", "T5Model"),
        ("xlnet", "XLNetModel"),
    ],
)
def test_models_saved_without_heads_can_be_read(write, tokenizer, tmp_path, name, base):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    model, *_ = write(name, first)
    getattr(transformers, base).from_pretrained(first).save_pretrained(second)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(first / file, second / file)
    found = read_huggingface(second)
    weights = unshared(model.state_dict())
    # RoBERTa's first position stands behind the padding id, which is 0 here: one row less is free
    moved = {"output_bias", "encoder_embedding.positions.weight"} if name == "roberta" else {"output_bias"}
    assert all(torch.equal(found.weights[key], weights[key]) for key in found.weights.keys() & weights.keys() - moved)
    load_weights(build_model(found.config, tokenizer.vocab_size), found.weights, "here")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "nested", ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000], ids=["lists", "objects"]
)
def test_a_description_that_is_nested_too_deeply_is_called_so(gpt2, name, nested):
    _, folder = gpt2
    (folder / name).write_text(f'{{"a": {nested}}}' if name != "tokenizer.json" else f'{{"model": {nested}}}')
    with pytest.raises(NlpcliError, match="nested too deeply") as caught:
        read_huggingface(folder)
    assert "recursion" not in caught.value.message and len(caught.value.message) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are a matter of POSIX")
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["a pipe", "a device"])
def test_weights_that_would_be_read_forever_are_refused(gpt2, make):
    _, folder = gpt2
    (folder / "model.safetensors").unlink()
    make(folder / "model.safetensors")
    for read in (
        read_huggingface,
        lambda path: read_tensors(path / "model.safetensors"),
        lambda path: stored_shapes(path / "model.safetensors"),
        lambda path: header(path / "model.safetensors"),
        lambda path: sha256_file(path / "model.safetensors"),
    ):
        with pytest.raises(NlpcliError, match="this is a pipe or a device, but a regular file is needed here"):
            read(folder)


@pytest.mark.parametrize("value", ["x", [], {"a": 1}, None])
def test_a_setting_of_the_wrong_type_is_refused_without_the_words_of_python(gpt2, value):
    _, folder = gpt2
    described = json.loads((folder / "config.json").read_text())
    for key in ("n_embd", "n_head", "n_layer", "n_positions", "n_inner", "layer_norm_epsilon", "activation_function"):
        (folder / "config.json").write_text(json.dumps(described | {key: value}))
        try:
            read_huggingface(folder)
        except NlpcliError as error:
            assert not re.search("operand|object|NoneType|argument", error.message), error.message


@pytest.mark.parametrize("id_", [10**9, 2**24, -1, "x", 1.5])
def test_an_id_that_no_vocabulary_has_is_refused_before_it_takes_memory(gpt2, id_):
    _, folder = gpt2
    content = {"model": {"type": "BPE", "vocab": {"a": 0, "b": id_}, "merges": []}, "added_tokens": []}
    content |= dict.fromkeys(("normalizer", "pre_tokenizer", "decoder"))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(NlpcliError, match="is not possible as the id of a token"):
        read_huggingface(folder)
