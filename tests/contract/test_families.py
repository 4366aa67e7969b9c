"""A family of models enters with one file and one line, and everything that the program does with models works."""

from __future__ import annotations

import json

import numpy as np
import pytest
from model_settings import of_family

import nlpcli
from nlpcli.cli.main import main
from nlpcli.config.model_settings import FAMILIES
from nlpcli.models.build import build_model
from nlpcli.models.layer_groups import depth_groups, layer_scales

SIZES = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2, "max_length": 64}
TRIAL = {"model.family": "trial", "model.d_model": 16, "training.max_epochs": None, "training.evaluate_every": 2}


@pytest.fixture(autouse=True)
def one_line_more(monkeypatch):
    monkeypatch.setitem(FAMILIES._entries, "trial", "trial_family:TrialConfig")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    words = ["eins zwei", "zwei drei vier", "drei", "vier eins zwei drei", "eins vier"]
    (folder / "a.de").write_text("\n".join(words * 12) + "\n")
    (folder / "a.en").write_text("\n".join(reversed(words * 12)) + "\n")
    return [folder / "a.de", folder / "a.en"]


@pytest.fixture(scope="module")
def translator(tmp_path_factory, pairs):
    out = tmp_path_factory.mktemp("trial") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES._entries, "trial", "trial_family:TrialConfig")
        preset = out.parent / "trial.yaml"
        preset.write_text(
            "task: translation\nmodel: {family: trial, d_model: 16}\ntokenizer: {type: words, vocab_size: 20}\n"
        )
        nlpcli.finetune(
            "translation",
            train=pairs,
            dev=pairs,
            config=preset,
            out=out,
            max_steps=4,
            settings=dict(list(TRIAL.items())[2:]),
        )
    return out


@pytest.fixture
def run(capsys):
    """run(*arguments) -> what a command writes to standard output."""

    def ran(*arguments):
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return ran


def test_it_trains_and_translates(translator):
    steps = [json.loads(line) for line in (translator / "metrics.jsonl").read_text().splitlines()]
    losses = [step["loss"] for step in steps if step["kind"] == "dev"]
    assert losses[-1] < losses[0], steps
    for size in (1, 4):
        [found] = nlpcli.load(translator).translate(["eins zwei"], beam_size=size, n_best=1, alignments=size == 4)
        assert set(found.text.split()) <= {"eins", "zwei", "drei", "vier"} and found.logprob < 0


def test_it_is_drawn(translator, run):
    options = ("--model", translator, "eins zwei", "--target", "drei vier")
    drawn = json.loads(run("visualize-attention", *options, "--json"))
    [site] = drawn["sites"]
    weights = np.array(site["weights"])
    assert site["name"] == "cross" and weights.shape == (1, 1, 3, 3)  # layers, heads, tokens with the end of both sides
    assert weights.sum(-1) == pytest.approx(1.0, abs=1e-4)
    assert "drei" in run("visualize-attention", *options)


def test_it_is_inspected(translator, run):
    facts = json.loads(run("inspect", translator, "--length", "16", "--json"))["model"]
    assert facts["family"] == "trial" and facts["layers"] == {"encoder": 1, "decoder": 1}
    assert sum(facts["parameters"]["by_part"].values()) == facts["parameters"]["total"]
    assert "encoder_layers" in facts["parameters"]["by_part"] and "other" not in facts["parameters"]["by_part"]
    assert facts["flops_per_token"]["decoding"] > facts["flops_per_token"]["forward"] > 0
    assert "layers" in run("inspect", translator, "--length", "16")


def test_it_gives_vectors(translator):
    vectors = nlpcli.load(translator).embed(["eins zwei", "drei", "eins zwei"])
    assert vectors.shape == (3, 16) and (vectors[0] == vectors[2]).all() and (vectors[0] != vectors[1]).any()


def test_it_classifies_with_rates_that_fall_by_layer(translator, tmp_path):
    data = tmp_path / "train.tsv"
    data.write_text("text\tlabel\n" + "eins zwei\ta\ndrei vier\tb\n" * 12)
    settings = {"tuning.layer_decay": 0.5, "training.lr": 0.01}
    run = nlpcli.finetune(
        "classify", model=translator, train=data, dev=data, out=tmp_path / "run", max_steps=20, settings=settings
    )
    assert run.metrics["accuracy"] > 90
    assert [found.answer for found in nlpcli.load(tmp_path / "run").predict(["eins zwei", "drei vier"])] == ["a", "b"]


@pytest.mark.parametrize("family", [*FAMILIES, "trial"])
def test_rates_of_learning_fall_by_layer_in_every_family(family):
    model = build_model(of_family({**SIZES, "family": family}), 30)
    groups = depth_groups(model)
    named = [parameter for group in groups for parameter in group.parameters]
    assert len({id(p) for p in named}) == len(named) and {id(p) for p in named} == {id(p) for p in model.parameters()}
    assert len([group for group in groups if "." in group.name]) >= sum(
        of_family({**SIZES, "family": family}).stacks.values()
    )
    scales = layer_scales(model, 0.5)
    assert max(scales.values()) == 1.0 and len(set(scales.values())) == len(groups)
