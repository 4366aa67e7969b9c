"""`nlpcli generate --engine`: the same texts, one conversion, and a message about the engine that is taken."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import torch
from model_settings import of_family

import nlpcli
from nlpcli.cli.main import main
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

LINES = ["a man runs", "two dogs and a child", "", "the woman stands on the house", "child"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(seed, settings…) -> the folder of a language model with a window of 40 characters."""
    monkeypatch.setenv("NLPCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def written(seed=1, **settings):
        torch.manual_seed(seed)
        tokenizer = train_tokenizer("chars", LINES, byte_fallback=False)
        sizes = {"d_model": 16, "heads": 2, "d_ff": 32, "decoder_layers": 1, "encoder_layers": 1, "max_length": 64}
        config = of_family({"kind": "decoder", "positions": "learned", "tie": "none", **sizes, **settings})
        model = build_model(config, tokenizer.vocab_size)
        for weight in model.parameters():
            weight.data += torch.randn_like(weight) * 0.2
        info = {"task": "language-model", "context": 40}
        save_model(tmp_path / "run", weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
        return tmp_path / "run"

    return written


@pytest.fixture
def call(capsys, monkeypatch):
    """call(options…) -> what `generate` writes to both streams for the lines on standard input."""

    def ran(*options, status=0, stdin="".join(f"{line}\n" for line in LINES)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        assert main(["generate", "--model", "run", *options]) == status
        captured = capsys.readouterr()
        return captured.out, captured.err

    return ran


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--max-new-tokens", "9"],
        ["--no-echo"],
        ["--min-length", "60", "--max-new-tokens", "70"],
        ["--stop", "a", "--stop", "oo"],
        ["--prompt", "a man", "--prompt", "the house"],
    ],
)
def test_all_engines_write_the_same(write, call, options):
    write()
    expected, stderr = call("--greedy", "--engine", "torch", *options)
    assert stderr == ""
    for engine in (["--engine", "ctranslate2"], ["--engine", "auto"], []):
        found, stderr = call("--greedy", *engine, *options)
        assert found == expected
        assert stderr.endswith("engine: CTranslate2\n")


def test_json_has_the_same_numbers(write, call):
    write()
    expected, found = (
        [json.loads(line) for line in call("--greedy", "--json", "--engine", engine)[0].splitlines()]
        for engine in ("torch", "ctranslate2")
    )
    assert [one.pop("logprob") for one in found] == pytest.approx([one.pop("logprob") for one in expected], abs=1e-4)
    assert found == expected
    assert max(one["tokens"] for one in found) == 200  # eight windows


def test_a_terminal_sees_the_text_grow(write, call, monkeypatch):
    write()
    plain = call("--greedy", "--prompt", "a man", "--engine", "ctranslate2")[0]
    written = []

    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Terminal())
    call("--greedy", "--prompt", "a man", "--engine", "ctranslate2")
    assert "".join(written) == plain
    assert len(written) > 100


def test_samples_are_those_of_torch_whatever_is_installed(write, call):
    write()
    expected, stderr = call("--seed", "3", "--engine", "torch")
    assert call("--seed", "3") == (expected, "")
    reason = "engine: torch, because CTranslate2 does not support sampling (use --greedy)\n"
    assert call("--seed", "3", "--engine", "auto") == (expected, reason)
    assert "does not support sampling (use --greedy)" in call("--engine", "ctranslate2", status=2)[1]
    assert stderr == ""


@pytest.mark.parametrize("options", [["--no-repeat-ngram", "3"], ["--repetition-penalty", "1.5"]])
def test_auto_takes_torch_for_what_ctranslate2_refuses_by_name(write, call, options):
    write()
    expected, _ = call("--greedy", "--engine", "torch", *options)
    reason = f"engine: torch, because CTranslate2 does not support {options[0]}\n"
    assert call("--greedy", "--engine", "auto", *options) == (expected, reason)
    assert call("--greedy", *options) == (expected, "")
    _, stderr = call("--greedy", "--engine", "ctranslate2", *options, status=2)
    assert f"the engine ctranslate2 does not support {options[0]}\n" in stderr
    assert "--engine torch" in stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"attention": ["window:4"]}, "model.attention ['window:4']"), ({"family": "transformer-xl"}, "model.family")],
)
def test_a_model_that_cannot_be_expressed_is_continued_with_torch(write, call, settings, named):
    write(**settings)
    output, stderr = call("--greedy", "--engine", "auto")
    assert output == call("--greedy", "--engine", "torch")[0]
    assert f"engine: torch, because CTranslate2 does not support {named}" in stderr
    assert named in call("--greedy", "--engine", "ctranslate2", status=2)[1]


def test_a_model_is_converted_once_and_again_when_it_has_changed(write, call, tmp_path):
    write()
    first, stderr = call("--greedy", "--engine", "ctranslate2")
    assert "was converted" in stderr
    [folder] = (tmp_path / "run" / "ctranslate2").iterdir()
    assert call("--greedy", "--engine", "ctranslate2") == (first, "engine: CTranslate2\n")
    write(seed=5)
    second, stderr = call("--greedy", "--engine", "ctranslate2")
    assert "was converted" in stderr
    assert second == call("--greedy", "--engine", "torch")[0] != first
    assert not folder.exists()


def test_without_the_package_auto_takes_torch_and_the_extra_is_named(write, call, monkeypatch):
    write()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "the package ctranslate2 is not installed" in call("--greedy", "--engine", "auto")[1]
    assert "pip install 'nlpcli[fast]'" in call("--greedy", "--engine", "ctranslate2", status=2)[1]


def test_rounded_weights_are_requested_by_name(write, call, tmp_path):
    write()
    output, _ = call("--greedy", "--engine", "ctranslate2", "--quantization", "int8", "--prompt", "a")
    assert len(output) == 202
    assert [folder.name[-5:] for folder in (tmp_path / "run" / "ctranslate2").iterdir()] == ["-int8"]
    assert "--quantization needs --engine ctranslate2" in call("--greedy", "--quantization", "int8", status=2)[1]


@pytest.mark.parametrize("options", [["--engine", "ctranslate2"], ["--quantization", "int8"]])
def test_answers_to_a_template_have_one_engine(write, call, tmp_path, options):
    write()
    (tmp_path / "task.yaml").write_text('prompt: "{text}"\nlabel: " {label}"\nlabels: {pos: a, neg: b}\n')
    _, stderr = call("--template", "task.yaml", *options, status=2)
    assert f"{options[0]} has no effect with --template" in stderr


def test_an_unknown_engine_is_refused(write, call):
    write()
    assert "unknown engine 'onnx'" in call("--engine", "onnx", status=2)[1]


def test_python_has_the_engines_too_for_folders_and_for_loaded_models(write):
    write()
    expected = nlpcli.generate(LINES, model="run", engine="torch", greedy=True)
    for model in ("run", nlpcli.load("run")):
        found = nlpcli.generate(LINES, model=model, engine="ctranslate2", greedy=True)
        assert [one.text for one in found] == [one.text for one in expected]
        assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], abs=1e-4)


@pytest.mark.processes
def test_a_converted_model_is_continued_without_pytorch(write, call):
    write()
    expected, _ = call("--greedy", "--prompt", "a man", "--stop", "x", "--engine", "ctranslate2")
    code = (
        "import sys; from nlpcli.cli.main import main; "
        "main(['generate', '--model', 'run', '--prompt', 'a man', '--stop', 'x', '--greedy']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
