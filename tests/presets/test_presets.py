"""Presets are data: each loads, holds what its source says, and can be built."""

from __future__ import annotations

import pytest
import torch

from nlpcli import presets
from nlpcli.config.loading import load_yaml, parse
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model

BASE = {
    "kind": "encoder-decoder",
    "encoder_layers": 6,
    "decoder_layers": 6,
    "d_model": 512,
    "d_ff": 2048,
    "heads": 8,
    "dropout": 0.1,
    "norm": "layernorm",
    "norm_position": "post",
    "activation": "relu",
    "positions": "sinusoidal",
    "tie": "all",
    "scale_embeddings": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "output_bias": False,
}
# Vaswani et al. 2017, sections 5.1 to 5.4 and 6.1
BASE_TRAINING = {
    "max_steps": 100_000,
    "batch_tokens": 25_000,
    "optimizer": "adamw",
    "beta1": 0.9,
    "beta2": 0.98,
    "eps": 1e-9,
    "schedule": "noam",
    "lr": 1.0,
    "warmup_steps": 4000,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "label_smoothing": 0.1,
    "average_last": 5,
}
DECODING = {"beam_size": 4, "length_penalty": 0.6}
# Table 3: what differs from base
ROWS = {
    "transformer-base": {},
    "transformer-base-a1": {"heads": 1, "d_key": 512, "d_value": 512},
    "transformer-base-a4": {"heads": 4, "d_key": 128, "d_value": 128},
    "transformer-base-a16": {"heads": 16, "d_key": 32, "d_value": 32},
    "transformer-base-a32": {"heads": 32, "d_key": 16, "d_value": 16},
    "transformer-base-b16": {"d_key": 16, "d_value": 64},
    "transformer-base-b32": {"d_key": 32, "d_value": 64},
    "transformer-base-c-layers2": {"encoder_layers": 2, "decoder_layers": 2},
    "transformer-base-c-layers4": {"encoder_layers": 4, "decoder_layers": 4},
    "transformer-base-c-layers8": {"encoder_layers": 8, "decoder_layers": 8},
    "transformer-base-c-model256": {"d_model": 256, "d_key": 32, "d_value": 32},
    "transformer-base-c-model1024": {"d_model": 1024, "d_key": 128, "d_value": 128},
    "transformer-base-c-ff1024": {"d_ff": 1024},
    "transformer-base-c-ff4096": {"d_ff": 4096},
    "transformer-base-d-dropout0": {"dropout": 0.0},
    "transformer-base-d-dropout2": {"dropout": 0.2},
    "transformer-base-d-smoothing0": {"label_smoothing": 0.0},
    "transformer-base-d-smoothing2": {"label_smoothing": 0.2},
    "transformer-base-e-learned": {"positions": "learned"},
    "transformer-big": {
        "d_model": 1024,
        "d_ff": 4096,
        "heads": 16,
        "dropout": 0.3,
        "max_steps": 300_000,
        "average_last": 20,
    },
}


def resolved(name):
    return parse(RunConfig, presets.load(name), name)


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_a_configuration_with_its_source_and_can_be_built(name):
    config = resolved(name)
    assert config.description
    assert config.source
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer.vocab_size)
    assert all(weight.is_meta for weight in model.parameters())


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_says_itself_what_it_is(name):
    path = presets._FOLDER / f"{name}.yaml"
    own = load_yaml(path)
    assert {"description", "source"} <= own.keys()
    family = resolved(name).model.model_dump(include={"family", "kind"})
    own["model"] = {**family, **own.get("model", {})}
    assert RunConfig.model_validate({key: value for key, value in own.items() if key != "extends"})


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_rows_hold_the_papers_values(name):
    config, row = resolved(name), ROWS[name]
    model, training, decoding = (part.model_dump() for part in (config.model, config.training, config.decoding))
    expected = BASE | {key: value for key, value in row.items() if key in model}
    assert {key: model[key] for key in expected} == expected
    expected = BASE_TRAINING | {key: value for key, value in row.items() if key in training}
    assert {key: training[key] for key in expected} == expected
    assert {key: decoding[key] for key in DECODING} == DECODING
    assert (config.tokenizer.type, config.tokenizer.vocab_size) == ("bpe", 37_000)
    assert "Vaswani et al. 2017" in config.source
    width = model["d_model"] // model["heads"]
    if "d_key" not in row:
        assert (model["d_key"] or width, model["d_value"] or width) == (64, 64)


