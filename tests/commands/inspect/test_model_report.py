"""A model folder, its weights and its tokenizer are described as they are, and a damaged one is refused in words."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlpcli.commands.inspect import inspect
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model, count_parameters
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

SHAPE = {"kind": "decoder", "d_model": 8, "heads": 2, "d_ff": 12, "decoder_layers": 2, "positions": "learned",
         "max_length": 32, "norm_position": "pre", "activation": "gelu_tanh", "attention_bias": True,
         "scale_embeddings": False}  # fmt: skip
INFO = {
    "task": "language-model",
    "context": 16,
    "step": 70,
    "metrics": {"loss": 2.5},
    "signatures": {"loss": "loss|level:token"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    tokenizer = train_tokenizer("byte-bpe", ["the quick brown fox jumps"] * 5, vocab_size=270)
    config = ModelConfig.model_validate(SHAPE)
    model = build_model(config, tokenizer.vocab_size)
    save_model(folder / "own", weights=model.state_dict(), config=config, tokenizer=tokenizer, info=INFO)
    (folder / "theirs").mkdir()
    write_huggingface(
        folder / "theirs", config=config.model_dump(), weights=model.state_dict(), tokenizer=tokenizer, info=INFO
    )
    return folder, count_parameters(model)


def test_a_model_is_described(made):
    folder, parameters = made
    found = inspect(str(folder / "own"), length=10)
    facts = found.as_dict()
    assert (found.kind, facts["family"], facts["model_kind"]) == ("model", "transformer", "decoder")
    assert facts["parameters"]["total"] == sum(facts["parameters"]["by_part"].values()) == parameters
    assert facts["metrics"] == {"loss": 2.5} and facts["signatures"] == {"loss": "loss|level:token"}
    assert facts["flops_per_token"]["sequence_length"] == 10
    assert (facts["context_length"], facts["trained_context_length"], facts["digest"]) == (32, 16, "valid")
    assert facts["memory_bytes"]["cache_per_token"] == 2 * 2 * 8 * 4
    assert facts["findings"] == []


def test_the_same_model_from_hugging_face_has_the_same_parameters(made):
    folder, parameters = made
    facts = inspect(str(folder / "theirs")).facts
    assert facts["format"] == "huggingface"
    assert facts["parameters"]["total"] == parameters
    assert facts["flops_per_token"] == inspect(str(folder / "own")).facts["flops_per_token"]


def test_no_more_tokens_are_counted_than_the_model_reads(made):
    assert inspect(str(made[0] / "own"), length=1000).facts["flops_per_token"]["sequence_length"] == 32


def test_weights_have_their_statistics(made):
    rows = inspect(str(made[0] / "own"), weights=True).facts["weights"]
    stored = load_file(made[0] / "own" / "model.safetensors")
    assert {row["name"] for row in rows} == stored.keys()
    for row in rows:
        tensor = stored[row["name"]].double()
        assert row["shape"] == list(tensor.shape) and row["dtype"] == "float32" and row["not_finite"] == 0
        assert row["mean"] == pytest.approx(float(tensor.mean()), abs=1e-9)
        assert row["std"] == pytest.approx(float(tensor.std(unbiased=False)), abs=1e-9)
        assert (row["min"], row["max"]) == (float(tensor.min()), float(tensor.max()))


def test_a_file_of_tensors_is_described_and_numbers_that_are_none_are_found(tmp_path):
    save_file({"a": torch.tensor([1.0, float("nan"), 3.0]), "b": torch.ones(2, 2, dtype=torch.float16),
               "c": torch.arange(3)}, tmp_path / "some.safetensors")  # fmt: skip
    found = inspect(str(tmp_path / "some.safetensors"), weights=True)
    assert found.facts["values_by_dtype"] == {"float32": 3, "float16": 4, "int64": 3}
    assert [(finding.name, finding.count, finding.problem) for finding in found.findings] == [("not_finite", 1, True)]
    assert next(row for row in found.facts["weights"] if row["name"] == "a")["mean"] == 2.0


@pytest.mark.parametrize("kept", [0, 4, 100, -10])
def test_a_cut_file_is_refused_in_words(made, tmp_path, kept):
    data = (made[0] / "own" / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:kept])
    with pytest.raises(NlpcliError, match="the file is damaged or incomplete, or is not a safetensors file"):
        inspect(str(tmp_path / "cut.safetensors"))


def test_the_tokenizer_inside_is_described_on_demand(made):
    found = inspect(str(made[0] / "own"), as_kind="tokenizer")
    assert found.kind == "tokenizer"
    assert found.facts["tokenizer_kind"] == "byte-bpe"
    assert inspect(str(made[0] / "theirs"), as_kind="tokenizer").facts["vocab_size"] == found.facts["vocab_size"]
    assert inspect(str(made[0] / "own" / "tokenizer")).facts["fingerprint"] == found.facts["fingerprint"]


def test_a_tokenizer_is_measured_on_a_text(tmp_path):
    tokenizer = train_tokenizer("chars", ["abc def"], byte_fallback=False)
    tokenizer.save(tmp_path / "tok")
    (tmp_path / "text").write_text("abc\nabx xyz\nde  f\n", "utf-8")
    found = inspect(str(tmp_path / "tok"), text=[str(tmp_path / "text")])
    measured = found.facts["text"]
    assert (measured["lines"], measured["words"], measured["unknown_tokens"]) == (3, 5, 4)
    assert measured["unknown_characters"] == {"x": 2, "y": 1, "z": 1}
    assert measured["fertility"] == pytest.approx(measured["tokens"] / 5, abs=1e-4)
    assert measured["unused_tokens"] == 0
    by_name = {finding.name: list(finding.lines) for finding in found.findings}
    assert by_name["unknown"] == [2]
    assert 2 in by_name["changed"] and 1 not in by_name["changed"]


def test_settings_that_have_no_effect_are_refused(made, tmp_path):
    (tmp_path / "text").write_text("one\n", "utf-8")
    for path, settings, message in (
        (tmp_path / "text", {"length": 3}, "--length has no effect on a text"),
        (tmp_path / "text", {"weights": True}, "--weights has no effect"),
        (made[0] / "own", {"text": ["x"]}, "--corpus has no effect"),
        (made[0] / "own", {"as_kind": "modle"}, "unknown kind 'modle'"),
    ):
        with pytest.raises(NlpcliError, match=message):
            inspect(str(path), **settings)


@pytest.mark.parametrize(("context", "found"), [(511, ["window:8"]), (512, [])])
def test_attention_that_pays_for_longer_texts_only_is_reported(context, found, tmp_path):
    config = ModelConfig.model_validate({**SHAPE, "attention": ["window:8", "full"], "max_length": 512})
    tokenizer = train_tokenizer("byte-bpe", ["the quick brown fox jumps"] * 5, vocab_size=270)
    model = build_model(config, tokenizer.vocab_size)
    info = {**INFO, "context": context}
    save_model(tmp_path / "own", weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    facts = inspect(str(tmp_path / "own")).as_dict()
    assert facts["attention"] == [
        {"entry": "window:8", "full": False, "faster_from": 512},
        {"entry": "full", "full": True, "faster_from": None},
    ]
    findings = [finding["text"] for finding in facts["findings"] if finding["name"] == "attention_slower_than_full"]
    assert [text.split("'")[1] for text in findings] == found
