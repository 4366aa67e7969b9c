"""Every objective from text to a model directory, and seen without training."""

from __future__ import annotations

import random
import shlex
from dataclasses import replace

import pytest
import torch

from nlpcli import presets
from nlpcli.commands.convert import Conversion, convert
from nlpcli.config.loading import load_yaml
from nlpcli.config.model_settings import DEFAULT, FAMILIES
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import load_model
from nlpcli.runs.pretraining import OBJECTIVES, default_preset, parse, spec_of
from nlpcli.runs.pretraining import pretrain as recipe
from nlpcli.runs.resolve_settings import check_same_task
from nlpcli.runs.training_request import Request

TINY = {
    "model": {"d_model": 16, "d_ff": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64},
    "tokenizer": {"vocab_size": 400},
    "training": {"batch_tokens": 128, "lr": 0.01, "schedule": "constant", "warmup_steps": 0, "evaluate_every": 2,
                 "precision": "float32", "device": "cpu"},
}  # fmt: skip
# objective, preset, further settings, and a measure it must give
RUNS = {
    "clm": ("clm", "gpt-mini", {}, "perplexity"),
    "clm, documents apart": ("clm", "gpt-mini", {"data": {"document_mask": True}}, "perplexity"),
    "clm with memory": ("clm", "transformer-xl-nano", {"model": {"memory_length": 8}}, "perplexity"),
    "mlm": ("mlm", "roberta-nano", {}, "mlm_accuracy"),
    "mlm of the modern kind": ("mlm", "modern-encoder", {}, "mlm_accuracy"),
    "mlm of spans, fixed": ("mlm", "bert-nano", {"noise": {"unit": "span", "dupe_factor": 2}}, "mlm_accuracy"),
    "mlm+nsp": ("mlm=1+nsp=0.5", "bert-nano", {}, "nsp_accuracy"),
    "mlm+sop": ("mlm+sop", "bert-nano", {}, "sop_accuracy"),
    "nsp": ("nsp", "bert-nano", {}, "nsp_accuracy"),
    "denoise": ("denoise", "bart-nano", {}, "accuracy"),
    "denoise spans": ("denoise", "t5-nano", {"tokenizer": {"sentinels": 20}}, "accuracy"),
    "gap-sentences": ("gap-sentences", "pegasus-nano", {}, "accuracy"),
    "gap-sentences+mlm": ("gap-sentences+mlm=0.5", "pegasus-nano", {}, "mlm_accuracy"),
    "plm": ("plm", "xlnet-nano", {"model": {"memory_length": 8}}, "accuracy"),
}


