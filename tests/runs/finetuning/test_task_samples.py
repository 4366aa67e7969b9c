"""What every kind of training leaves of its outputs, as the report reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nlpcli import presets
from nlpcli.commands.report.output_scores import final_scores
from nlpcli.commands.report.read_runs import read_run
from nlpcli.config.model_settings import DEFAULT, FAMILIES
from nlpcli.evaluation import Resampling
from nlpcli.runs.finetuning.finetune import finetune
from nlpcli.runs.pretraining.pretrain import pretrain
from nlpcli.runs.training_request import Request

MODEL = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
TRAINING = {"max_steps": 4, "evaluate_every": 2, "precision": "float32", "device": "cpu", "threads": 1, "samples": 3}
COLOURS, BEASTS = ["red", "green", "blue", "black"], ["cat", "dog", "cow"]
ROWS = [(f"the {colour} {beast}", colour, beast) for colour in COLOURS for beast in BEASTS]
MIXTURE = """
tasks:
  colour: {task: classify, train: train.tsv, dev: train.tsv, label: colour}
  copy: {prefix: "copy : ", train: train.tsv, dev: train.tsv, label: beast, max_target: 4, measure: exact-match}
"""


class Quiet:
    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.tsv").write_text("text\tcolour\tbeast\n" + "".join("\t".join(row) + "\n" for row in ROWS))
    Path("mixture.yaml").write_text(MIXTURE)
    Path("text.txt").write_text("".join(f"{a} sees {b} .\nit likes the {b} .\n\n" for a, *_ in ROWS for b, *_ in ROWS))
    for side, column in (("en", 0), ("de", 1)):
        Path(f"train.{side}").write_text("".join(row[column] + "\n" for row in ROWS * 2))


def tuned(**settings):
    training = {**TRAINING, "metric": "auto", **settings.pop("training", {})}
    model = {**MODEL, "kind": "encoder-decoder", "positions": "rotary", **settings.pop("model", {})}
    settings = {"model": model, "tokenizer": {"type": "words", "vocab_size": 140}, "training": training, **settings}
    run, _ = finetune(Request(default="t5-nano", settings=settings, out=Path("run")), Quiet())
    return read_run(run)


def own_sizes(preset):
    """The sizes of the models without those that the preset's family has not."""
    own = FAMILIES.load(presets.load(preset)["model"].get("family", DEFAULT)).model_fields
    return {name: value for name, value in MODEL.items() if name in own}


def pretrained(objective, preset, **settings):
    training = {**TRAINING, "batch_tokens": 128}
    data = {"train": ["text.txt"], "documents": "paragraphs", "context": 24, **settings.pop("data", {})}
    tokenizer = {"vocab_size": 330, "sentinels": 20}
    settings = {
        "objective": objective, "model": own_sizes(preset), "training": training, "tokenizer": tokenizer, "data": data,
        **settings,
    }  # fmt: skip
    run, _ = pretrain(Request(default=preset, settings=settings, out=Path("run")), Quiet())
    return read_run(run)


def test_a_mixture_leaves_what_each_of_its_tasks_gave():
    run = tuned(task="text-to-text", data={"mixture": "mixture.yaml", "max_length": 16})
    assert [line["step"] for line in run.samples] == [2, 4]
    assert [item["part"] for item in run.samples[0]["items"]] == ["colour"] * 3 + ["copy"] * 3
    found = {score.name: score for score in final_scores(run, Resampling(50, 1))}
    assert {name for name, score in found.items() if score.low is not None} == {
        "colour_accuracy", "colour_macro_f1", "colour_mcc", "copy_exact_match",
    }  # fmt: skip
    for name, score in found.items():
        assert score.value == pytest.approx(run.info["metrics"][name], abs=1e-5)


