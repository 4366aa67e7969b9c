"""A model on disk comes back to the bit, or with one sentence that says what is wrong."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from nlpcli.config.loading import dump_yaml, load_yaml
from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import (
    DESCRIPTION,
    SOURCE_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    load_model,
    load_weights,
    read_info,
    save_model,
    unshared,
)
from nlpcli.text import train_tokenizer

SHAPE = {"d_model": 8, "heads": 2, "d_ff": 12, "encoder_layers": 1, "decoder_layers": 1}
INFO = {"task": "translation", "languages": ["en", "de"], "step": 7}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", ["the quick brown fox"], byte_fallback=False)


@pytest.fixture(scope="module")
def other_tokenizer():
    return train_tokenizer("chars", ["jumps over the lazy dog"], byte_fallback=False)


def save(path, tokenizer, seed=1, source_tokenizer=None, **config):
    torch.manual_seed(seed)
    config = ModelConfig.model_validate(SHAPE | config)
    model = build_model(config, tokenizer.vocab_size)
    weights = model.state_dict()
    save_model(path, weights=weights, config=config, tokenizer=tokenizer, info=INFO, source_tokenizer=source_tokenizer)
    return model.eval()


@pytest.fixture
def saved(tmp_path, tokenizer):
    """A model directory and the model in it."""
    return tmp_path / "run", save(tmp_path / "run", tokenizer)


def assert_same(model, other):
    first, second = model.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie": "none", "output_bias": True, "positions": "learned", "max_length": 9},
        {"tie": "source-target", "norm_position": "pre", "norm": "rmsnorm", "qk_norm": True},
        {"tie": "target-output", "activation": "swiglu", "positions": "rotary", "attention_bias": True},
        {"kind": "decoder", "embedding_norm": True},
        {"kind": "encoder"},
    ],
    ids=str,
)
def test_a_model_comes_back_to_the_bit_with_all_its_information(tmp_path, tokenizer, config):
    model = save(tmp_path / "run", tokenizer, **config)
    loaded = load_model(tmp_path / "run")
    assert_same(model, loaded.model)
    assert not loaded.model.training
    assert loaded.config == ModelConfig.model_validate(SHAPE | config)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert {key: loaded.info[key] for key in INFO} == INFO
    assert read_info(tmp_path / "run") == loaded.info


@pytest.mark.parametrize(("tie", "matrices"), [("all", 1), ("source-target", 2), ("target-output", 2), ("none", 3)])
def test_a_tied_matrix_stands_in_the_file_once_and_is_one_again_when_loaded(tmp_path, tokenizer, tie, matrices):
    model = save(tmp_path / "run", tokenizer, tie=tie)
    with safe_open(tmp_path / "run" / WEIGHTS, "pt") as file:
        shapes = [tuple(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    assert shapes.count((tokenizer.vocab_size, 8)) == matrices
    loaded = load_model(tmp_path / "run").model
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
    assert (loaded.output_weight is loaded.decoder_embedding.tokens.weight) == (tie in ("all", "target-output"))


def test_what_a_model_computes_is_what_it_computed(saved):
    path, model = saved
    source, target = torch.tensor([[7, 8, 9]]), torch.tensor([[2, 8]])
    assert torch.equal(load_model(path).model(source, None, target), model(source, None, target))


def test_the_folder_holds_three_things_and_nothing_hidden(saved):
    path, _ = saved
    assert sorted(entry.name for entry in path.iterdir()) == sorted([DESCRIPTION, WEIGHTS, TOKENIZER])


def test_saving_again_replaces_the_weights(saved, tokenizer):
    path, first = saved
    second = save(path, tokenizer, seed=2)
    assert_same(load_model(path).model, second)
    assert not torch.equal(first.output_weight, second.output_weight)


def truncate(path):
    data = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(data[: len(data) // 2])


def flip_a_bit(path):
    data = bytearray((path / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (path / WEIGHTS).write_bytes(bytes(data))


def as_folder(path):
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).mkdir()


def change(key, value):
    def edit(path):
        described = yaml.safe_load((path / DESCRIPTION).read_text())
        described[key] = value
        (path / DESCRIPTION).write_text(yaml.safe_dump(described))

    return edit


def leave_out(key):
    def edit(path):
        described = yaml.safe_load((path / DESCRIPTION).read_text())
        del described[key]
        (path / DESCRIPTION).write_text(yaml.safe_dump(described))

    return edit


def write(name, data):
    return lambda path: (path / name).write_bytes(data)


def other_weights(content):
    """Weights with the right digest that are nevertheless not this model's."""

    def edit(path):
        import hashlib

        from safetensors.torch import save as to_bytes

        data = content if isinstance(content, bytes) else to_bytes(content(load_model(path).model.state_dict()))
        (path / WEIGHTS).write_bytes(data)
        change("sha256", hashlib.sha256(data).hexdigest())(path)

    return edit


def but(name, tensor=None):
    def content(weights):
        weights = dict(unshared(weights))
        if tensor is None:
            del weights[name]
        else:
            weights[name] = tensor
        return weights

    return content