class Quiet:
    """A listener that records its messages."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sixty documents of some sentences each, one sentence a line, a blank line between documents."""
    chance = random.Random(1)
    words = ["the", "cat", "dog", "sees", "a", "red", "house", "and", "runs", "home", "over", "green", "hills", "where"]
    documents = [
        "\n".join(" ".join(chance.choices(words, k=chance.randint(4, 9))).capitalize() + "." for _ in range(6))
        for _ in range(60)
    ]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("NLPCLI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def request(name, text, out, *, max_steps, **more):
    objective, preset, changes, _ = RUNS[name]
    settings = {"objective": objective, "data": {"train": [str(text)], "documents": "paragraphs", "context": 32}}
    for part in (TINY, changes, {"training": {"max_steps": max_steps, "max_epochs": None}}):
        for section, values in part.items():
            settings[section] = {**settings.get(section, {}), **values}
    family = presets.load(preset or "gpt-mini")["model"].get("family", DEFAULT)
    for setting in ("encoder_layers", "decoder_layers"):
        if setting not in FAMILIES.load(family).model_fields:
            del settings["model"][setting]
    if more.get("resume"):
        settings = {"training": {"max_steps": max_steps}}
        preset = None
    return Request(default=preset or "gpt-mini", preset=preset, settings=settings, out=out, command="nlpcli", **more)


@pytest.mark.parametrize("name", RUNS)
def test_an_objective_leaves_a_model_with_its_measures(name, text, tmp_path):
    run, outcome = recipe.pretrain(request(name, text, tmp_path / "run", max_steps=2), Quiet())
    assert run == tmp_path / "run" and RUNS[name][3] in outcome.metrics
    load_model(run)
    assert load_yaml(run / "config.yaml")["objective"] == RUNS[name][0]


@pytest.mark.parametrize("name", ["clm, documents apart", "mlm of spans, fixed", "mlm of the modern kind"])
def test_a_setting_that_is_no_objectives_usual_one_is_resumed_with_too(name, text, tmp_path):
    """As `tests/contract/test_resume.py` has it of the usual ones; but the limit changes."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    recipe.pretrain(request(name, text, whole, max_steps=4), Quiet())
    recipe.pretrain(request(name, text, parts, max_steps=2), Quiet())
    recipe.pretrain(request(name, text, parts, max_steps=4, resume=True), Quiet())
    one, other = (load_model(path).model.state_dict() for path in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", RUNS)
def test_every_objective_can_be_looked_at_without_training(name, text, tmp_path):
    shown = list(recipe.show(request(name, text, tmp_path / "run", max_steps=1), 3, Quiet()))
    assert len(shown) == 3
    for sample in shown:
        assert {"original", "corrupted"} < set(sample)
        assert ("label" in sample) == ("nsp" in name or "sop" in name)
        assert ("target" in sample) == (name != "nsp")
        assert all("\n" not in stretch for part in sample.values() for stretch, _ in part)
    assert not (tmp_path / "run").exists()


def test_a_model_gets_the_heads_its_objective_trains_and_no_others(text, tmp_path):
    for name, heads in {"mlm": (True, False, False), "nsp": (False, True, True), "mlm+nsp": (True, True, True)}.items():
        run, _ = recipe.pretrain(request(name, text, tmp_path / name, max_steps=1), Quiet())
        model = load_model(run).config
        assert (model.mlm_head, model.pooler, model.pair_head) == heads


def test_a_sum_is_read_with_its_weights():
    assert parse("mlm") == {"mlm": 1.0}
    assert parse("mlm=1 + nsp=0.5") == {"mlm": 1.0, "nsp": 0.5}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mlm+mln", "mln"),
        ("mlm=-1", "-1"),
        ("mlm=x", "'x'"),
        ("mlm=nan", "nan"),
        ("mlm+mlm", "names mlm twice"),
        ("", "''"),
    ],
)
def test_a_wrong_sum_is_refused_with_what_is_wrong_in_it(text, word):
    with pytest.raises(NlpcliError, match=word):
        parse(text)


def test_objectives_that_read_different_inputs_cannot_be_summed():
    with pytest.raises(NlpcliError, match="different inputs"):
        spec_of("mlm+clm")
    assert spec_of("mlm+gap-sentences") is OBJECTIVES.load("gap-sentences")
    assert spec_of("nsp+mlm").prepare is OBJECTIVES.load("nsp").prepare is OBJECTIVES.load("mlm").prepare


def test_each_objective_is_tried_with_a_model_that_can_learn_it(text, tmp_path):
    assert default_preset("mlm=1+nsp=1") == "bert-nano"
    assert default_preset("denoise", "spans:0.2") == "t5-nano"
    assert default_preset("denoise", "infill") == "bart-nano"
    for objective in OBJECTIVES:
        training_request = Request(
            default="gpt-mini", preset=default_preset(objective), settings={"objective": objective}
        )
        recipe.configured(training_request)


def test_a_model_of_the_wrong_kind_is_refused_before_the_text_is_read(tmp_path):
    settings = {"objective": "mlm", "data": {"train": [str(tmp_path / "missing.txt")]}}
    with pytest.raises(NlpcliError, match="mlm needs an encoder, but this model is a decoder"):
        recipe.pretrain(Request(default="gpt-mini", preset="gpt-mini", settings=settings), Quiet())


def resumed(name, text, run, settings):
    training_request = request(name, text, run, max_steps=4, resume=True)
    return recipe.pretrain(replace(training_request, settings={**training_request.settings, **settings}), Quiet())


@pytest.mark.parametrize(
    ("settings", "key", "old", "new"),
    [
        ({"objective": "mlm"}, "objective", "mlm=1+nsp=0.5", "mlm"),
        ({"noise": {"rate": 0.3}}, "noise.rate", "0.15", "0.3"),
        ({"noise": {"dupe_factor": 3}}, "noise.dupe_factor", "10", "3"),
        ({"data": {"format": "sentence-pair"}}, "data.format", "segment-pair", "sentence-pair"),
        ({"data": {"sentences": "lines"}}, "data.sentences", "auto", "lines"),
        ({"data": {"documents": "lines"}}, "data.documents", "paragraphs", "lines"),
        ({"data": {"context": 16}}, "data.context", "32", "16"),
    ],
)
def test_a_resumed_run_keeps_its_task_and_refusing_another_changes_nothing(started, text, settings, key, old, new):
    before = (started / "config.yaml").read_bytes()
    with pytest.raises(NlpcliError) as refused:
        resumed("mlm+nsp", text, started, settings)
    assert str(refused.value) == f"{key} of a resumed run can't be changed from {old} to {new}"
    assert "another --out" in refused.value.hint
    assert (started / "config.yaml").read_bytes() == before


@pytest.fixture(scope="module")
def started(text, tmp_path_factory):
    """Two steps of mlm+nsp."""
    return recipe.pretrain(request("mlm+nsp", text, tmp_path_factory.mktemp("started") / "run", max_steps=2), Quiet())[
        0
    ]


def test_every_setting_of_the_noise_is_kept_by_a_resumed_run():
    base, others = RunConfig(), {"predict_one_of": 2, "gap_strategy": "lead", "kinds": "rotate", "unit": "word"}
    for key, value in others.items():
        changed = base.model_copy(update={"noise": base.noise.model_copy(update={key: value})})
        with pytest.raises(NlpcliError, match=f"noise.{key} of a resumed run"):
            check_same_task(base, changed)


def test_where_the_text_of_a_resumed_run_stands_may_change(text, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    run, _ = recipe.pretrain(request("mlm", text, tmp_path / "run", max_steps=2), Quiet())
    resumed("mlm", text, run, {"data": {"train": [str(copy)], "workers": 1}})
    assert load_yaml(run / "config.yaml")["data"]["train"] == [str(copy)]


SETTINGS = [
    ("mlm", ("noise.kinds=spans", "data.document_mask=true"), "noise.kinds, data.document_mask"),
    ("mlm", ("noise.rate=0.3", "noise.unit=span", "noise.span_p=0.4", "noise.dupe_factor=2", "data.sentences=split"),
     ""),
    ("mlm", ("noise.span_max=3",), "noise.span_max"),
    ("nsp", ("noise.rate=0.3", "noise.dupe_factor=2", "data.eval_stride=16"), "noise.rate, data.eval_stride"),
    ("denoise", ("noise.dupe_factor=2", "noise.rate=0.3", "noise.gap_ratio=0.5", "data.format=doc-sentences"),
     "noise.rate, noise.dupe_factor, noise.gap_ratio, data.format"),
    ("denoise", ("noise.kinds=rotate", "data.sentences=split"),
     ""),
    ("denoise", ("noise.kinds=gap-sentences:0.3:1", "noise.gap_strategy=lead"), ""),
    ("gap-sentences", ("noise.gap_ratio=0.5", "noise.rate=0.3"), "noise.rate"),
    ("gap-sentences+mlm", ("noise.gap_ratio=0.5", "noise.rate=0.3", "noise.unit=word"), "noise.unit"),
    ("plm", ("noise.dupe_factor=2", "noise.rate=0.3", "noise.predict_one_of=3"), "noise.rate, noise.dupe_factor"),
    ("clm", ("data.eval_stride=16", "noise.dupe_factor=2", "data.sentences=lines"),
     "noise.dupe_factor, data.sentences"),
    ("clm, documents apart", (), ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "overrides", "unread"), SETTINGS)
def test_settings_that_mean_nothing_to_the_objective_are_reported(name, overrides, unread, text, tmp_path):
    listener, training_request = Quiet(), replace(request(name, text, tmp_path, max_steps=1), overrides=overrides)
    config, weights = recipe.configured(training_request)
    recipe.warn_unread_settings(config, weights, listener)
    assert listener.notes == ([f"these settings have no effect on this run: {unread}"] if unread else [])


@pytest.mark.parametrize(("warmup", "minutes", "warned"), [(5000, 0.01, True), (1, 10, False), (5000, None, False)])
def test_a_run_whose_time_is_up_within_the_warm_up_says_so(warmup, minutes, warned, text, tmp_path):
    limits = (f"training.warmup_steps={warmup}", f"training.max_minutes={'null' if minutes is None else minutes}")
    listener = Quiet()
    recipe.pretrain(request("clm", text, tmp_path / "run", max_steps=2, overrides=limits), listener)
    warnings = [note for note in listener.notes if "before the learning rate reached its peak" in note]
    assert [note.startswith("warning: training ended at step ") for note in warnings] == [True] * warned


def test_no_preset_of_an_objective_has_settings_that_mean_nothing_to_it():
    for objective in OBJECTIVES:
        listener = Quiet()
        training_request = Request(
            default="gpt-mini", preset=default_preset(objective), settings={"objective": objective}
        )
        recipe.warn_unread_settings(*recipe.configured(training_request), listener)
        assert listener.notes == []


@pytest.mark.parametrize("name", ["mlm", "denoise", "mlm of the modern kind", "clm with memory"])
def test_what_a_finished_run_is_said_to_be_good_for_is_possible(name, text, tmp_path):
    run, _ = recipe.pretrain(request(name, text, tmp_path / "run", max_steps=1), Quiet())
    command = shlex.split(recipe.use_of(run))
    exchange = Conversion(run, tmp_path / "theirs", "huggingface")
    if command[1] == "convert":
        assert command[2:] == ["--to", "huggingface", str(run), "DIR"] and convert(exchange).form == "huggingface"
        return
    with pytest.raises(NlpcliError):
        convert(exchange)
    assert command[1] == ("generate" if "clm" in name else "embed") and str(run) in command
