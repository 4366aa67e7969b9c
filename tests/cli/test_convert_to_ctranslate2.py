"""`nlpcli convert --to ctranslate2`: the folder translates with that library, and what doesn't fit is refused."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import load_tokenizer, train_tokenizer

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

LINES = ["a man runs", "two dogs and a child", "the woman stands on the house"]


@pytest.fixture
def run(tmp_path):
    """run(settings…) -> the folder of a small translation model."""

    def written(**settings):
        torch.manual_seed(2)
        tokenizer = train_tokenizer("chars", LINES, byte_fallback=False)
        shape = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64}
        config = ModelConfig.model_validate({**shape, **settings})
        info = {"task": "translation", "decoding": {"beam_size": 3}}
        weights = build_model(config, tokenizer.vocab_size).state_dict()
        save_model(tmp_path / "run", weights=weights, config=config, tokenizer=tokenizer, info=info)
        return tmp_path / "run"

    return written


def convert(*arguments, status=0):
    assert main(["convert", *map(str, arguments)]) == status


@torch.inference_mode()
def test_the_folder_scores_as_the_model_does_with_the_tokenizer_beside_it(run, tmp_path, capsys):
    convert(run(), tmp_path / "ct2", "--to", "ct2", "--json")
    assert json.loads(capsys.readouterr().out)["model"] == "TransformerSpec"
    tokenizer, loaded = load_tokenizer(tmp_path / "ct2" / "tokenizer"), load_model(tmp_path / "run")
    [source, target] = tokenizer.encode(LINES[:2])
    spelled = [[tokenizer.id_to_piece(id_) for id_ in ids] for ids in (source, target)]
    [found] = ctranslate2.Translator(str(tmp_path / "ct2")).score_batch([spelled[0]], [spelled[1]])
    eos = tokenizer.special.eos
    logits = loaded.model(torch.tensor([[*source, eos]]), None, torch.tensor([[tokenizer.special.bos, *target]]))
    expected = logits.log_softmax(-1)[0].gather(1, torch.tensor([*target, eos])[:, None])[:, 0]
    assert torch.allclose(torch.tensor(found.log_probs), expected, atol=1e-4)


def test_rounded_weights_make_a_smaller_file_and_leave_the_model_alone(run, tmp_path):
    folder = run(d_model=64, d_ff=256)
    for name in ("float32", "int8"):
        convert("--to", "ctranslate2", folder, tmp_path / name, "--quantization", name)
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("float32", "int8")]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_folder_for_ctranslate2_is_replaced_only_when_one_says_so(run, tmp_path, capsys):
    folder = run()
    convert("--to", "ctranslate2", folder, tmp_path / "ct2")
    convert("--to", "ctranslate2", folder, tmp_path / "ct2", status=2)
    assert "--overwrite" in capsys.readouterr().err
    convert("--to", "ctranslate2", folder, tmp_path / "ct2", "--overwrite")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (
            {"attention": ["window:4"]},
            ["--to", "ctranslate2"],
            "CTranslate2 does not support model.attention ['window:4']",
        ),
        ({"positions": "alibi"}, ["--to", "ctranslate2"], "CTranslate2 does not support model.positions 'alibi'"),
        ({}, ["--to", "ctranslate2", "--quantization", "int7"], "unknown value of --quantization 'int7'"),
        ({}, ["--to", "huggingface", "--quantization", "int8"], "--quantization has no effect on the format"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(run, tmp_path, capsys, settings, arguments, message):
    convert(*arguments, run(**settings), tmp_path / "ct2", status=2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ct2").exists()


def test_the_folder_is_no_model_for_nlpcli_itself(run, tmp_path, capsys):
    convert("--to", "ctranslate2", run(), tmp_path / "ct2")
    assert main(["translate", "--model", str(tmp_path / "ct2"), "-"]) == 2
    assert "is a folder for CTranslate2, which nlpcli writes and does not read" in capsys.readouterr().err
