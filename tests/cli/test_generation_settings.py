"""Models from Hugging Face folders write what `model.generate` of `transformers` writes, wherever they have moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

LINES = ["abcd", "h gfe", "ddab c"]
WORDS = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh", "Ġ"]
SETTINGS = [
    {"num_beams": 3, "length_penalty": 2.0, "max_length": 9, "no_repeat_ngram_size": 2, "forced_bos_token_id": 6},
    {"max_new_tokens": 6, "repetition_penalty": 1.4, "suppress_tokens": [5, 6], "min_new_tokens": 4},
    {"num_beams": 2, "early_stopping": True, "max_length": 12, "bad_words_ids": [[4, 5], [7]], "eos_token_id": [2, 9]},
]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def make(folder, kind, settings):
    """A model with random weights and these settings in its generation_config.json; it and its tokenizer."""
    core = Tokenizer(models.BPE({piece: id_ for id_, piece in enumerate(WORDS)}, [], unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokens = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    core.add_special_tokens(list(tokens.values()))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **tokens)
    ids = {"vocab_size": len(WORDS), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(4)
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **ids)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.T5Config(
            d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=1, **ids
        )
        model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.4)
    model.generation_config = transformers.GenerationConfig(
        **{**{name: ids[name] for name in ids if name != "vocab_size"}, "decoder_start_token_id": 1, **settings}
    )
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def generated(folder, kind):
    """What transformers writes for each line with the model in a folder."""
    cls = transformers.GPT2LMHeadModel if kind == "gpt2" else transformers.T5ForConditionalGeneration
    model, tokenizer = cls.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for line in LINES:
        ids = tokenizer(line, add_special_tokens=False).input_ids + ([] if kind == "gpt2" else [2])
        given = torch.tensor([ids])
        output = model.generate(given, attention_mask=torch.ones_like(given))[0].tolist()
        output = output[len(ids) :] if kind == "gpt2" else output
        found.append(tokenizer.decode(output, skip_special_tokens=True).strip())
    return found


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_translator_writes_what_transformers_writes_there_and_back(call, tmp_path, settings):
    make("hf", "t5", settings)
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in LINES))
    expected = generated("hf", "t5")
    assert len(set(expected)) > 1
    assert call("convert", "hf", "ours")[0] == call("convert", "ours", "back")[0] == 0
    for folder in ("hf", "ours", "back"):
        status, out, err = call("translate", "--model", folder, "--device", "cpu", "in")
        assert status == 0, err
        assert out.splitlines() == expected
    assert generated("back", "t5") == expected
    kept = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert {name: kept[name] for name in settings} == settings


@pytest.mark.parametrize("settings", [SETTINGS[1], {**SETTINGS[2], "max_length": 20}])
def test_a_language_model_writes_what_transformers_writes(call, settings):
    make("hf", "gpt2", settings)
    for line, expected in zip(LINES, generated("hf", "gpt2"), strict=True):
        status, out, err = call("generate", "--model", "hf", "--no-echo", "--device", "cpu", "--prompt", line)
        assert status == 0, err
        assert out.strip() == expected


def test_older_folders_have_their_settings_in_config_json(call, tmp_path):
    make("hf", "t5", SETTINGS[1])
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps({**config, **SETTINGS[1]}))
    (tmp_path / "in").write_text("abcd\n")
    expected = call("translate", "--model", "hf", "--device", "cpu", "in")[1]
    (tmp_path / "hf" / "generation_config.json").unlink()
    assert call("translate", "--model", "hf", "--device", "cpu", "in")[1] == expected


def test_what_the_command_line_says_wins(call, tmp_path):
    make("hf", "t5", {**SETTINGS[1], "max_new_tokens": 3, "min_new_tokens": 3})
    (tmp_path / "in").write_text("abcd\n")
    options = ["--max-length", 7, "--min-length", 7, "--repetition-penalty", 1.0]
    _, out, _ = call("translate", "--model", "hf", "--device", "cpu", *options, "--json", "in")
    make("hf", "t5", {"max_new_tokens": 7, "min_new_tokens": 7, "suppress_tokens": [5, 6]})
    assert json.loads(out)["translation"] == call("translate", "--model", "hf", "--device", "cpu", "in")[1].strip()


def test_settings_that_are_not_honored_are_named_in_one_warning(call, tmp_path):
    make("hf", "t5", {"max_new_tokens": 3})
    path = tmp_path / "hf" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "guidance_scale": 2.0, "max_time": 1.5}))
    (tmp_path / "in").write_text("abcd\n")
    status, _, err = call("translate", "--model", "hf", "--device", "cpu", "in")
    assert status == 0
    assert err.count("not supported") == 1 and "guidance_scale, max_time" in err


@pytest.mark.parametrize(("name", "value"), [("num_beams", "many"), ("forced_bos_token_id", 999), ("max_length", [])])
def test_settings_that_make_no_sense_are_refused_by_name(call, tmp_path, name, value):
    make("hf", "t5", {})
    path = tmp_path / "hf" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    (tmp_path / "in").write_text("abcd\n")
    status, _, err = call("translate", "--model", "hf", "--device", "cpu", "in")
    assert status == 2 and name in err


HOSTILE = [
    *({name: 10**30} for name in ("max_length", "min_new_tokens", "num_beams", "eos_token_id", "no_repeat_ngram_size")),
    {"num_beams": 10**9},
    {"eos_token_id": [2, 10**30]},
    {"sequence_bias": [[[1], 1e308]]},
    {"length_penalty": 1e5, "num_beams": 2},
    {"repetition_penalty": float("nan")},
    {"temperature": float("inf"), "do_sample": True},
    {"exponential_decay_length_penalty": [10**30, {"a": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_numbers_that_no_search_can_use_are_refused_by_name(call, hostile):
    make("hf", "gpt2", {})
    path = Path("hf/generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **hostile}))
    status, _, err = call("generate", "--model", "hf", "--device", "cpu", "--prompt", "abc")
    assert status == 2 and next(iter(hostile)) in err and "generation_config.json" in err, err


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"num_beams": 2, "max_new_tokens": 4, "suppress_tokens": list(range(len(WORDS)))},
        {"num_beams": 2, "max_new_tokens": 4, "length_penalty": -10.0, "early_stopping": "never"},
    ],
    ids=["up to the last position", "no token is possible", "all scores below any"],
)  # fmt: skip
def test_a_beam_search_ends_whatever_is_left_of_it(call, settings):
    make("hf", "gpt2", settings)
    status, _, err = call("generate", "--model", "hf", "--device", "cpu", "--prompt", "abc")
    assert status == 0, err


def test_a_fine_tuned_model_keeps_the_settings_of_its_folder(call, tmp_path):
    make("hf", "t5", SETTINGS[0])
    for side in ("s", "t"):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in LINES))
    status, _, err = call("finetune", "--task", "translation", "--model", "hf", "--train", "s", "t", "--dev", "s", "t",
                          "--max-steps", 1, "--out", "tuned", "--set=training.precision=float32")  # fmt: skip
    assert status == 0, err
    kept = load_yaml(tmp_path / "tuned" / "model.yaml")["generation"]
    assert {name: kept[name] for name in SETTINGS[0]} == SETTINGS[0]
    assert call("convert", "tuned", "back")[0] == 0
    assert call("translate", "--model", "tuned", "--device", "cpu", "s")[1].splitlines() == generated("back", "t5")


@pytest.mark.parametrize(
    "arguments",
    [["translate", "--min-length", 9, "--max-length", 3], ["generate", "--min-length", 9, "--max-new-tokens", 3]],
)
def test_contradicting_lengths_are_refused_before_anything_is_read(call, arguments):
    status, _, err = call(*arguments, "--model", "nowhere")
    assert status == 2 and "--min-length 9 is greater than --max-" in err