def test_no_row_is_missing_and_none_is_made_up():
    assert {name for name in presets.names() if name.startswith("transformer-b")} == set(ROWS)


def test_tiny_has_the_published_shape():
    model = resolved("transformer-tiny").model
    assert (model.encoder_layers, model.decoder_layers, model.d_model, model.d_ff, model.heads) == (4, 4, 128, 256, 4)
    assert (model.tie, model.dropout) == ("all", 0.3)


@pytest.mark.parametrize(
    ("name", "near"),
    [("transformer-bse", "transformer-base"), ("gptmini", "gpt-mini"), ("transformer_tiny", "transformer-tiny")],
)
def test_an_unknown_preset_is_answered_with_the_nearest(name, near):
    with pytest.raises(NlpcliError, match=f"unknown preset '{name}'") as caught:
        presets.load(name)
    assert caught.value.hint == f"did you mean '{near}'?"


def test_a_name_like_no_other_is_answered_with_all_of_them():
    with pytest.raises(NlpcliError) as caught:
        presets.load("zzz")
    assert all(name in caught.value.hint for name in presets.names())


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_a_file_may_extend_a_preset_and_wins_where_it_speaks(tmp_path):
    write(tmp_path, own="extends: transformer-big\nmodel: {d_ff: 77}\ntask: translation\n")
    own, big = presets.load(tmp_path / "own.yaml"), presets.load("transformer-big")
    assert own["model"] == big["model"] | {"d_ff": 77}
    assert own["training"] == big["training"]
    assert own["task"] == "translation"
    assert "extends" not in own


def test_a_file_may_extend_a_file_beside_it_wherever_the_command_is_run(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    write(tmp_path, base="extends: transformer-tiny\nmodel: {heads: 2}\n")
    write(tmp_path / "deep", own="extends: ../base.yaml\nmodel: {d_ff: 77}\n")
    monkeypatch.chdir("/")
    model = presets.load(tmp_path / "deep" / "own.yaml")["model"]
    assert (model["heads"], model["d_ff"], model["d_model"]) == (2, 77, 128)


def test_loading_twice_gives_two_independent_copies():
    presets.load("transformer-base")["model"]["d_model"] = 1
    assert presets.load("transformer-base")["model"]["d_model"] == 512


@pytest.mark.parametrize(
    "files",
    [
        {"a": "extends: a.yaml\n"},
        {"a": "extends: ./a.yaml\n"},
        {"a": "extends: b.yaml\n", "b": "extends: c.yaml\n", "c": "extends: a.yaml\n"},
        {"a": "extends: b.yaml\n", "b": "extends: ./b.yaml\n"},
    ],
)
def test_a_circle_is_refused_and_shown(tmp_path, files):
    write(tmp_path, **files)
    with pytest.raises(NlpcliError, match=r"extends itself \(.*a\.yaml -> .*\.yaml\)"):
        presets.load(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: transformer-bse\n", "unknown preset 'transformer-bse'"),
        ("extends: absent.yaml\n", r"absent\.yaml: no such file"),
        ("extends: [a, b]\n", "'extends' must be the name of a preset"),
        ("extends: transformer-base\nmodel: {d_model: {x: 1}}\n", r"a\.yaml: 'd_model' is a single value"),
    ],
)
def test_a_wrong_base_is_named(tmp_path, text, words):
    write(tmp_path, a=text)
    with pytest.raises(NlpcliError, match=words):
        presets.load(tmp_path / "a.yaml")
    with pytest.raises(NlpcliError, match=r"absent\.yaml: no such file"):
        presets.load(tmp_path / "absent.yaml")


def test_a_preset_wins_over_a_file_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt-mini").write_text("task: translation\n")
    assert "task" not in presets.load("gpt-mini")


def test_listing_the_names_imports_nothing_heavy(environment):
    import subprocess
    import sys

    probe = "import sys; from nlpcli import presets; presets.names(); assert not {'torch', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], env=environment, check=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("runs/germna", "did you mean '{}/runs/german'?"), ("other/x", "the folder {}/other does not exist"),
     ("runs/x", "'nlpcli config list' lists the presets")],
)  # fmt: skip
def test_a_path_that_is_not_there_is_no_unknown_preset(name, hint, tmp_path):
    (tmp_path / "runs" / "german").mkdir(parents=True)
    with pytest.raises(NlpcliError, match=r"no such file or folder") as caught:
        presets.load(tmp_path / name)
    assert caught.value.hint == hint.format(tmp_path)
