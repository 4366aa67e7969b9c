"""`nlpcli convert`: runs go to Hugging Face and come back, and folders from there serve every command."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import train_tokenizer

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

LINES = ["a man runs", "two dogs and a child", "the woman stands on the house", "naïve 日本 🙂"]
GPT2 = {"positions": "learned", "norm_position": "pre", "scale_embeddings": False}
SMALL = [
    f"--set={setting}"
    for setting in (
        "model.d_model=16", "model.heads=2", "model.d_ff=32", "model.encoder_layers=1", "model.decoder_layers=1",
        "tokenizer.type=unigram", "training.log_every=5", "training.evaluate_every=10", "training.precision=float32",
        "training.warmup_steps=2", "training.batch_tokens=256", "training.average_last=0", "training.bleu_sentences=2",
        "data.context=32", "data.workers=1",
    )
]  # fmt: skip


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def write_model(path, task="translation", **settings):
    torch.manual_seed(2)
    tokenizer = train_tokenizer("chars", LINES, byte_fallback=False)
    shape = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64}
    config = ModelConfig.model_validate({**shape, **settings})
    model = build_model(config, tokenizer.vocab_size)
    info = {"task": task, "document_end": True, "decoding": {"beam_size": 3}}
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    return path


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_trained_language_model_gives_the_same_numbers_in_transformers(call, tmp_path):
    text = write_lines(tmp_path / "text.txt", [f"{line} {n}" for n in range(40) for line in LINES])
    learned = ["--set=model.positions=learned", "--set=model.max_length=64", "--set=tokenizer.vocab_size=310"]
    status, _, err = call("pretrain", "--objective", "clm", "--data", text, "--max-steps", 10, "--out", "runs/lm",
                          *SMALL, *learned)  # fmt: skip
    assert status == 0, err
    status, _, err = call("convert", "--to", "huggingface", "runs/lm", "hf")
    assert status == 0, err
    assert "hf: GPT2LMHeadModel" in err
    ours = load_model(tmp_path / "runs" / "lm")
    theirs = transformers.AutoModelForCausalLM.from_pretrained("hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("hf")
    assert [tokenizer(line).input_ids for line in LINES] == ours.tokenizer.encode(LINES)
    ids = torch.tensor([ours.tokenizer.encode([LINES[2]])[0]])
    with torch.inference_mode():
        assert torch.allclose(theirs(ids).logits, ours.model(ids), atol=1e-4)
        base = transformers.AutoModel.from_pretrained("hf").eval()
        assert torch.allclose(base(ids).last_hidden_state, ours.model.hidden(ids), atol=1e-4)


def test_a_trained_translator_translates_the_same_in_transformers(call, tmp_path):
    pairs = {side: write_lines(tmp_path / f"t.{side}", LINES * 10) for side in ("en", "de")}
    status, _, err = call("finetune", "--task", "translation", "--train", pairs["en"], pairs["de"], "--dev",
                          pairs["en"], pairs["de"], "--max-steps", 20, "--config", "transformer-tiny",
                          "--out", "runs/tr", *SMALL, "--set=tokenizer.vocab_size=310")  # fmt: skip
    assert status == 0, err
    status, _, err = call("convert", "runs/tr", "hf", "--json")
    assert status == 0, err
    source = write_lines(tmp_path / "source", LINES)
    limits = ["--max-length", 6, "--beam-size", 1, "--device", "cpu"]
    _, expected, _ = call("translate", "--model", "runs/tr", *limits, source)
    assert call("translate", "--model", "hf", *limits, source)[:2] == (0, expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained("hf")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained("hf").eval()
    batch = tokenizer(LINES, return_tensors="pt", padding=True, return_token_type_ids=False)
    found = model.generate(**batch, num_beams=1, do_sample=False, max_new_tokens=6)
    shown = tokenizer.batch_decode(found, skip_special_tokens=True)
    assert [text.replace("\n", " ").strip() for text in shown] == [line.strip() for line in expected.splitlines()]


def test_there_and_back_nothing_changes(call, tmp_path):
    write_model(tmp_path / "a")
    assert call("convert", "a", "b")[0] == 0
    status, out, err = call("convert", "b", "c", "--json")
    assert status == 0, err
    assert json.loads(out) | {"parameters": 0} == {
        "out": "c", "form": "nlpcli", "model": "encoder-decoder", "parameters": 0, "left_out": [], "note": "",
        "vocab_size": load_model(tmp_path / "a").tokenizer.vocab_size,
    }  # fmt: skip
    first, last = load_model(tmp_path / "a"), load_model(tmp_path / "c")
    assert last.config == first.config
    assert last.info["task"] == "translation"
    assert last.info["decoding"] == {"beam_size": 3}
    weights = last.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.model.state_dict().items())
    assert last.tokenizer.encode(LINES) == first.tokenizer.encode(LINES)


def test_commands_take_a_hugging_face_folder_directly(call, tmp_path):
    write_model(tmp_path / "lm", "language-model", kind="decoder", **GPT2)
    assert call("convert", "lm", "hf")[0] == 0
    prompt = ["--prompt", "two", "--greedy", "--max-new-tokens", 8, "--device", "cpu"]
    _, expected, _ = call("generate", "--model", "lm", *prompt)
    assert call("generate", "--model", "hf", *prompt)[:2] == (0, expected)
    text = write_lines(tmp_path / "text", LINES)
    _, expected, _ = call("tokenize", "encode", "lm", text)
    assert call("tokenize", "encode", "hf", text)[:2] == (0, expected)
    assert call("tokenize", "info", "hf")[0] == 0
    status, _, err = call("translate", "--model", "hf", text)
    assert status == 2
    assert "hf is a language model, not a translation model" in err


def test_the_tokenizer_of_such_a_folder_serves_a_new_model_too(call, tmp_path):
    write_model(tmp_path / "a", "language-model", kind="decoder", **GPT2)
    assert call("convert", "a", "hf")[0] == 0
    text = write_lines(tmp_path / "text.txt", LINES * 60)
    status, _, err = call("pretrain", "--objective", "clm", "--data", text, "--tokenizer", "hf", "--max-steps", 3,
                          "--out", "runs/lm", *SMALL)  # fmt: skip
    assert status == 0, err
    tokenizer = load_model(tmp_path / "runs" / "lm").tokenizer
    assert tokenizer.kind == "huggingface"
    assert tokenizer.encode(LINES) == load_model(tmp_path / "a").tokenizer.encode(LINES)


def test_bart_reads_and_writes_what_stands_around_its_texts(call, tmp_path):
    bart = {"positions": "learned", "scale_embeddings": False, "embedding_norm": True, "position_offset": 2}
    write_model(tmp_path / "a", **bart, init_std=0.4, initialization="normal")
    assert call("convert", "a", "hf")[0] == 0
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / "hf" / name).read_text())
        config.pop("nlpcli", None)  # as in a folder that comes from elsewhere
        config["decoder_start_token_id"] = config["eos_token_id"]
        if name == "generation_config.json":  # as published
            config["forced_bos_token_id"] = config["bos_token_id"]
            config["suppress_tokens"].remove(config["bos_token_id"])
        (tmp_path / "hf" / name).write_text(json.dumps(config))
    source = write_lines(tmp_path / "source", LINES)
    limits = ["--max-length", 9, "--beam-size", 1, "--device", "cpu"]
    status, out, err = call("translate", "--model", "hf", *limits, source)
    assert status == 0, err
    model = transformers.BartForConditionalGeneration.from_pretrained("hf").eval()
    ours = load_model(tmp_path / "a")
    special, expected = ours.tokenizer.special, []
    for ids in ours.tokenizer.encode(LINES):
        given = torch.tensor([[special.bos, *ids, special.eos]])
        found = model.generate(given, num_beams=1, do_sample=False, max_new_tokens=9)
        assert found[0, :2].tolist() == [special.eos, special.bos]
        expected += ours.tokenizer.decode([found[0, 2:].tolist()])
    assert out.splitlines() == expected
    assert len(set(expected)) > 1
    status, out, err = call("translate", "--model", "hf", *limits, "--alignments", source)
    assert status == 0, err
    for line, read in zip(out.splitlines(), LINES, strict=True):
        words, written = read.split(), line.split("\t")[0].split()
        pairs = [pair.split("-") for pair in line.split("\t")[1].split()]
        assert all(int(i) < len(words) and int(j) < len(written) for i, j in pairs)


def test_what_cannot_be_expressed_is_refused_and_nothing_is_written(call, tmp_path):
    write_model(tmp_path / "lm", "language-model", kind="decoder", qk_norm=True, **GPT2)
    status, _, err = call("convert", "lm", "hf")
    assert status == 2
    assert "does not support model.qk_norm true" in err
    assert not (tmp_path / "hf").exists()


def test_a_folder_in_use_is_replaced_only_when_it_holds_a_model_and_one_says_so(call, tmp_path):
    write_model(tmp_path / "a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert "is not empty" in call("convert", "a", "other")[2]
    assert "replaces only a model, but other contains something else" in call("convert", "a", "other", "--overwrite")[2]
    assert (tmp_path / "other" / "letter.txt").exists()
    assert call("convert", "a", "hf")[0] == 0
    assert "is not empty" in call("convert", "a", "hf")[2]
    assert call("convert", "a", "hf", "--overwrite")[0] == 0
    assert "is the folder of the model itself" in call("convert", "a", "a", "--overwrite")[2]
    assert "is a file" in call("convert", "a", "other/letter.txt")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "nowhere: the model folder does not exist"),
        (["empty", "out"], "the folder contains no finished model"),
        (["a", "out", "--to", "gguf"], "unknown value of --to 'gguf'"),
        (["odd", "out"], "the model type 'gemma' is not supported"),
    ],
)
def test_wrong_calls_are_refused_in_a_sentence(call, tmp_path, arguments, message):
    write_model(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "gemma"}')
    status, out, err = call("convert", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_weights_without_a_use_are_named(call, tmp_path):
    from safetensors.torch import load_file, save_file

    write_model(tmp_path / "a")
    assert call("convert", "a", "hf")[0] == 0
    weights = load_file("hf/model.safetensors")
    save_file({**weights, "classifier.weight": torch.zeros(2)}, "hf/model.safetensors")
    status, _, err = call("convert", "hf", "b")
    assert status == 0
    assert "left out: classifier.weight" in err
