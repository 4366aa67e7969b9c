"""`nlpcli score minimal-pairs` as a shell runs it."""

from __future__ import annotations

import json

import pytest
import torch

import nlpcli
from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

LONG = "coordinate_structure_constraint_complex_left_branch"  # the longest name in BLiMP
WORDS = ["the", "cat", "sat", "on", "the", "mat", "and", "dogs", "bark", "at", "all", "cats"]


def record(number, uid, field):
    good = [WORDS[(number * step) % len(WORDS)] for step in range(1, 5)]
    texts = {"sentence_good": " ".join(good), "sentence_bad": " ".join(good[::-1])}
    return json.dumps({**texts, "UID": uid, "linguistics_term": f"{field}_term", "field": field})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    torch.manual_seed(1)
    tokenizer = train_tokenizer("chars", [" ".join(WORDS)], vocab_size=None, byte_fallback=False, seed=1)
    config = TransformerConfig(kind="decoder", d_model=16, heads=2, d_ff=16, decoder_layers=1, positions="rotary")
    model = build_model(config, tokenizer.vocab_size)
    save_model(path / "runs/lm", weights=model.state_dict(), config=config, tokenizer=tokenizer,
               info={"task": "language-model", "context": 64})  # fmt: skip
    (path / "data").mkdir()
    for uid, field in ((LONG, "syntax"), ("short", "syntax"), ("npi", "semantics")):
        (path / f"data/{uid}.jsonl").write_text("".join(record(n, uid, field) + "\n" for n in range(10)))
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


def test_a_table_for_each_level_fits_a_terminal_and_ends_with_the_mean(call):
    status, out, err = call("minimal-pairs", "--model", "runs/lm", "data", "--confidence")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines()[:-1])) <= 80
    headings = [line.split()[0] for line in out.splitlines() if "95 % interval" in line]
    assert headings == ["paradigm", "phenomenon", "field"]
    assert out.splitlines()[-2].startswith("mean of 3 paradigms: ") and "(30 pairs, " in out.splitlines()[-2]
    assert out.splitlines()[-1].startswith("accuracy|level:mean|paradigms:3|pairs:30|ties:wrong|logprob:sum|start:")


def test_json_has_the_scores_of_all_levels_and_python_the_same(call):
    status, out, _ = call("blimp", "--model", "runs/lm", "data", "--confidence", "--bootstrap-samples", 50, "--json")
    found = json.loads(out)
    assert status == 0 and (found["pairs"], found["model"]) == (30, "runs/lm")
    levels = [score["level"] for score in found["scores"]]
    assert levels == ["paradigm"] * 3 + ["phenomenon"] * 2 + ["field"] * 2 + ["mean"]
    assert all(score["low"] <= score["value"] <= score["high"] for score in found["scores"])
    scores = nlpcli.load("runs/lm").minimal_pairs("data", confidence=True, bootstrap_samples=50)
    same = [score.as_dict() for level in scores.levels().values() for score in level.values()]
    assert same == found["scores"] and (scores.pairs, scores.ties) == (30, found["ties"])


def test_a_line_for_each_pair_has_both_log_probabilities(call):
    plain = call("minimal-pairs", "--model", "runs/lm", "data", "--sentence", "--decimals", 6)[1].splitlines()
    rows = [json.loads(line) for line in call("minimal-pairs", "data", "--sentence", "--json")[1].splitlines()]
    assert plain == [f"{row['logprob_good']:.6f}\t{row['logprob_bad']:.6f}" for row in rows] and len(rows) == 30
    mean = float(call("minimal-pairs", "data", "--score-only")[1])
    assert mean == pytest.approx(100 * sum(row["correct"] for row in rows) / 30, abs=0.01)


def test_pairs_come_from_standard_input(run, folder):
    done = run("score", "minimal-pairs", "--score-only", stdin="the cat\tcat the\n", cwd=folder)
    assert done.returncode == 0 and done.stdout in ("0.00\n", "100.00\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minimal-pairs", "data", "--ref", "x"], "--ref has no effect on the metric minimal-pairs"),
        (["minimal-pairs", "data", "--stride", "3"], "--stride has no effect on the metric minimal-pairs"),
        (["minimal-pairs,bleu", "data"], "the metric minimal-pairs can't be combined"),
        (["bleu", "x", "--ref", "x", "--pll", "original"], "--pll has an effect only on the metric minimal-pairs"),
        (["bleu", "x", "--ref", "x", "--model", "m"], "only on the metric perplexity and minimal-pairs"),
        (["minimal-pairs", "data", "--pll", "l2r"], "unknown pseudo-log-likelihood 'l2r'"),
        (["minimal-pairs", "data", "--pll", "original"], "--pll has no effect on runs/lm"),
        (["minimal-pairs", "runs"], "contains no file of minimal pairs"),
    ],
)
def test_wrong_calls_are_named(call, arguments, message):
    status, out, err = call(*arguments)
    assert status == 2 and out == "" and message in err


def test_who_looks_for_blimp_among_the_suites_is_told_where_it_is(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "--suite", "blimp", "--model", "runs/lm", "data"]) == 2
    assert "nlpcli score minimal-pairs --model runs/lm data" in capsys.readouterr().err
