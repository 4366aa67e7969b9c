"""`nlpcli pretrain --model`: another text, or another objective, from a model that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.training.training_log import read_metrics

SMALL = [
    f"--set={setting}"
    for setting in (
        "tokenizer.type=chars", "training.precision=float32", "training.warmup_steps=0", "training.batch_tokens=256",
        "data.context=16", "data.workers=1", "training.schedule=constant", "training.evaluate_every=100",
    )
]  # fmt: skip
SHAPE = [f"--set=model.{name}" for name in ("d_model=16", "heads=2", "d_ff=16", "encoder_layers=1", "dropout=0.0")]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder with a text: (status, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("One two three four. Five six.\nSeven eight.\n\n" * 60, encoding="utf-8")

    def run_it(*arguments: object) -> tuple[int, str]:
        status = main(["pretrain", "--data", "text.txt", *map(str, arguments)])
        return status, capsys.readouterr().err

    return run_it


def losses(run: str) -> list[float]:
    return [line["loss"] for line in read_metrics(Path(run)) if line["kind"] == "dev"]


def test_pretraining_goes_on_from_a_model_with_its_tokenizer_and_weights(call):
    first = ["--objective", "mlm", "--preset", "roberta-nano", "--max-steps", 60, "--lr", 0.01]
    status, err = call(*first, *SMALL, *SHAPE, "--out", "a")
    assert status == 0, err
    status, err = call("--objective", "mlm", "--model", "a", *SMALL, "--max-steps", 1, "--lr", 1e-6, "--out", "b")
    assert status == 0, err
    assert losses("b")[-1] == pytest.approx(losses("a")[-1], rel=0.02)
    tokenizers = [Path(run, "tokenizer/tokenizer.yaml").read_text() for run in ("a", "b")]
    assert tokenizers[0] == tokenizers[1]


def test_heads_that_another_objective_needs_are_new(call):
    first = ["--objective", "mlm", "--preset", "bert-nano", "--max-steps", 2]
    status, err = call(*first, *SMALL, *SHAPE, "--out", "a")
    assert status == 0, err
    status, err = call("--objective", "mlm+sop", "--model", "a", *SMALL, "--max-steps", 2, "--out", "b")
    assert status == 0 and "new weights: pooler.dense.weight" in err, err


def test_a_preset_beside_a_model_is_refused(call):
    status, err = call("--objective", "mlm", "--model", "a", "--preset", "bert-nano")
    assert status == 2 and "can't be used together" in err
