"""A graph in the ONNX format gives what PyTorch gives: for every family that has one, and every head and pooling."""

from __future__ import annotations

import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli import presets
from nlpcli.attention.kinds import KINDS
from nlpcli.config.model_settings import FAMILIES
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import read_info, save_model
from nlpcli.models.padded_batch import Row, stack
from nlpcli.runs.onnx.choose_engine import engine_of, open_for
from nlpcli.runs.open_model import open_model
from nlpcli.runs.task_model import columns_of, open_task
from nlpcli.tasks import TASKS
from nlpcli.text import train_tokenizer
from nlpcli.training.device import prepare

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

TINY = {"d_model": 16, "d_ff": 24, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
SHORT = {"max_length": 40}
OF_PRESET = ("bert-nano", "roberta-nano", "modern-encoder", "xlnet-nano", "t5-nano", "bart-nano", "gpt-mini")
SHAPES = {
    **{name: presets.load(name)["model"] | TINY for name in OF_PRESET},
    "electra": presets.load("bert-nano")["model"] | TINY | {"d_embedding": 8},
    "distilbert": presets.load("bert-nano")["model"] | TINY | {"segments": 0, "pooler": False, "pair_head": False},
    "window": TINY
    | {"kind": "encoder", "encoder_layers": 2, "attention": ["full", "window:3+global:1"], "global_tokens": 2}
    | {"kv_heads": 1, "positions": "rotary", "qk_norm": True},
    "additive": TINY | {"kind": "encoder", "score": "additive", "positions": "alibi"},
    "reversible": TINY | {"kind": "encoder", "reversible": True, "norm_position": "pre"},
}
POOLED = {"kind": "text", "outputs": 3}
HEADS = {
    "first": POOLED | {"pooling": "first", "dense": True},
    "last": POOLED | {"pooling": "last"},
    "prediction": POOLED | {"pooling": "mean", "prediction": {"activation": "gelu", "norm_eps": 1e-5}},
    "max": POOLED | {"pooling": "max", "layers": "concat:2"},
    "tokens": {"kind": "tokens", "outputs": 4, "layers": "weighted"},
    "vector": {"kind": "vector", "pooling": "mean", "normalize": True, "layers": "mean:2"},
}  # fmt: skip
LENGTHS = ([5], [1], [2, 1, 1], [9, 3, 9, 1], [17, 16], [40, 2])


def folder(path, settings, head=None, **info):
    torch.manual_seed(1)
    tokenizer = train_tokenizer("chars", ["a cat is a small animal", "Two dogs ran."], byte_fallback=False, seed=1)
    config = of_family(settings | (SHORT if "max_length" in settings else {}))
    model = build_model(config, tokenizer.vocab_size, head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    info = {"task": "encoder", **info} | ({"head": head} if head else {})
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    return path


def batches(config, vocab_size):
    """Rows of like and of different lengths, of one token too; with two segments where the model has them."""
    rng = np.random.default_rng(1)
    for lengths in LENGTHS:
        rows = [Row(rng.integers(vocab_size, size=n), np.arange(n) * 2 // max(n, 2)) for n in lengths]
        yield stack(rows, 0, segments=config.segment_count > 1)


def assert_equal(path, of_model):
    machine = prepare("cpu", "float32", 1)
    loaded, graph = open_model(path), open_for(path, "onnx", machine)
    with torch.inference_mode():
        for rows in batches(loaded.config, loaded.vocab_size):
            for expected, found in zip(of_model(loaded.model, rows), of_model(graph.model, rows), strict=True):
                assert found.shape == expected.shape
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_graph_gives_the_outputs_and_states_of_the_model(tmp_path, shape):
    head = HEADS["first"] | ({"side": "decoder", "start": 1, "pooling": "last"} if shape == "bart-nano" else {})
    path = folder(tmp_path / "m", SHAPES[shape], head)

    def outputs(model, rows):
        states = [] if "side" in head else [model.states(rows)]  # a head on the decoder reads others
        return [model(rows), model.body.token_embedding(rows.ids), *states]

    assert_equal(path, outputs)


def test_a_graph_gives_what_the_head_of_each_task_makes_of_states(tmp_path):
    path = folder(tmp_path / "m", SHAPES["bert-nano"], {"heads": HEADS})
    assert_equal(path, lambda model, rows: [model.of(task)(rows) for task in HEADS])


def test_the_labels_of_pairs_are_compared_by_a_graph(tmp_path):
    path = folder(tmp_path / "m", SHAPES["distilbert"], HEADS["vector"] | {"classes": 3, "product": True})
    assert_equal(path, lambda model, rows: [model.head.compare(model(rows), model(rows).flip(0))])


def flat(prediction):
    """The names, texts and numbers in a prediction, in their order."""
    if isinstance(prediction, dict):
        return [x for name, value in sorted(prediction.items()) for x in (name, *flat(value))]
    return [x for value in prediction for x in flat(value)] if isinstance(prediction, list) else [prediction]


@pytest.mark.cases("with heads")
def test_the_predictions_of_each_task_are_the_same(case, whole, dev_file, tmp_path):
    whole = shutil.copytree(whole, tmp_path / "run")  # other tests compare what is in it
    parts = read_info(whole).get("parts") or {None: {"task": case.task}}
    for part, described in parts.items():
        if TASKS.load(described["task"]).generates:
            with pytest.raises(NlpcliError, match="generates text"):
                open_task(whole, part=part, engine="onnx")
            continue
        torch_s, graph = (
            open_task(whole, device="cpu", threads=1, part=part, engine=engine) for engine in (None, "onnx")
        )
        columns = columns_of(torch_s.loaded, {}, "auto")
        examples = list(islice(torch_s.task.read(dev_file(described["task"]), columns), 12))
        expected, found = (applied.predict(examples, batch_tokens=200) for applied in (torch_s, graph))
        assert [flat(x) for x in found] == [pytest.approx(flat(x), abs=1e-4) for x in expected], described["task"]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.bidirectional and name != "softmax"])
def test_an_attention_without_a_graph_is_named(tmp_path, name):
    entry = name + ":2" * KINDS[name].form.count(":")
    path = folder(tmp_path / "m", TINY | {"kind": "encoder", "attention": [entry], "max_length": 40})
    with pytest.raises(NlpcliError, match=f"attention '{entry}' can't be exported") as error:
        open_for(path, "onnx", prepare("cpu", "float32", 1))
    assert "--engine torch" in error.value.hint and not (path / "onnx-cache").exists()


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"transformer", "xlnet"}))
def test_a_family_without_a_graph_is_named(tmp_path, family):
    settings = {name: value for name, value in TINY.items() if name in FAMILIES.load(family).model_fields}
    path = folder(tmp_path / "m", settings | {"family": family})
    with pytest.raises(NlpcliError, match=f"family {family} can't be exported"):
        open_for(path, "onnx", prepare("cpu", "float32", 1))


