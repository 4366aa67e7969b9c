"""`--suite` of `nlpcli finetune` and `nlpcli evaluate`, as a shell runs them, on folders as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.cli.suite_options import _again

COLOURS = ["red", "green", "blue", "black"]
BEASTS = ["cat", "dog", "cow"]
MODEL = """
model: {kind: encoder, d_model: 32, heads: 2, d_ff: 64, encoder_layers: 1, positions: learned, max_length: 64,
        norm_position: pre, initialization: xavier, segments: 2, scale_embeddings: false, dropout: 0.0}
tokenizer: {type: words, vocab_size: 60}
"""
SMALL = ["--model", "tiny.yaml", "--lr", "0.01", "--batch-size", "8", "--max-steps", "40", "--threads", "1",
         "--precision", "float32", "--set", "data.max_length=32"]  # fmt: skip


def score_in(found, metric):
    """The score of a metric in the JSON of an evaluation."""
    return next(score for score in found["scores"] if score["metric"] == metric)


def put(path: str, rows) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def but(usual, *given):
    """`given`, and what is left of `usual` without the options, and their values, that `given` names."""
    named = [place for place, word in enumerate(usual) if word in given and str(word).startswith("--")]
    return [*given, *(word for place, word in enumerate(usual) if place not in named and place - 1 not in named)]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder: its stdout and stderr; it must end with the status given."""
    monkeypatch.chdir(tmp_path)
    put("tiny.yaml", [MODEL])

    def run_it(*arguments: object, status: int = 0):
        found = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out, captured.err

    return run_it


def glue(*tasks: str) -> None:
    """Red is acceptable, and a pair is about one beast or not."""
    names = [f"the {colour} {beast}" for colour in COLOURS for beast in BEASTS]
    pairs = [(f"a {first}", f"one {second}") for first in BEASTS for second in BEASTS] * 2
    files = {
        "CoLA": [f"gj04\t{int('red' in text)}\t\t{text}" for text in names],
        "MRPC": [
            "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
            *(f"{int('cat' in a)}\t1\t2\t{a}\t{b}" for a, b in pairs),
        ],
        "STS-B": ["sentence1\tsentence2\tscore", *(f"{a}\t{b}\t{5 * ('cow' in b)}.0" for a, b in pairs)],
    }
    for task in tasks:
        for split in ("train", "dev"):
            put(f"GLUE/{task}/{split}.tsv", files[task])
    put("GLUE/CoLA/test.tsv", ["index\tsentence", *(f"{i}\t{text}" for i, text in enumerate(names))])


def test_a_suite_is_learnt_task_by_task_and_measured_as_a_whole(call):
    glue("CoLA", "MRPC", "STS-B")
    out, _ = call("finetune", "--suite", "glue", "--train", "GLUE", *SMALL, "--out", "runs/glue")
    table = [line.split() for line in out.splitlines()]
    assert [row[0] for row in table[:5]] == ["task", "CoLA", "MRPC", "STS-B", "average"]
    assert "partial: 3 of 9 tasks; no data: SST-2, QQP, MNLI, QNLI, RTE, WNLI" in out
    assert out.count("nlpcli:") == 5  # a signature for each of the five metrics

    found = json.loads(call("evaluate", "--suite", "glue", "--model", "runs/glue", "--data", "GLUE", "--json")[0])
    scores = {name: task["score"] for name, task in found["tasks"].items()}
    assert [f"{value:.2f}" for value in scores.values()] == [row[-1] for row in table[1:4]]
    assert found["average"] == pytest.approx(sum(scores.values()) / 3) and found["partial"]
    assert scores["CoLA"] == 100 and scores["MRPC"] > 90 and scores["STS-B"] > 80
    parts = {score["metric"]: score["value"] for score in found["tasks"]["MRPC"]["scores"]}
    assert parts["mean"] == pytest.approx((parts["f1"] + parts["accuracy"]) / 2)
    assert score_in(found["tasks"]["CoLA"], "mcc")["low"] <= 100

    put("in.txt", ["the red dog", "the blue cow"])
    assert [line.split("\t")[0] for line in call("predict", "--model", "runs/glue/cola", "in.txt")[0].splitlines()] == [
        "1", "0",
    ]  # fmt: skip
    out, _ = call("predict", "--model", "runs/glue/cola", "--format", "tsv", "GLUE/CoLA/dev.tsv")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["1"] * 3 + ["0"] * 9

    call("evaluate", "--suite", "glue", "--model", "runs/glue/cola", "--data", "GLUE", "--only", "cola",
         "--predictions", "new/answers")  # fmt: skip
    answers = Path("new/answers/CoLA.tsv").read_text().splitlines()
    assert answers == ["index\tprediction", *(f"{i}\t{int(i < 3)}" for i in range(12))]


