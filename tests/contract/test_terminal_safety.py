"""What an input holds never steers the terminal of who looks at it."""

from __future__ import annotations

import json

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
    told = [part for part in err.splitlines() if part.startswith("nlpcli: ")]
    assert len(told) <= 1 and "internal error" not in err
    if told:
        assert err.splitlines()[err.splitlines().index(told[0]) + 1 :] in ([], [err.splitlines()[-1]])