def test_a_head_with_an_lstm_is_named(tmp_path):
    path = folder(tmp_path / "m", SHAPES["bert-nano"], HEADS["tokens"] | {"recurrent": 4})
    with pytest.raises(NlpcliError, match=r"head\.recurrent"):
        open_for(path, "onnx", prepare("cpu", "float32", 1))


def test_an_engine_that_there_is_not_is_named(tmp_path):
    with pytest.raises(NlpcliError, match="tensorrt"):
        engine_of(folder(tmp_path / "m", SHAPES["bert-nano"]), "tensorrt")


def test_a_folder_that_can_not_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    path = folder(tmp_path / "m", SHAPES["bert-nano"])
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(NlpcliError, match="can't be written") as error:
        open_for(path, "onnx", prepare("cpu", "float32", 1))
    assert "convert --to onnx" in error.value.hint and not (path / "onnx-cache").exists()


def test_a_changed_model_gets_a_graph_of_its_own(tmp_path):
    path, machine = folder(tmp_path / "m", SHAPES["distilbert"]), prepare("cpu", "float32", 1)
    before = open_for(path, "onnx", machine).info["onnx"]["fingerprint"]
    shutil.copytree(folder(tmp_path / "n", SHAPES["distilbert"] | {"d_ff": 8}), path, dirs_exist_ok=True)
    assert open_for(path, "onnx", machine).info["onnx"]["fingerprint"] != before
    assert len(list((path / "onnx-cache").iterdir())) == 2
