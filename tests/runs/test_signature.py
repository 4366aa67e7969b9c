"""The signature of a model: the same for the same training, another one for every change, and verified from files."""

from __future__ import annotations

import shutil

import pytest

from nlpcli.cli.main import main
from nlpcli.commands.inspect import inspect
from nlpcli.config.loading import dump_yaml, load_yaml
from nlpcli.errors import NlpcliError
from nlpcli.models.context_extension import with_length_and_attention
from nlpcli.models.model_folder import read_info
from nlpcli.runs.open_model import open_model
from nlpcli.runs.signature import signature
from nlpcli.runs.verify_signature import verify

TRAIN = "text\tlabel\nthe dog sleeps\tyes\na cat sits\tno\nthe man walks\tyes\na bird sings\tno\n"
SMALL = ["model.d_model=16", "model.d_ff=16", "model.heads=2", "model.encoder_layers=1", "tokenizer.vocab_size=60",
         "training.precision=float32", "training.threads=1", "training.evaluate_every=3"]  # fmt: skip


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains a classifier for three steps: train(name, *options) -> its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.tsv").write_text(TRAIN, encoding="utf-8")

    def run_it(name, *options):
        settings = [part for text in SMALL for part in ("--set", text)]
        files = ["--train", "train.tsv", "--dev", "train.tsv", "--max-steps", "3", "--out", name]
        status = main(["finetune", "--task", "classify", *files, *settings, *options])
        assert status == 0
        return tmp_path / name

    return run_it


def parts(folder):
    line = signature(read_info(folder), open_model(folder).config)
    return dict(part.split(":", 1) for part in line.split("|"))


def results(folder):
    return {part.name: part.result for part in verify(folder)}


def test_equal_training_gives_an_equal_signature_and_each_change_shows_in_its_part(train, tmp_path):
    first = parts(train("first"))
    assert list(first) == [
        "nlpcli", "model", "parameters", "tokenizer", "data", "init", "settings", "seed", "step", "precision", "torch",
        "weights",
    ]  # fmt: skip
    assert (first["seed"], first["step"], first["precision"], first["init"]) == ("1", "3", "float32", "none")

    def changed(folder):
        return {name for name, value in parts(folder).items() if value != first[name]}

    assert changed(train("again")) == set()
    assert changed(train("seed", "--seed", "2")) == {"seed", "settings", "weights"}
    assert changed(train("wide", "--set", "model.d_ff=32")) == {"model", "parameters", "weights"}
    assert "init" in changed(train("from", "--model", "first"))
    (tmp_path / "train.tsv").write_text(TRAIN.replace("cat", "fish"), encoding="utf-8")
    assert {"data", "weights"} <= changed(train("data"))


def test_a_signature_is_verified_from_the_files_of_a_run_and_its_data(train, tmp_path, capsys):
    run = train("run")
    assert set(results(run).values()) == {"equal"}
    assert main(["inspect", "--verify", str(run)]) == 0
    card = (run / "README.md").read_text(encoding="utf-8")
    assert f"\n    {signature(read_info(run), open_model(run).config)}\n" in card

    (tmp_path / "train.tsv").write_text(TRAIN.replace("cat", "fish"), encoding="utf-8")
    assert results(run) | {"data": ""} == dict.fromkeys(results(run), "equal") | {"data": ""}
    assert results(run)["data"] == "different"
    capsys.readouterr()
    assert main(["inspect", "--verify", str(run)]) == 1
    assert "the data of the signature is" in capsys.readouterr().out

    (tmp_path / "train.tsv").unlink()
    assert results(run)["data"] == "not checked"
    assert main(["inspect", "--verify", str(run)]) == 0


def test_a_setting_that_was_changed_afterwards_is_found(train):
    run = train("run")
    config = load_yaml(run / "config.yaml")
    config["training"]["lr"] = 0.5
    (run / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert results(run)["settings"] == "different"


@pytest.mark.parametrize("call", [["pretrain", "--objective", "clm"], ["pretrain", "--objective", "mlm"], ["finetune"]])
def test_the_signature_of_every_kind_of_training_is_verified(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the dog sleeps\na cat sits\nthe man walks\n" * 40, encoding="utf-8")
    shutil.copy(tmp_path / "a.txt", tmp_path / "b.txt")
    files = ["--train", "a.txt", "b.txt", "--dev", "a.txt", "b.txt"] if call == ["finetune"] else ["--data", "a.txt"]
    settings = ["model.d_model=16", "model.d_ff=16", "model.heads=2", "tokenizer.vocab_size=300", "data.context=16"]
    options = [part for text in settings[: 4 if call == ["finetune"] else 5] for part in ("--set", text)]
    assert main([*call, *files, *options, "--max-steps", "2", "--out", "run"]) == 0
    assert set(results(tmp_path / "run").values()) == {"equal"}


def test_a_model_with_other_attention_than_it_was_trained_with_has_no_signature(train):
    loaded = with_length_and_attention(open_model(train("run")), attention=["window:4"])
    assert signature(loaded.info, loaded.config) is None


def test_what_has_no_signature_is_reported(train):
    run = train("run")
    info = read_info(run)
    del info["trained"]
    (run / "model.yaml").write_text(dump_yaml(info), encoding="utf-8")
    assert inspect(str(run), as_kind="model").facts["signature"] is None
    with pytest.raises(NlpcliError, match="the model has no signature"):
        verify(run)
