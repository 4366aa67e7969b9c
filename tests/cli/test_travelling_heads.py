"""What `nlpcli finetune` leaves, written by `nlpcli convert`: `transformers` and `predict` say the same of texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nlpcli.cli.main import main

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

WARM, COLD = ("red", "yellow", "white"), ("blue", "black", "green")
BEASTS = ("cat", "dog", "cow", "hen")
LINES = [(f"the {colour} {beast}", f"a {colour} one", colour) for colour in (*WARM, *COLD) for beast in BEASTS]
MODEL = """
model: {kind: encoder, d_model: 32, heads: 2, d_ff: 64, encoder_layers: 1, positions: learned, max_length: 64,
        norm_position: post, embedding_norm: true, activation: gelu, segments: 2, scale_embeddings: false, dropout: 0.1}
tokenizer: {type: wordpiece, vocab_size: 60}
"""
SMALL = ["--lr", "0.01", "--batch-size", "8", "--max-steps", "60", "--set", "training.precision=float32",
         "--set", "training.threads=1", "--set", "data.max_length=32"]  # fmt: skip


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in an empty folder, which must succeed: its stdout."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(MODEL)

    def run(*arguments: object) -> str:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return captured.out

    return run


def table(path: str, *columns: str) -> None:
    rows = ["\t".join(columns)]
    for text, other, colour in LINES:
        label = {"label": "warm" if colour in WARM else "cold", "score": "4.5" if colour in WARM else "1"}
        values = {"text": text.title(), "text2": other, **label}
        rows.append("\t".join(values[column] for column in columns))
    Path(path).write_text("".join(f"{row}\n" for row in rows))


def test_a_trained_classifier_of_pairs_says_the_same_there_and_is_used_from_there(call):
    table("train.tsv", "text", "text2", "label")
    call("finetune", "--task", "classify", "--train", "train.tsv", "--dev", "train.tsv", "--model", "tiny.yaml", *SMALL,
         "--out", "runs/x")  # fmt: skip
    assert (
        "BertForSequenceClassification"
        in json.loads(call("convert", "--to", "huggingface", "runs/x", "hf", "--json")).values()
    )
    Path("in.tsv").write_text("".join(f"{a}\t{b}\n" for a, b, _ in LINES))
    predictions = call("predict", "--model", "runs/x", "--format", "lines", "in.tsv", "--json").splitlines()
    assert call("predict", "--model", "hf", "--format", "lines", "in.tsv", "--json").splitlines() == predictions
    model = transformers.AutoModelForSequenceClassification.from_pretrained("hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("hf")
    firsts, seconds = ([line[i] for line in LINES] for i in (0, 1))
    with torch.inference_mode():
        chances = model(**tokenizer(firsts, seconds, padding=True, return_tensors="pt")).logits.softmax(-1)
    for line, row in zip(predictions, chances, strict=True):
        found = json.loads(line)
        assert found["label"] == model.config.id2label[int(row.argmax())]
        assert found["probability"] == pytest.approx(float(row.max()), abs=1e-4)
    ours, theirs = (json.loads(call("evaluate", "--model", folder, "--data", "train.tsv", "--json"))
                    for folder in ("runs/x", "hf"))  # fmt: skip
    assert ours["scores"] == theirs["scores"]


def test_scores_learnt_by_low_rank_adapters_are_in_the_datas_units_there(call):
    table("train.tsv", "text", "score")
    call("finetune", "--task", "regress", "--train", "train.tsv", "--dev", "train.tsv", "--model", "tiny.yaml", *SMALL,
         "--label", "score", "--out", "runs/x")  # fmt: skip
    call("finetune", "--task", "regress", "--train", "train.tsv", "--dev", "train.tsv", "--model", "runs/x", *SMALL,
         "--label", "score", "--set", "tuning.lora_rank=4", "--out", "runs/y")  # fmt: skip
    call("convert", "--to", "huggingface", "runs/y", "hf")
    model = transformers.AutoModelForSequenceClassification.from_pretrained("hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("hf")
    texts = [line[0] for line in LINES]
    with torch.inference_mode():
        found = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0].clamp(1, 4.5)
    Path("in.txt").write_text("".join(f"{text}\n" for text in texts))
    predictions = [float(line) for line in call("predict", "--model", "runs/y", "in.txt").split()]
    assert predictions == pytest.approx(found.tolist(), abs=1e-3)
    assert max(predictions) > 3.5
    assert min(predictions) < 2
