from __future__ import annotations

import io
import json
import sys

import pytest
import torch
from model_settings import of_family

from nlpcli.cli.main import main
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.models.transformer_xl import TransformerXL
from nlpcli.text import train_tokenizer

TEXT = ["ROMEO: what light through yonder window breaks?", "JULIET: ay me!", "abcdefghijklmnopqrstuvwxyz\n"]


def write_model(path, task="language-model", kind="decoder", document_end=True, **shape):
    torch.manual_seed(4)
    tokenizer = train_tokenizer("chars", TEXT, vocab_size=None, byte_fallback=False, seed=1)
    sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1, "max_length": 24}
    config = of_family({"kind": kind, **sizes, "positions": "learned", **shape})
    model = build_model(config, tokenizer.vocab_size)
    info = {"task": task, "context": 16, "document_end": document_end}
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("generate") / "model")


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs the command in this process: (status, stdout, stderr)."""

    def run_it(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main(["generate", "--device", "cpu", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def test_a_prompt_is_continued_beyond_the_models_context(run, model):
    done = run("generate", "--model", model, "--prompt", "ROMEO:", "--max-new-tokens", 100, "--min-length", 100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ROMEO:")
    assert len(done.stdout) == len("ROMEO:") + 100 + 1


def test_a_model_with_memory_goes_on_without_reading_a_token_twice(call, tmp_path, monkeypatch):
    path = write_model(tmp_path / "xl", family="transformer-xl", memory_length=12)
    read, advance = [], TransformerXL.advance
    monkeypatch.setattr(
        TransformerXL,
        "advance",
        lambda self, tokens, state: read.append(tokens.size(1)) or advance(self, tokens, state),
    )
    status, out, _ = call("--model", path, "--prompt", "ROMEO: what light", "--max-new-tokens", 60, "--min-length", 60)
    assert status == 0 and len(out) == len("ROMEO: what light") + 60 + 1
    assert read == [len("ROMEO: what light"), *[1] * 59]


def test_the_seed_decides_what_is_drawn(call, model):
    arguments = ("--model", model, "--prompt", "ROMEO:", "--top-p", 0.9, "-n", 30)
    first = call(*arguments, "--seed", 1)[1]
    assert first == call(*arguments, "--seed", 1)[1]
    assert first != call(*arguments, "--seed", 2)[1]


def test_lines_of_standard_input_are_prompts(call, model):
    alone = [call("--model", model, "-p", text, "--greedy", "-n", 9)[1] for text in ("ROMEO:", "JULIET: ay")]
    status, out, _ = call("--model", model, "--greedy", "-n", 9, stdin="ROMEO:\nJULIET: ay\n")
    assert status == 0
    assert out == alone[0] + "---\n" + alone[1]


def test_samples_of_several_prompts_do_not_depend_on_each_other(call, model):
    both = call("--model", model, "-p", "ay", "-p", "me! what light", "--num-samples", 2, "--json")[1]
    records = [json.loads(line) for line in both.splitlines()]
    assert [(record["prompt_number"], record["sample"]) for record in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({record["continuation"] for record in records}) == 4
    first = json.loads(call("--model", model, "-p", "ay", "--json")[1])
    assert first.pop("logprob") == pytest.approx(records[0]["logprob"], abs=1e-3)
    assert first == {name: value for name, value in records[0].items() if name != "logprob"}
    for record in records:
        assert record["logprob"] < 0
        assert record["finished"] or record["tokens"] == 200


def test_the_prompt_is_left_out_on_request(call, model):
    echoed = call("--model", model, "-p", "ROMEO:", "--greedy", "-n", 5)[1]
    assert call("--model", model, "-p", "ROMEO:", "--greedy", "-n", 5, "--no-echo")[1] == echoed[len("ROMEO:") :]


def test_a_stop_text_ends_a_continuation_and_is_left_out(call, model):
    whole = json.loads(call("--model", model, "-p", "ROMEO:", "-n", 60, "--json")[1])["continuation"]
    stop = whole[20:22]
    record = json.loads(call("--model", model, "-p", "ROMEO:", "-n", 60, "--json", "--stop", stop)[1])
    assert record["continuation"] == whole[: whole.index(stop)]
    assert record["finished"]


def test_a_text_can_begin_from_nothing(call, model, tmp_path):
    assert call("--model", model, "-p", "", "-n", 5)[0] == 0
    endless = write_model(tmp_path / "endless", document_end=False)
    status, out, _ = call("--model", endless, "-p", "", "-n", 50)
    assert status == 0
    assert len(out) == 51  # without an end in its training text it never ends


def test_a_long_prompt_is_read_from_its_end_with_a_warning(call, model):
    status, out, err = call("--model", model, "-p", "a" * 30 + "ROMEO:", "-n", 3, "--greedy", "--engine", "torch")
    assert status == 0
    assert out.startswith("a" * 30 + "ROMEO:")
    assert err == "warning: prompt 1 has 36 tokens and is truncated to its last 16, the model's maximum\n"


def test_a_terminal_sees_the_text_grow_and_the_same_text(call, model, monkeypatch):
    plain = call("--model", model, "-p", "ROMEO:", "-n", 12)[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert call("--model", model, "-p", "ROMEO:", "-n", 12)[1] == plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "nowhere: the model folder does not exist"),
        (["--max-new-tokens", "0"], "max new tokens must be at least 1"),
        (["--temperature", "-1"], "temperature must be a positive number"),
        (["--top-k", "-1"], "--top-k must be at least 0, not -1"),
        (["--greedy", "--num-samples", "2"], "--greedy writes one text, but --num-samples is 2"),
        (["--stop", ""], "--stop needs a text, but the given one is empty"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, model, arguments, message):
    given = [] if "--model" in arguments else ["--model", model]
    status, out, err = call(*given, *arguments, "--prompt", "ROMEO:")
    assert status == 2
    assert message in err
    assert "internal error" not in err
    assert out == ""


def test_a_translation_model_is_refused(call, tmp_path):
    path = write_model(tmp_path / "ende", "translation", "encoder-decoder")
    status, _, err = call("--model", path, "-p", "a")
    assert status == 2
    assert "is a translation model, not a language model" in err
    assert f"nlpcli translate --model {path}" in err


def test_without_a_run_it_says_how_to_make_one(run):
    done = run("generate", "--prompt", "ROMEO:")
    assert done.returncode == 2
    assert "nlpcli pretrain --objective clm" in done.stderr