def test_done_tasks_are_not_learnt_again_and_a_bad_one_does_not_stop_the_others(call):
    glue("CoLA", "MRPC")
    good = Path("GLUE/CoLA/train.tsv").read_text()
    put("GLUE/CoLA/train.tsv", ["gj04\tonly two"])
    call_it = ["finetune", "--suite", "glue", "--train", "GLUE", *but(SMALL, "--max-steps", "2", "--out", "runs/glue")]
    out, err = call(*call_it, status=1)
    assert "CoLA/train.tsv:1" in err and "--resume" in err
    assert "no model: CoLA" in out and out.splitlines()[1].startswith("MRPC")
    before = Path("runs/glue/mrpc/model.safetensors").stat().st_mtime_ns
    Path("GLUE/CoLA/train.tsv").write_text(good)
    out, err = call(*call_it, "--resume", "--json")
    assert list(json.loads(out)["tasks"]) == ["CoLA", "MRPC"]
    assert "runs/glue/mrpc is already finished" in err
    assert Path("runs/glue/mrpc/model.safetensors").stat().st_mtime_ns == before


def test_records_of_superglue_are_learnt_and_answered(call):
    def passage(i, labelled=True):
        answers = [
            {"text": beast, "idx": k} | ({"label": int(k == i % 3)} if labelled else {})
            for k, beast in enumerate(BEASTS)
        ]
        question = {"question": f"which {BEASTS[i % 3]}", "idx": 10 + i, "answers": answers}
        return {"idx": i, "passage": {"text": f"a {COLOURS[i % 4]} one", "questions": [question]}}

    for split in ("train", "val", "test"):
        put(f"SG/MultiRC/{split}.jsonl", [json.dumps(passage(i, split != "test")) for i in range(12)])
        rows = [{"premise": "p", "choice1": a, "choice2": b, "question": "cause", "label": k, "idx": 5}
                for a, b, k in [("red cat", "blue cat", 0), ("blue cow", "red cow", 1)] * 6]  # fmt: skip
        put(f"SG/COPA/{split}.jsonl", map(json.dumps, rows))
    call("finetune", "--suite", "superglue", "--train", "SG", *but(SMALL, "--max-steps", 10, "--out", "runs/sg"))
    out, _ = call("evaluate", "--suite", "superglue", "--model", "runs/sg", "--data", "SG", "--predictions", "answers",
                  "--json")  # fmt: skip
    tasks = json.loads(out)["tasks"]
    assert [score["metric"] for score in tasks["MultiRC"]["scores"]] == ["mean", "f1a", "em"]
    assert tasks["MultiRC"]["examples"] == 36
    answers = [json.loads(line) for line in Path("answers/MultiRC.jsonl").read_text().splitlines()]
    assert [row["idx"] for row in answers] == list(range(12))
    (question,) = answers[3]["passage"]["questions"]
    assert question["idx"] == 13 and [answer["idx"] for answer in question["answers"]] == [0, 1, 2]
    assert {answer["label"] for row in answers for q in row["passage"]["questions"] for answer in q["answers"]} <= {
        0,
        1,
    }
    assert json.loads(Path("answers/COPA.jsonl").read_text().splitlines()[0]) in [
        {"idx": 5, "label": k} for k in (0, 1)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--suite", "glue"], "--train DIR"),
        (["finetune", "--suite", "glue", "--train", "GLUE", "--dev", "x"], "leave out --dev"),
        (["finetune", "--suite", "glue", "--train", "GLUE", "--resume"], "--out"),
        (["finetune", "--suite", "gleu", "--train", "GLUE"], "did you mean 'glue'"),
        (["finetune", "--suite", "glue", "--train", "GLUE", "--only", "colla"], "did you mean 'cola'"),
        (["finetune", "--suite", "glue", "--train", "GLUE", "--only", "rte"], "no training data for RTE"),
        (["finetune", "--only", "rte", "--task", "classify"], "--only has no effect without --suite"),
        (["evaluate", "--suite", "glue", "--data", "GLUE"], "--model DIR"),
        (["evaluate", "--suite", "glue", "--data", "GLUE", "--model", "nowhere"], "the folder nowhere does not exist"),
        (["evaluate", "--suite", "glue", "--data", "GLUE", "--model", "GLUE"], "CoLA: no model"),
        (["evaluate", "--data", "GLUE", "--predictions", "x"], "--predictions has no effect without --suite"),
    ],
)
def test_what_a_suite_is_not_is_refused(call, arguments, message):
    glue("CoLA")
    out, err = call(*arguments, status=2)
    assert out == "" and message in err
    assert not Path("runs").exists()


def test_an_interrupted_suite_goes_on_with_the_same_call(monkeypatch):
    monkeypatch.setattr("sys.argv", ["nlpcli", "finetune", "--suite", "glue", "--train", "my data", "--overwrite"])
    assert _again(None, Path("runs/glue-1")) == (
        "nlpcli finetune --suite glue --train 'my data' --out runs/glue-1 --resume"
    )
    assert _again(Path("runs/x"), Path("runs/x")) == "nlpcli finetune --suite glue --train 'my data' --resume"
