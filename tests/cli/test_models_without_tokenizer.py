"""A Hugging Face folder without a tokenizer is converted both ways and inspected; what needs a tokenizer says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer

pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

LINES = ["a man runs", "two dogs and a child", "the woman stands on the house", "naïve 日本 🙂"]
LEARNED = {"positions": "learned", "activation": "gelu"}
KINDS = {
    "gpt2": {"kind": "decoder", "norm_position": "pre", "scale_embeddings": False, **LEARNED,
             "activation": "gelu_tanh"},
    "bert": {"kind": "encoder", "embedding_norm": True, "segments": 2, "norm_eps": 1e-12, "mlm_head": True,
             "scale_embeddings": False, **LEARNED},
    "bart": {"embedding_norm": True, "position_offset": 2, "scale_embeddings": False, **LEARNED},
    "marian": {"positions": "sinusoidal-halves"},
    "t5": {"norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "positions": "relative",
           "score": "dot", "attention_bias": False, "feed_forward_bias": False,
           "scale_embeddings": False, "norm_bias": False},
}  # fmt: skip
TASKS = {"gpt2": "language-model", "bert": "encoder"}


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


@pytest.fixture
def bare(tmp_path):
    """kind -> a folder as others write it, with no file of a tokenizer, and the tokenizer."""

    def make(kind):
        tokenizer = train_tokenizer("chars", LINES, byte_fallback=False)
        shape = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64}
        torch.manual_seed(1)
        config = ModelConfig.model_validate({**shape, "attention_bias": True, **KINDS[kind]})
        weights = build_model(config, tokenizer.vocab_size).state_dict()
        folder = tmp_path / "bare"
        folder.mkdir()
        info = {"task": TASKS.get(kind, "translation")}
        write_huggingface(folder, config=config.model_dump(), weights=weights, tokenizer=tokenizer, info=info)
        for file in folder.glob("*token*.json"):
            file.unlink()
        described = json.loads((folder / "config.json").read_text())
        del described["nlpcli"]
        (folder / "config.json").write_text(json.dumps(described))
        return folder, tokenizer

    return make


def tensors(folder: Path):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_converted_both_ways_to_the_bit(call, bare, kind):
    folder, _ = bare(kind)
    status, _, err = call("convert", "bare", "ours")
    assert status == 0, err
    assert not Path("ours/tokenizer").exists()
    status, _, err = call("convert", "ours", "again")
    assert status == 0, err
    first, second = tensors(folder), tensors(Path("again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sorted(path.name for path in Path("again").glob("*token*")) == []
    before, after = (json.loads(Path(name, "config.json").read_text()) for name in ("bare", "again"))
    for key in (
        "architectures",
        "vocab_size",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "decoder_start_token_id",
    ):
        assert after.get(key) == before.get(key)
    status, _, err = call("convert", "again", "third")
    assert status == 0, err
    assert torch.equal(*(next(iter(tensors(Path(name)).values())) for name in ("ours", "third")))


def test_transformers_loads_what_is_written(call, bare):
    import transformers

    bare("gpt2")
    call("convert", "bare", "ours")
    call("convert", "ours", "again")
    ids = torch.tensor([[9, 10, 11]])
    first, second = (transformers.AutoModelForCausalLM.from_pretrained(name).eval() for name in ("bare", "again"))
    with torch.inference_mode():
        assert torch.equal(first(ids).logits, second(ids).logits)


@pytest.mark.parametrize("form", ["bare", "ours"])
def test_inspect_says_that_there_is_no_tokenizer(call, bare, form):
    bare("gpt2")
    call("convert", "bare", "ours")
    status, out, err = call("inspect", form)
    assert status == 0, err
    assert "(no tokenizer)" in out
    status, out, err = call("inspect", form, "--json")
    assert json.loads(out)["tokenizer"] is None


@pytest.mark.parametrize("form", ["bare", "ours"])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("gpt2", ["generate", "--prompt", "a"]),
        ("gpt2", ["visualize-attention", "a man"]),
        ("marian", ["translate", "text"]),
        ("bert", ["embed", "text"]),
    ],
)
def test_commands_that_need_a_tokenizer_say_so_in_one_sentence(call, bare, form, kind, arguments):
    bare(kind)
    call("convert", "bare", "ours")
    Path("text").write_text("a man\n")
    status, out, err = call(arguments[0], "--model", form, *arguments[1:])
    assert (status, out) == (2, "")
    first = err.strip().splitlines()[0]
    assert f"{form}: " in first and (
        "the tokenizer is missing" in first or "the model folder has no tokenizer" in first
    ), err


@pytest.mark.parametrize("form", ["bare", "ours"])
def test_fine_tuning_takes_the_tokenizer_that_is_named(call, bare, form):
    _, tokenizer = bare("bert")
    call("convert", "bare", "ours")
    Path("train.tsv").write_text("".join(f"{n % 2}\ta man {'runs' * (n % 2)}\n" for n in range(8)))
    tune = ["finetune", "--task", "classify", "--model", form, "--train", "train.tsv", "--dev", "train.tsv",
            "--out", "run", "--max-steps", "1"]  # fmt: skip
    status, _, err = call(*tune)
    assert status == 2
    assert f"{form}: the model folder has no tokenizer" in err and "--tokenizer DIR" in err
    other = train_tokenizer("chars", ["other"], byte_fallback=False)
    other.save("other")
    status, _, err = call(*tune, "--tokenizer", "other")
    assert (
        status == 2
        and f"the tokenizer has {other.vocab_size} tokens, but the model {form} has {tokenizer.vocab_size}" in err
    )
    tokenizer.save("own")
    status, _, err = call(*tune, "--tokenizer", "own")
    assert status == 0, err


def test_tokenize_names_the_model_that_has_none(call, bare):
    bare("gpt2")
    call("convert", "bare", "ours")
    Path("text").write_text("a man\n")
    for form, message in (("bare", "the tokenizer is missing"), ("ours", "the model folder has no tokenizer")):
        status, _, err = call("tokenize", "encode", form, "text")
        assert status == 2 and f"{form}: {message}" in err
