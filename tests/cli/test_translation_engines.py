"""`nlpcli translate --engine`: the same translations, one conversion, and a word about what is taken."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import nlpcli
from nlpcli.cli.main import main
from nlpcli.config.model_settings import ModelConfig
from nlpcli.decoding.constraints import never_written
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

LINES = ["a man runs", "", "two dogs and a child", "the woman stands on the house", "a child"] * 3


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(seed, settings…) -> the folder of a translation model, whose translations end after some letters."""
    monkeypatch.setenv("NLPCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in LINES))

    def written(seed=1, **settings):
        torch.manual_seed(seed)
        tokenizer = train_tokenizer("chars", LINES, byte_fallback=False)
        shape = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64,
                 "output_bias": True, "tie": "none"}  # fmt: skip
        config = ModelConfig.model_validate({**shape, **settings})
        model = build_model(config, tokenizer.vocab_size)
        model.output_bias.data[list(never_written(tokenizer.special))] = -30.0
        model.output_bias.data[tokenizer.special.eos] = 1.0
        info = {"task": "translation", "decoding": {"beam_size": 3}}
        save_model(tmp_path / "run", weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
        return tmp_path / "run"

    return written


@pytest.fixture
def call(capsys):
    """call(options…) -> what `translate` writes to both streams."""

    def ran(*options, status=0):
        assert main(["translate", "--model", "run", "lines.txt", *options]) == status
        captured = capsys.readouterr()
        return captured.out, captured.err

    return ran


@pytest.mark.parametrize("options", [[], ["--beam-size", "1"], ["--json"], ["--line-buffered"], ["--scores"]])
def test_all_engines_write_the_same(write, call, options):
    write()
    expected, stderr = call("--engine", "torch", *options)
    assert stderr == ""
    for engine in ("ctranslate2", "auto"):
        found, stderr = call("--engine", engine, *options)
        assert stderr.endswith("engine: CTranslate2\n")
        if "--scores" in options or "--json" in options:
            assert texts(found) == texts(expected)
        else:
            assert found == expected
    assert expected.count("\n") == len(LINES)


def texts(output):
    lines = output.splitlines()
    return [json.loads(line)["translation"] if line.startswith("{") else line.split("\t")[0] for line in lines]


def test_a_model_is_converted_once_and_again_when_it_has_changed(write, call, tmp_path):
    write()
    first, stderr = call("--engine", "ctranslate2")
    assert "was converted" in stderr
    [folder] = (tmp_path / "run" / "ctranslate2").iterdir()
    written = (folder / "model.bin").stat().st_mtime_ns
    assert call("--engine", "ctranslate2") == (first, "engine: CTranslate2\n")
    assert (folder / "model.bin").stat().st_mtime_ns == written
    write(seed=5)
    second, stderr = call("--engine", "ctranslate2")
    assert "was converted" in stderr
    assert second == call("--engine", "torch")[0] != first
    assert not folder.exists()


def test_where_the_folder_of_the_model_cannot_be_written_the_cache_is_used_and_at_last_torch(write, call, tmp_path):
    run = write()
    (run / "ctranslate2").write_text("no folder")
    expected, _ = call("--engine", "torch")
    assert call("--engine", "auto")[0] == expected
    assert len(list((tmp_path / "cache" / "ctranslate2").iterdir())) == 1
    write(seed=2)
    (tmp_path / "cache").rename(tmp_path / "old")
    (tmp_path / "cache").write_text("no folder")
    assert call("--engine", "auto")[1] == "engine: torch, because no folder for CTranslate2 can be written\n"
    assert "can't be converted for CTranslate2" in call("--engine", "ctranslate2", status=2)[1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--sample"], "--sample"),
        (["--alignments"], "--alignments"),
        (["--n-best", "2"], "--n-best with --length-normalization wu"),
        (["--target-prefix", "a"], "--target-prefix"),
        (["--min-length", "2", "--no-repeat-ngram", "3"], "--min-length, --no-repeat-ngram"),
    ],
)
def test_auto_takes_torch_for_what_ctranslate2_refuses_by_name(write, call, options, named):
    write()
    expected, _ = call("--engine", "torch", *options)
    assert call("--engine", "auto", *options) == (
        expected,
        f"engine: torch, because CTranslate2 does not support {named}\n",
    )
    _, stderr = call("--engine", "ctranslate2", *options, status=2)
    assert f"the engine ctranslate2 does not support {named}\n" in stderr
    assert "--engine torch" in stderr


def test_a_model_that_cannot_be_expressed_is_translated_with_torch(write, call):
    write(attention=["window:4"])
    output, stderr = call("--engine", "auto")
    assert output == call("--engine", "torch")[0]
    assert "does not support model.attention ['window:4']" in stderr
    assert "model.attention ['window:4']" in call("--engine", "ctranslate2", status=2)[1]


def test_without_the_package_auto_takes_torch_and_the_extra_is_named(write, call, monkeypatch):
    write()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "the package ctranslate2 is not installed" in call("--engine", "auto")[1]
    assert "pip install 'nlpcli[fast]'" in call("--engine", "ctranslate2", status=2)[1]


def test_rounded_weights_are_requested_by_name(write, call, tmp_path):
    write()
    output, _ = call("--engine", "ctranslate2", "--quantization", "int8")
    assert output.count("\n") == len(LINES)
    assert [folder.name[-5:] for folder in (tmp_path / "run" / "ctranslate2").iterdir()] == ["-int8"]
    assert "--quantization needs --engine ctranslate2" in call("--quantization", "int8", status=2)[1]
    assert (
        "unknown value of --quantization 'int7'"
        in call("--engine", "ctranslate2", "--quantization", "int7", status=2)[1]
    )


def test_an_unknown_engine_is_refused(write, call):
    write()
    assert "unknown engine 'ctranslate'" in call("--engine", "ctranslate", status=2)[1]


def test_python_has_the_engines_too_for_folders_and_for_loaded_models(write, tmp_path):
    write()
    expected = nlpcli.translate(LINES, model="run", engine="torch", beam_size=1)
    for model in ("run", nlpcli.load("run")):
        found = nlpcli.translate(LINES, model=model, engine="ctranslate2", beam_size=1)
        assert [one.text for one in found] == [one.text for one in expected]
        assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], abs=1e-4)
    loaded = nlpcli.load("run")
    write(seed=5)  # another model in the same folder
    with pytest.raises(nlpcli.NlpcliError, match="whose folder has changed since it was loaded"):
        loaded.translate(LINES, engine="ctranslate2")
    assert [one.text for one in loaded.translate(LINES, beam_size=1)] == [one.text for one in expected]


@pytest.mark.processes
def test_a_converted_model_translates_without_pytorch(write, call):
    write()
    expected, _ = call("--engine", "ctranslate2")
    code = (
        "import sys; from nlpcli.cli.main import main; "
        "main(['translate', '--model', 'run', 'lines.txt']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


@pytest.mark.processes
def test_several_processes_share_one_folder(write, call, tmp_path):
    write()
    expected, _ = call("--engine", "torch")
    assert call("--engine", "ctranslate2", "--processes", "2")[0] == expected
    assert len(list((tmp_path / "run" / "ctranslate2").iterdir())) == 1
