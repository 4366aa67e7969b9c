"""What an input holds never steers the terminal of who looks at it."""

from __future__ import annotations

import io
import json
import re

import pytest

from nlpcli.cli.main import main

TITLE = "\x1b]0;title\x07"
SENTENCES = [
    ["score", "--metric", "wer", "--alignment", "--ref", "ref", "hyp"],
    ["score", "--metric", "accuracy", "--ref", "ref", "hyp"],
    ["score", "--metric", TITLE, "--ref", "ref", "hyp"],
    ["score", "--metric", "bleu", "--ref", f"no{TITLE}such", "hyp"],
    ["score", "--metric", "bleu", "--ref", "ref", "hyp", f"--no{TITLE}option"],
    [f"no{TITLE}command"],
    ["inspect", "ref"],
    ["inspect", f"file{TITLE}"],
    ["inspect", f"no{TITLE}file"],
    ["inspect", "lines.jsonl"],
    ["inspect", "ref", "hyp"],
    ["config", "show", TITLE],
    ["config", "show", "a.yaml"],
    ["pretrain", "--objective", TITLE, "--data", "ref"],
    ["pretrain", "--objective", "clm", "--data", "ref", "--set", f"model.{TITLE}=1"],
    ["pretrain", "--objective", "clm", "--data", "ref", "--set", f"model.norm={TITLE}"],
    ["pretrain", "--objective", "clm", "--data", "ref", "--set", "model.norm=a\nb"],
    ["pretrain", "--objective", "clm", "--data", "ref", "--config", "a.yaml"],
    ["finetune", "--task", TITLE, "--train", "ref"],
    ["finetune", "--task", "classify", "--train", "ref", "--dev", "ref"],
    ["compare", "a.yaml", "--dry-run"],
    ["tokenize", "train", "--type", TITLE, "--out", "tok", "ref"],
    ["predict", "--model", TITLE],
    ["translate", "--model", f"a\nb{TITLE}"],
    ["report", f"no{TITLE}run"],
    ["search", "--corpus", TITLE, "x"],
]


