"""`nlpcli score perplexity` as a shell runs it."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.commands.score.perplexity import PerplexitySettings, perplexity_of
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.runs.text_metrics import MEASURED
from nlpcli.text import train_tokenizer

TEXT = "the cat sat on the mat\n" * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("perplexity")
    torch.manual_seed(1)
    tokenizer = train_tokenizer("chars", [TEXT], vocab_size=None, byte_fallback=False, seed=1)
    config = TransformerConfig(kind="decoder", d_model=16, heads=2, d_ff=16, decoder_layers=1, positions="rotary")
    model = build_model(config, tokenizer.vocab_size)
    info = {"task": "language-model", "context": 8, "document_end": False}
    save_model(path / "runs/lm", weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    for name in ("a.txt", "b.txt"):
        (path / name).write_text(TEXT)
    return path


@pytest.fixture
def call(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["score", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def test_each_measure_stands_on_a_line_with_its_count_and_signature(call, folder):
    status, out, err = call("perplexity", "--model", "runs/lm", "--stride", 4, "a.txt", "--decimals", 6)
    assert (status, err) == (0, "")
    expected = perplexity_of(folder / "runs/lm", [str(folder / "a.txt")], PerplexitySettings(stride=4), notify=print)
    assert out.splitlines() == [score.line(6) for score in expected[str(folder / "a.txt")]]
    tokens = len(load_model(folder / "runs/lm").tokenizer.encode([TEXT])[0]) - 1
    assert f"({tokens} tokens) perplexity|level:token|window:8|stride:4|tok:chars-" in out


def test_the_newest_language_model_reads_standard_input(run, folder):
    done = run("score", "perplexity", "--score-only", stdin=TEXT, cwd=folder)
    assert done.returncode == 0 and len(done.stdout.split()) == 5
    assert done.stderr.startswith("model: runs/lm (the newest language model; choose another one with --model)\nloss|")


def test_several_texts_stand_under_each_other(call):
    status, out, _ = call("--metric", "perplexity", "a.txt", "b.txt", "--model", "runs/lm", "--documents", "lines")
    assert status == 0
    rows = [line.split() for line in out.splitlines() if line.startswith(("a.txt", "b.txt"))]
    assert len(rows) == 10 and rows[0][1] == rows[1][1]
    assert "|documents:lines|nlpcli:" in out


def test_json_has_every_score_in_full(call):
    scores = json.loads(call("perplexity", "a.txt", "--model", "runs/lm", "--json")[1])["scores"]
    assert [score["metric"] for score in scores] == [
        "loss",
        "perplexity",
        "word_perplexity",
        "byte_perplexity",
        "bits_per_byte",
    ]
    assert [score["metric"] for score in scores] == list(MEASURED), "the training log has the same names"
    assert {score["file"] for score in scores} == {"a.txt"} and all("signature" in score for score in scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["perplexity", "a.txt", "--ref", "b.txt"], "--ref has no effect on the metric perplexity"),
        (["perplexity", "a.txt", "--lowercase"], "--lowercase has no effect on the metric perplexity"),
        (["perplexity", "a.txt", "--confidence"], "--confidence has no effect on the metric perplexity"),
        (["perplexity,bleu", "a.txt"], "combined with other metrics"),
        (["bleu", "a.txt", "--ref", "b.txt", "--stride", "3"], "--stride has an effect only on the metric"),
        (["bleu", "a.txt", "--ref", "b.txt", "--context", "3"], "--context has an effect only on the metric"),
        (["bleu", "a.txt"], "the references are missing"),
        (["perplexity", "a.txt", "--memory-length", "3"], "has no memory"),
        (["perplexity", "nowhere.txt"], "nowhere.txt: no such file"),
        (["perplexity", "a.txt", "--json", "--score-only"], "can't be used together"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in err and "internal error" not in err
