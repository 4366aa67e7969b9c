"""Models in the ONNX format at the command line: converted, cached beside a run, refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

LINES = ["a cat", "the dog runs in the park", "", "cats and dogs and cats"]
MODEL = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "positions": "learned",
         "max_length": 32}  # fmt: skip
HEAD = {"kind": "vector", "pooling": "mean", "normalize": True}
OFFLINE = """
import socket, sys
def refuse(*_):
    sys.stderr.write("the network was asked for")
    raise OSError("the network was asked for")
socket.socket.connect = refuse
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that makes vectors."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("models") / "vectors"
    tokenizer = train_tokenizer("chars", LINES, byte_fallback=False, seed=1)
    built = build_model(MODEL, tokenizer.vocab_size, HEAD)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(3)
    problem = {"objective": "cosine", "labels": [], "low": 0.0, "high": 1.0}
    info = {"task": "similarity", "head": HEAD, "problem": problem, "max_length": 32}
    save_model(path, weights=built.state_dict(), config=ModelConfig.model_validate(MODEL), tokenizer=tokenizer,
               info=info)  # fmt: skip
    return path


def vectors(done):
    assert done.returncode == 0, done.stderr
    return np.array([json.loads(line)["vector"] for line in done.stdout.splitlines()])


def test_a_graph_is_made_once_without_network_or_noise_and_gives_the_same_vectors(
    run, run_python, model, environment, tmp_path
):
    (tmp_path / "sitecustomize.py").write_text(OFFLINE)
    shutil.copytree(model, tmp_path / "run")
    text = "\n".join(LINES) + "\n"
    expected = run("embed", "-m", "run", stdin=text)
    path = {"PYTHONPATH": os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))}
    first = run_python("embed", "-m", "run", "--engine", "onnx", stdin=text, **path)
    np.testing.assert_allclose(vectors(first), vectors(expected), atol=1e-4)
    assert first.stderr == expected.stderr  # nothing asked for the network, warned or logged
    (kept,) = (tmp_path / "run" / "onnx-cache").iterdir()
    made = (kept / "model.onnx").stat().st_mtime_ns
    again = run("embed", "-m", "run", "--engine", "onnx", stdin=text)
    assert again.stdout == first.stdout and (kept / "model.onnx").stat().st_mtime_ns == made
    words = run("embed", "-m", "run", "--engine", "onnx", "--tokens", "--static", stdin=text)
    theirs = run("embed", "-m", "run", "--tokens", "--static", stdin=text)
    for one, other in zip(words.stdout.splitlines(), theirs.stdout.splitlines(), strict=True):
        for name, value in json.loads(one).items():
            assert value == pytest.approx(json.loads(other)[name], abs=1e-4) or not isinstance(value, list)


@pytest.fixture(scope="module")
def converted(model, tmp_path_factory):
    """The folders of the model in the ONNX format: as it is, and with 8-bit integers."""
    from nlpcli.commands.convert import Conversion, convert

    place = tmp_path_factory.mktemp("onnx")
    for name, quantization in {"float32": None, "int8": "int8"}.items():
        convert(Conversion(model, place / name, "onnx", quantization=quantization))
    return place


def test_a_folder_runs_without_the_original_and_searches_its_index(run, model, converted, tmp_path):
    assert not (converted / "float32" / "model.safetensors").exists()
    text = "\n".join(LINES) + "\n"
    (tmp_path / "corpus.txt").write_text(text)
    expected = vectors(run("embed", "-m", model, stdin=text))
    np.testing.assert_allclose(vectors(run("embed", "-m", converted / "float32", stdin=text)), expected, atol=1e-4)
    small = vectors(run("embed", "-m", converted / "int8", stdin=text))
    assert (small * expected).sum(axis=1).min() > 0.99 and abs(small - expected).max() > 1e-5
    run("search", "-m", model, "--corpus", "corpus.txt", "--save-index", "index", "x")
    hits = [run("search", "-m", folder, "--vectors", "index", "a cat").stdout for folder in
            (model, converted / "float32")]  # fmt: skip
    assert hits[0] == hits[1] and "a cat" in hits[0]
    other = run("search", "-m", converted / "int8", "--vectors", "index", "a cat")
    assert other.returncode == 2 and "made with another model" in other.stderr


def test_what_can_not_be_done_is_refused(run, model, converted, tmp_path):
    graph = converted / "float32"
    for arguments, message in (
        (["embed", "-m", graph, "--engine", "torch"], "--engine torch does not run"),
        (["embed", "-m", graph, "--layers", "mean:2"], "--layers mean:2"),
        (["embed", "-m", model, "--engine", "tpu"], "unknown engine 'tpu'"),
        (["convert", model, "out", "--to", "onnx", "--quantization", "int4"], "unknown quantization 'int4'"),
        (["convert", model, "out", "--to", "onnx", "--max-length", "64"], "no effect on the ONNX format"),
        (["convert", graph, "out", "--to", "huggingface"], "ONNX format"),
    ):
        done = run(*arguments, stdin="a\n")
        assert done.returncode == 2 and message in done.stderr and not done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["truncated", "missing", "described"])
def test_a_damaged_folder_is_named(run, converted, tmp_path, fault):
    broken = shutil.copytree(converted / "float32", tmp_path / "broken")
    file, facts = broken / "model.onnx", broken / "model.yaml"
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif fault == "missing":
        file.unlink()
    else:
        facts.write_text(yaml.safe_dump(yaml.safe_load(facts.read_text()) | {"onnx": {"layers": 3}}))
    done = run("embed", "-m", broken, stdin="a\n")
    assert done.returncode == 2 and str(broken) in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "info", "expected"),
    [
        (
            "encoder-decoder",
            {"task": "translation"},
            "can't translate; to translate in less time, use --to ctranslate2",
        ),
        ("decoder", {"task": "language-model"}, "can't generate text"),
        ("encoder", {"task": "encoder"}, None),
    ],
    ids=["translator", "language model", "encoder"],
)
def test_a_conversion_says_that_a_graph_can_not_write_text(run, tmp_path, kind, info, expected):
    tokenizer = train_tokenizer("chars", LINES, byte_fallback=False, seed=1)
    config = {**MODEL, "kind": kind} | ({} if kind == "encoder" else {"decoder_layers": 1})
    if kind == "decoder":
        del config["encoder_layers"]
    built = build_model(config, tokenizer.vocab_size)
    save_model(tmp_path / "model", weights=built.state_dict(), config=ModelConfig.model_validate(config),
               tokenizer=tokenizer, info=info)  # fmt: skip
    done = run("convert", "--to", "onnx", "model", "graph")
    assert done.returncode == 0, done.stderr
    assert ("note: the graph gives only vectors of texts" in done.stderr) == (expected is not None)
    assert expected is None or expected in done.stderr
