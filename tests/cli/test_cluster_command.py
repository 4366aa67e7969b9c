from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

LINES = ["a dog runs", "the sun shines", "a dog plays", "the sun rises", "a dog barks", ""]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs the command in this process, in an empty folder: (status, lines of stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object, stdin: str = "") -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main(["cluster", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err

    return run_it


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    tokenizer = train_tokenizer("words", LINES, vocab_size=None, seed=1)
    config = TransformerConfig(kind="encoder", d_model=16, heads=2, d_ff=16, encoder_layers=1, max_length=64)
    path = tmp_path_factory.mktemp("cluster") / "model"
    weights = build_model(config, tokenizer.vocab_size).state_dict()
    save_model(path, weights=weights, config=config, tokenizer=tokenizer, info={"task": "encoder"})
    return path


def cloud(*directions, spread=0.05):
    """Vectors around directions of the plane, in degrees, and of different lengths."""
    rng = np.random.default_rng(1)
    angles = np.radians(directions) + spread * rng.normal(size=len(directions))
    return (rng.uniform(1, 9, len(directions)) * np.array([np.cos(angles), np.sin(angles)])).T


@pytest.fixture
def far_apart(tmp_path):
    """Six lines in three directions: three, two and one of them."""
    np.save(tmp_path / "v.npy", cloud(0, 120, 0, 120, 0, 240))
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in LINES), "utf-8")
    return ["--vectors", "v.npy", "lines.txt"]


@pytest.mark.parametrize("how", [["--k", 3], ["--distance-threshold", 0.5]])
def test_lines_that_lie_together_are_one_group_the_largest_first(call, far_apart, how):
    status, out, err = call(*far_apart, *how)
    assert (status, err) == (0, "")
    assert out == [f"{group}\t{line}" for group, line in zip([1, 2, 1, 2, 1, 3], LINES, strict=True)]


def test_the_summary_gives_size_and_most_central_line(call, far_apart, tmp_path):
    vectors = cloud(10, 120, 0, 120, -12, 240, spread=0)
    np.save(tmp_path / "v.npy", vectors)
    _, out, _ = call(*far_apart, "--k", 3, "--summary")
    assert out == ["1\t3\ta dog plays", "2\t2\tthe sun shines", "3\t1\t"]
    _, out, _ = call(*far_apart, "--k", 3, "--summary", "--json")
    assert json.loads(out[0]) == {"cluster": 0, "size": 3, "line": 3, "text": "a dog plays"}


def test_the_border_decides_how_many_groups_there_are(call, far_apart):
    sizes = [
        len({line.split("\t")[0] for line in call(*far_apart, "--distance-threshold", d)[1]}) for d in (1e-9, 0.5, 1.99)
    ]
    assert sizes == [6, 3, 1]


def test_lines_are_embedded_when_there_are_no_vectors_yet(run, model):
    text = "".join(f"{line}\n" for line in LINES)
    done = run("cluster", "--model", model, "--k", 2, "--json", stdin=text)
    assert done.returncode == 0 and "vectors: dimension 16" in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["text"] for one in found] == LINES
    assert {one["cluster"] for one in found} == {0, 1}
    again = run("cluster", "--model", model, "--k", 2, "--json", "--seed", 1, stdin=text)
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither --k nor --distance-threshold is given"),
        (["--k", 2, "--distance-threshold", 0.5], "can't be used together"),
        (["--distance-threshold", 3], "--distance-threshold must be above 0 and at most 2, not 3"),
        (["--k", 7], "6 different lines can't form 7 clusters"),
        (["--k", 2, "none.txt"], "none.txt: no such file"),
        (["--k", 2, "empty.txt"], "v.npy has 6 vectors, but empty.txt has 0 lines"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, far_apart, arguments, message, tmp_path):
    (tmp_path / "empty.txt").write_text("", "utf-8")
    given = far_apart[:-1] if str(arguments[-1:]).endswith(".txt']") else far_apart
    status, out, err = call(*given, *arguments)
    assert status == 2 and out == []
    assert message in err and "internal error" not in err


def test_what_has_no_effect_is_reported(call, far_apart):
    for options in [
        ["--pooling", "max"],
        ["--model", "m"],
        ["--layers", "-1"],
        ["--max-length", 3],
        ["--device", "cpu"],
    ]:
        status, _, err = call(*far_apart, "--k", 2, *options)
        assert status == 2 and "can't be used together" in err and options[0] in err


def test_a_library_that_is_not_there_is_named_with_its_extra(call, far_apart, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, _, err = call(*far_apart, "--k", 2)
    assert status == 2
    assert "clustering needs sklearn, which is not installed" in err and "pip install 'nlpcli[cluster]'" in err


def test_nothing_can_not_be_grouped(call, model):
    status, _, err = call("--model", model, "--k", 2)
    assert status == 2 and "there are no lines to cluster in" in err