@pytest.mark.parametrize("sentences", [0, 7])
def test_a_translator_shows_translations_whether_bleu_is_measured_or_not(sentences):
    data = {"train": ["train.en", "train.de"], "dev": ["train.en", "train.de"]}
    run = tuned(task="translation", data=data, training={"bleu_sentences": sentences, "metric": "loss"})
    items = run.samples[-1]["items"]
    assert len(items) == 3 and all(item["source"].startswith("the ") and "output" in item for item in items)
    if sentences:
        [bleu] = [score for score in final_scores(run, Resampling(50, 1)) if score.name == "bleu"]
        assert bleu.signature.endswith("|sentences:7|beam:1") and len(run.outputs.items) == 7
    else:
        assert run.outputs is None and any("bleu_sentences is 0" in sentence for sentence in run.missing)


def test_a_masked_language_model_shows_its_guesses_in_brackets():
    run = pretrained("mlm+nsp", "bert-nano", data={"sentences": "lines"})
    for item in run.samples[-1]["items"]:
        assert item["text"].startswith("<cls>") and item["reference"].count("[") == item["output"].count("[") >= 1
        right, predicted = map(int, re.fullmatch(r"(\d+) of (\d+)", item["correct"]).groups())
        assert 0 <= right <= predicted == item["output"].count("[")
        assert {item["label"], item["predicted_label"]} <= {
            "the second segment follows the first",
            "the second segment is from elsewhere",
        }
    assert {"mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy"} <= run.outputs.measures.keys()
    assert "loss" not in run.outputs.measures  # a sum of two means is none itself


@pytest.mark.parametrize("objective, preset", [
    ("mlm", "roberta-nano"), ("mlm+nsp", "bert-nano"), ("sop", "bert-nano"), ("plm", "xlnet-nano"),
    ("denoise", "bart-nano"), ("denoise", "t5-nano"), ("gap-sentences+mlm", "pegasus-nano"),
])  # fmt: skip
def test_shares_of_every_objective_are_in_percent_wherever_they_are_written(objective, preset):
    run = pretrained(objective, preset, data={"sentences": "lines", "context": 96}, noise={"gap_ratio": 0.5})
    shares = {name for name in run.info["metrics"] if not name.endswith("loss")}
    assert any(name.endswith("accuracy") for name in shares) and any(name.endswith("baseline") for name in shares)
    logged = [line for line in run.lines if line["kind"] == "dev"][-1]
    card = (run.path / "README.md").read_text()
    again = {score.name: score for score in final_scores(run, Resampling(50, 1))}
    for name in shares:
        right, count = map(sum, zip(*(item["tallies"][name] for item in run.outputs.items), strict=True))
        assert run.info["metrics"][name] == pytest.approx(100 * right / count, abs=1e-5)
        assert logged[name] == pytest.approx(100 * right / count)
        assert f"| {name} | {100 * right / count:.4f} |" in card
        assert again[name].value == pytest.approx(100 * right / count, abs=1e-5)
        assert len(run.outputs.items) < 10 or again[name].low <= again[name].value <= again[name].high


@pytest.mark.parametrize(
    "objective, preset", [("denoise", "bart-nano"), ("denoise", "t5-nano"), ("plm", "xlnet-nano"), ("clm", "gpt-mini")]
)
def test_every_objective_shows_texts_what_is_right_and_what_was_given(objective, preset):
    run = pretrained(objective, preset)
    for line in run.samples:
        assert len(line["items"]) == 3
        assert all(item["text"] and item["reference"] and isinstance(item["output"], str) for item in line["items"])
    assert sum(item["tokens"] for item in run.outputs.items) > 0
    again = sum(item["nats"] for item in run.outputs.items) / sum(item["tokens"] for item in run.outputs.items)
    assert again == pytest.approx(run.info["metrics"]["loss"], rel=1e-4)


def test_continuations_begin_where_documents_do():
    run = pretrained("clm", "gpt-mini", tokenizer={"type": "chars"})
    for item in run.samples[-1]["items"]:
        assert item["text"].startswith("the ") and len(item["text"]) <= 32