BIAS = "encoder.layers.0.feed_forward.inner.bias"
DAMAGE = {
    "no folder": (shutil.rmtree, "the model folder does not exist"),
    "a file": (lambda path: (shutil.rmtree(path), path.write_text("x")), "is a file, not a model folder"),
    "no weights": (lambda path: (path / WEIGHTS).unlink(), "model.safetensors is missing"),
    "no description": (lambda path: (path / DESCRIPTION).unlink(), "the folder contains no finished model"),
    "no tokenizer": (lambda path: shutil.rmtree(path / TOKENIZER), "contains no tokenizer"),
    "half the weights": (truncate, "is damaged or was replaced"),
    "no byte of weights": (write(WEIGHTS, b""), "is damaged or was replaced"),
    "one bit": (flip_a_bit, "is damaged or was replaced"),
    "a folder of weights": (as_folder, "model.safetensors"),
    "no safetensors": (other_weights(b"something else"), "not a valid safetensors file"),
    "a weight too few": (other_weights(but(BIAS)), f"the weight '{BIAS}' is missing"),
    "a weight too many": (other_weights(but("surprise", torch.zeros(2))), "the weight 'surprise' is unexpected"),
    "a weight of no real numbers": (
        other_weights(but(BIAS, torch.zeros(12, dtype=torch.complex64))),
        f"the weight '{BIAS}' has the wrong type of numbers",
    ),
    "adapters of another model": (write("adapter_config.json", b"{}"), "adapters of another model"),
    "a weight of another shape": (other_weights(but(BIAS, torch.zeros(5))), f"the weight '{BIAS}' has the wrong shape"),
    "half of a description": (
        write(DESCRIPTION, b"task: translation\nmodel: {d_mod"),
        r"model.yaml:2: the file is not valid YAML",
    ),
    "an empty description": (write(DESCRIPTION, b""), "'task' is missing"),
    "a description that is a list": (
        write(DESCRIPTION, b"- 1\n"),
        "the file must contain lines of the form 'key: value'",
    ),
    "a description of bytes": (write(DESCRIPTION, b"task: \xff\xfe"), "not valid UTF-8"),
    **{f"no {key}": (leave_out(key), f"'{key}' is missing") for key in ("task", "model", "vocab_size", "sha256")},
    "a model that is a number": (change("model", 3), "model.yaml"),
    "a model that is nothing": (change("model", None), "model.yaml"),
    "a misspelt key": (change("model", {"d_modle": 8}), "unknown key 'd_modle'"),
    "an impossible shape": (change("model", {"d_model": 10, "heads": 4}), "can't be split into 4 heads"),
    "another shape": (change("model", SHAPE | {"d_ff": 13}), "ha(s|ve) the wrong shape"),
    "another vocabulary": (change("vocab_size", 10**15), "vocab_size"),
    "a vocabulary in words": (change("vocab_size", "many"), "vocab_size"),
    "a digest that is a number": (change("sha256", 5), "sha256 must be text"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_sentence(saved, damage):
    path, _ = saved
    harm, words = DAMAGE[damage]
    harm(path)
    with pytest.raises(NlpcliError, match=words) as caught:
        load_model(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message


def test_another_models_weights_are_refused_though_they_fit(saved, tmp_path, tokenizer):
    path, _ = saved
    save(tmp_path / "other", tokenizer, seed=2)
    shutil.copy(tmp_path / "other" / WEIGHTS, path / WEIGHTS)
    with pytest.raises(NlpcliError, match="is damaged or was replaced"):
        load_model(path)


def test_another_models_tokenizer_is_refused(saved, other_tokenizer):
    path, _ = saved
    shutil.rmtree(path / TOKENIZER)
    other_tokenizer.save(path / TOKENIZER)
    with pytest.raises(NlpcliError, match="the model was trained with another tokenizer"):
        load_model(path)


def test_a_model_is_not_written_beside_another_ones_tokenizer(saved, other_tokenizer):
    path, first = saved
    with pytest.raises(NlpcliError, match="another tokenizer"):
        save(path, other_tokenizer)
    assert_same(load_model(path).model, first)


@pytest.mark.parametrize("fails", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_model_whole_or_the_new_one(saved, tokenizer, monkeypatch, fails, error):
    path, old = saved
    calls = []

    def fsync(handle, plain=os.fsync):
        calls.append(handle)
        if len(calls) == fails:
            raise error
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunFailed if isinstance(error, OSError) else KeyboardInterrupt):
        save(path, tokenizer, seed=2)
    monkeypatch.undo()
    found = load_model(path).model
    if fails <= 2:  # not both files were ready
        assert_same(found, old)
    assert sorted(entry.name for entry in path.iterdir()) == sorted([DESCRIPTION, WEIGHTS, TOKENIZER])


def test_a_first_write_that_fails_leaves_no_model_to_be_mistaken_for_one(tmp_path, tokenizer, monkeypatch):
    tokenizer.save(tmp_path / "run" / TOKENIZER)

    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunFailed, match="no space is left"):
        save(tmp_path / "run", tokenizer)
    with pytest.raises(NlpcliError, match="the folder contains no finished model"):
        load_model(tmp_path / "run")


def test_weights_may_stand_under_either_name_of_a_tied_matrix(tokenizer):
    model, other = (build_model(SHAPE, tokenizer.vocab_size) for _ in range(2))
    load_weights(other, model.state_dict(), "here")
    assert_same(model, other)
    load_weights(model, unshared(other.state_dict()), "here")
    with pytest.raises(NlpcliError, match=r"^here: the weight '.*' and \d+ more are missing$"):
        load_weights(model, {"output_weight_owner.weight": model.output_weight}, "here")


def test_describing_a_model_imports_no_torch(saved, environment):
    import subprocess
    import sys

    path, _ = saved
    probe = (
        "import sys; from nlpcli.models.model_folder import read_info\n"
        f"assert read_info({str(path)!r})['task'] == 'translation'\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- a source encoder --------------------------------------------------------------------------------------------


@pytest.fixture
def with_source(tmp_path, tokenizer, other_tokenizer):
    """A model that reads sources with another tokenizer than it writes with, and its directory."""
    size = other_tokenizer.vocab_size
    path = tmp_path / "run"
    return path, save(path, tokenizer, source_tokenizer=other_tokenizer, source_layers=2, source_vocab_size=size)


def test_a_model_with_a_source_encoder_comes_back_with_both_tokenizers(with_source, tokenizer, other_tokenizer):
    path, model = with_source
    loaded = load_model(path)
    assert_same(model, loaded.model)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.source_tokenizer.fingerprint == other_tokenizer.fingerprint
    assert loaded.model.source_encoder.embedding.tokens.num_embeddings == other_tokenizer.vocab_size


def test_sources_are_read_with_no_tokenizer_but_their_own(with_source, tokenizer):
    path, _ = with_source
    shutil.rmtree(path / SOURCE_TOKENIZER)
    with pytest.raises(NlpcliError, match=f"{SOURCE_TOKENIZER} contains no tokenizer"):
        load_model(path)
    tokenizer.save(path / SOURCE_TOKENIZER)
    with pytest.raises(NlpcliError, match=f"{SOURCE_TOKENIZER}: the model was trained with another tokenizer"):
        load_model(path)


def test_the_tokenizer_of_sources_stays_for_good(with_source, tokenizer):
    path, _ = with_source
    with pytest.raises(NlpcliError, match=f"{SOURCE_TOKENIZER}: the folder already contains another tokenizer"):
        save(path, tokenizer, source_tokenizer=tokenizer, source_layers=2)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 60_000, "d_ff": 60_000},
        {"d_ff": 2**31 - 1, "d_model": 2**31 - 2},
        {"encoder_layers": 2000},
        {"decoder_layers": 10**9},
        {"heads": 2**30, "d_key": 2**30, "d_value": 2**30},
        {"positions": "learned", "max_length": 2**31 - 1},
        {"segments": 10**9},
        {"source_layers": 1, "source_vocab_size": 10**9},
        {"positions": "relative", "relative_buckets": 10**9},
        {"max_length": []},
        {"d_model": 10**30},
    ],
    ids=str,
)
def test_a_description_of_a_larger_model_than_the_file_holds_takes_no_memory(saved, change):
    path, _ = saved
    info = yaml.safe_load((path / DESCRIPTION).read_text())
    info["model"] |= change
    (path / DESCRIPTION).write_text(yaml.safe_dump(info))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
    try:
        with pytest.raises(NlpcliError) as caught:
            load_model(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert str(path) in caught.value.message and len(caught.value.message) < 600


@pytest.mark.parametrize("head", [{"kind": "text", "outputs": 10**12, "pooling": "first"}, {"kind": "x"}, {"a": 1}])
def test_a_head_that_the_file_does_not_hold_takes_no_memory(saved, head):
    path, _ = saved
    info = yaml.safe_load((path / DESCRIPTION).read_text()) | {"head": head}
    (path / DESCRIPTION).write_text(yaml.safe_dump(info))
    with pytest.raises(NlpcliError, match=r"model\.safetensors: "):
        load_model(path)


@pytest.mark.parametrize(
    ("key", "value"), [("max_length", []), ("metrics", [1]), ("step", -1), ("source_start", "x"), ("problem", 3)]
)
def test_values_of_another_kind_in_a_description_are_named(saved, key, value):
    path, _ = saved
    info = yaml.safe_load((path / DESCRIPTION).read_text()) | {key: value}
    (path / DESCRIPTION).write_text(yaml.safe_dump(info))
    with pytest.raises(NlpcliError, match=rf"model\.yaml: {key}"):
        read_info(path)


@pytest.mark.parametrize("stored", [None, 1, 2, "x"])
def test_a_folder_of_another_format_is_refused_with_a_sentence(saved, stored):
    path, _ = saved
    info = load_yaml(path / "model.yaml")
    info.pop("format") if stored is None else info.update(format=stored)
    (path / "model.yaml").write_text(dump_yaml(info))
    with pytest.raises(NlpcliError, match=rf"has format {stored or 1}, but this version of nlpcli reads format 3"):
        load_model(path)