@pytest.mark.parametrize("line", SENTENCES, ids=lambda line: " ".join(line).encode("unicode_escape").decode()[:60])
def test_controls_of_the_input_are_spelled_out(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref").write_text(f"a small cat{TITLE}\tgood{TITLE}\nit sat\tgood\n")
    (tmp_path / "hyp").write_text(f"a {TITLE}smaller cat\tbad\nit {TITLE} stood\tgood{TITLE}\n")
    (tmp_path / f"file{TITLE}").write_text("a line\n")
    (tmp_path / "lines.jsonl").write_text(json.dumps({TITLE: TITLE}) + "\n")
    (tmp_path / "a.yaml").write_text(json.dumps({TITLE: 1, "model": {"norm": TITLE}}))
    main(line)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "\x1b" not in text and "\x07" not in text
    messages = [part for part in err.splitlines() if part.startswith("nlpcli: ")]
    assert len(messages) <= 1 and "internal error" not in err
    if messages:
        assert err.splitlines()[err.splitlines().index(messages[0]) + 1 :] in ([], [err.splitlines()[-1]])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TINY = [
    *("--set", "tokenizer.type=chars", "--set", "model.d_model=8", "--set", "model.d_ff=8", "--set", "model.heads=2"),
    *("--max-steps", "1", "--precision", "float32", "--device", "cpu"),
]
ON_A_TERMINAL = [
    ["generate", "--model", "lm", "--prompt", f"a{TITLE}\nb", "--max-new-tokens", "1"],
    ["generate", "--model", "lm", "--prompt", f"a{TITLE}", "--num-samples", "2", "--max-new-tokens", "1"],
    ["predict", "--model", "cls", "lines"],
    ["predict", "--model", "cls", "--json", "lines"],
    ["evaluate", "--model", "cls", "--worst", "3", "--confusion", "c.tsv"],
    ["translate", "--model", "mt", "--target-prefix", TITLE, "--max-length", "14", "lines"],
    ["translate", "--model", "mt", "--json", "--max-length", "2", "lines"],
    ["search", "--model", "lm", "--corpus", "lines", f"a{TITLE}"],
    ["search", "--model", "lm", "--corpus", "lines", "--json", f"a{TITLE}"],
    ["cluster", "--model", "lm", "--k", "1", "lines"],
    ["cluster", "--model", "lm", "--k", "1", "--summary", "lines"],
    ["embed", "--model", "lm", "--tokens", "lines"],
    ["tokenize", "encode", "lm", "--unit", "tokens", "lines"],
    ["tokenize", "decode", "lm", "ids"],
    ["tokenize", "info", "lm", "lines"],
    ["score", "perplexity", "--model", "lm", "lines"],
    ["score", "wer", "--alignment", "--ref", "lines", "lines"],
    ["inspect", "lm"],
    ["inspect", "cls"],
    ["inspect", "lines"],
    ["report", "mt"],
    ["report", "cls", "--json"],
    ["visualize-attention", "--model", "lm", f"a{TITLE}"],
    ["visualize-attention", "--model", "lm", "--json", f"a{TITLE}"],
    ["visualize-attention", "--explain", f"a cat{TITLE}"],
    ["convert", "--to", "huggingface", "--json", "lm", f"hf{TITLE}"],
    ["config", "show", "extra.yaml"],
]


@pytest.fixture(scope="module")
def small_models(tmp_path_factory):
    """A language model, a classifier and a translator that have learned from control sequences."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "lines").write_text(f"a {TITLE} cat\nit sat \x9b2J on\x7f the mat\n")
    (folder / "text").write_text(f"a {TITLE} cat\nit sat \x9b2J on\x7f the mat\n" * 20)
    (folder / "c.tsv").write_text(f"a{TITLE} cat\tgood\na \x9b2J dog\tbad\n" * 6)
    (folder / "extra.yaml").write_text(json.dumps({"description": TITLE, "extends": "gpt-mini"}))
    pair = ["text", "text"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            ["pretrain", "--objective", "clm", "--preset", "gpt-mini", *TINY, "--set", "model.decoder_layers=1",
             "--data", "text", "--out", "lm"],
            ["finetune", "--task", "classify", "--model", "lm", "--train", "c.tsv", "--dev", "c.tsv",
             "--max-steps", "1", "--out", "cls"],
            ["finetune", "--task", "translation", "--model", "transformer-tiny", *TINY,
             "--train", *pair, "--dev", *pair, "--out", "mt"],
            ["tokenize", "encode", "lm", "lines", "--out", "ids"],
        ):  # fmt: skip
            assert main(line) == 0
    return folder


@pytest.mark.parametrize("line", ON_A_TERMINAL, ids=lambda line: ascii(" ".join(line))[1:70])
def test_results_on_a_terminal_have_no_controls(small_models, monkeypatch, capsys, line):
    monkeypatch.chdir(small_models)
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    status = main(line)
    assert status == 0, capsys.readouterr().err
    for text in (screen.getvalue(), capsys.readouterr().err):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_a_file_and_a_pipe_get_the_text_as_it_is(small_models, monkeypatch, capsys):
    monkeypatch.chdir(small_models)
    assert main(["cluster", "--model", "lm", "--k", "1", "lines"]) == 0
    assert f"1\ta {TITLE} cat\n" in capsys.readouterr().out.replace("0\t", "1\t")


def test_colors_of_attention_weights_are_the_only_controls(small_models, monkeypatch):
    monkeypatch.chdir(small_models)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    assert main(["visualize-attention", "--model", "lm", "--color", "always", f"a{TITLE}"]) == 0
    text = screen.getvalue()
    assert "\x1b[" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[0-9;]*m", "", text))
