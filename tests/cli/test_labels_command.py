"""Labels in and out of `finetune`, `predict`, `evaluate` and the filters of JSON objects, as a shell runs them."""

from __future__ import annotations

import json

import pytest

from nlpcli.cli.main import main
from nlpcli.data.label_text import split_labels

SMALL = ["--model", "bert-nano", "--set", "tokenizer.type=chars", "--max-steps", 1, "--precision", "float32",
         "--threads", 1]  # fmt: skip


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder: its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    run_it.folder = tmp_path
    return run_it


def write(name, text):
    with open(name, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    return name


def tuned(run, task, *more):
    status, _, err = run("finetune", "--task", task, *SMALL, *more, "--out", "m")
    assert status == 0, err
    return err


DATA = {
    "classify": ("good {0}\tpos\nbad {0}\tneg\n", "good x\tpos\nso so\tneutral\n", "tsv", "label 'neutral'"),
    "multi-label": ("good {0}\tpos,glad\nbad {0}\tneg\n", "good x\tpos,neutral\nbad\tneg\n", "tsv", "label 'neutral'"),
    "tag": ("Ann B-PER\nran{0} O\n\n", "Ann B-PER\nran O\n\nRome B-LOC\n", "conll", "with the label 'B-LOC'"),
    "choice": ("text,choice1,choice2,label\nx{0},a,b,0\ny{0},a,b,1\n", "text,choice1,choice2,label\nx,a,b,0\ny,a,b,2\n",
               "csv", "label '2'"),
    "regress": ("good {0}\t5\nbad {0}\t1\n", "good x\t5\nvery good\t6\n", "tsv", "the score 6 is outside"),
}  # fmt: skip


@pytest.mark.parametrize("task", DATA)
def test_a_dev_label_that_training_lacks_is_reported_in_one_line_and_measured_as_evaluate_does(run, task):
    train, dev, suffix, message = DATA[task]
    rows = [train.format(i) for i in range(6)]
    if suffix == "csv":
        rows[1:] = [row.partition("\n")[2] for row in rows[1:]]
    write(f"train.{suffix}", "".join(rows))
    write(f"dev.{suffix}", dev)
    err = tuned(run, task, "--train", f"train.{suffix}", "--dev", f"dev.{suffix}")
    lines = [line for line in err.splitlines() if message in line]
    assert len(lines) == 1 and f"dev.{suffix}:" in lines[0] and "warning: " in lines[0]
    status, out, err = run("evaluate", "--model", "m", "--data", f"dev.{suffix}", "--json", "--worst", 3)
    assert status == 0 and message in err
    scores = {score["metric"]: score["value"] for score in json.loads(out)["scores"]}
    assert scores.get("accuracy", 0) < 100


def test_what_is_no_label_at_all_is_refused_in_dev_data(run):
    write("train.tsv", "".join(f"good {i}\t5\nbad {i}\t1\n" for i in range(6)))
    write("dev.tsv", "good\tfine\n")
    status, _, err = run("finetune", "--task", "regress", *SMALL, "--train", "train.tsv", "--dev", "dev.tsv")
    assert status == 2 and "dev.tsv:1: the score 'fine' is not a number" in err


@pytest.fixture
def sentiment(run):
    write("train.tsv", "".join(f"good {i}\tpos\nbad {i}\tneg \n" for i in range(6)))
    err = tuned(run, "classify", "--train", "train.tsv", "--set", "data.max_length=16")
    assert "2 labels: neg, pos" in err
    return run


def test_a_blank_line_stays_blank_and_a_line_that_is_cut_is_named(sentiment):
    write("in.txt", f"good\n\n \t\n{'good ' * 20}\n\u00a0\n")
    status, out, err = sentiment("predict", "--model", "m", "in.txt")
    lines = out.split("\n")
    assert status == 0 and [bool(line) for line in lines] == [True, False, False, True, False, False]
    assert "warning: in.txt:4: the text has 100 tokens and is truncated to 14" in err and err.count("truncated") == 1
    _, out, _ = sentiment("predict", "--model", "m", "--json", "in.txt")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["label"] is None for record in records] == [False, True, True, False, True]
    write("in.json", '[{"text": "good"}, {"text": " "}]')
    _, out, _ = sentiment("predict", "--model", "m", "in.json")
    assert [bool(line) for line in out.split("\n")] == [True, False, False]


def test_texts_that_are_cut_or_missing_are_counted_by_evaluate(sentiment):
    write("dev.tsv", f"good\tpos\n{'bad ' * 20}\tneg\n \tneg\n")
    status, _, err = sentiment("evaluate", "--model", "m", "--data", "dev.tsv")
    assert status == 0
    assert "1 example is too long for the model: dev.tsv:2 (80 tokens, truncated to 14)" in err
    assert "1 example has no text but is scored; the first is dev.tsv:3" in err


def test_options_without_effect_are_refused(sentiment):
    write("in.txt", "good\n")
    for options, message in (
        (["--json", "--top", 2], "--top is for lines"),
        (["--choices", "a,b"], "--choices has no effect on a model for classify"),
    ):
        status, out, err = sentiment("predict", "--model", "m", *options, "in.txt")
        assert (status, out) == (2, "") and message.replace("--top is for lines", "--top") in err
    write("tags.conll", "".join(f"Ann B-PER\nran{i} O\n\n" for i in range(6)))
    status, _, err = sentiment("finetune", "--task", "tag", *SMALL, "--train", "tags.conll", "--out", "t")
    assert status == 0, err
    status, out, err = sentiment("predict", "--model", "t", "--top", 2, "in.txt")
    assert (status, out) == (2, "") and "--top has no effect on a model for tag" in err


def test_labels_with_commas_come_out_so_that_they_are_read_again(run):
    rows = [{"text": f"x {i}", "labels": ["Culture, arts", 'The "Fugs"', "Music"]} for i in range(6)]
    write("t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    tuned(run, "multi-label", "--train", "t.jsonl", "--set", "head.threshold=0.01")
    write("in.txt", "x\n\n")
    _, out, _ = run("predict", "--model", "m", "in.txt")
    first, second = out.removesuffix("\n").split("\n")
    assert sorted(split_labels(first)) == ["Culture, arts", "Music", 'The "Fugs"'] and second == ""
    write("again.tsv", f"text\tlabels\nx\t{first}\n")
    status, out, err = run("evaluate", "--model", "m", "--data", "again.tsv", "--json")
    assert status == 0, err
    scores = {score["metric"]: score["value"] for score in json.loads(out)["scores"]}
    assert scores["accuracy"] == 100


def test_a_semicolon_between_cells_is_reported_and_dev_examples_in_training_are_too(run):
    write("train.csv", "text;label\n" + "".join(f"good {i}, yes;pos\nbad {i};neg\n" for i in range(6)))
    write("dev.csv", "text;label\nnew;pos\nGOOD 3,  yes;neg\n")
    err = tuned(run, "classify", "--train", "train.csv", "--dev", "dev.csv")
    assert "the cells of train.csv are separated by semicolons" in err
    assert "1 of 2 dev examples is also in the training data, so the dev scores are too high" in err
    assert "the first one is dev.csv:3, in the training data train.csv:8" in err


def test_fields_of_the_input_are_never_replaced(run):
    write("train.tsv", "".join(f"good {i}\tpos\nbad {i}\tneg\n" for i in range(6)))
    tuned(run, "classify", "--train", "train.tsv")
    write("in.jsonl", '{"data": {"text": "a"}, "vector": 1}\n')
    status, out, err = run("embed", "--model", "m", "--field", "data.text", "in.jsonl")
    assert (status, out) == (2, "") and "in.jsonl:1: the object already has a field 'vector'" in err
    status, out, _ = run("embed", "--model", "m", "--field", "data.text", "--output-field", "v", "in.jsonl")
    record = json.loads(out)
    assert status == 0 and list(record) == ["data", "vector", "v"] and record["vector"] == 1
    status, _, err = run("embed", "--model", "m", "--output-field", "text", "in.jsonl")
    assert status == 2 and "which contains the text" in err


@pytest.fixture
def translator(run):
    for name, line in (("s", "a b"), ("t", "A B")):
        write(name, f"{line}\n" * 20)
    start = ["--task", "translation", "--model", "transformer-tiny", *SMALL[2:]]
    status, _, err = run("finetune", *start, "--train", "s", "t", "--dev", "s", "t", "--out", "m")
    assert status == 0, err
    assert "all 20 dev pairs are also in the training data" in err and "is s:1, in the training data s:1" in err
    return run


def test_translate_replaces_no_field_of_the_input_and_reads_lists_and_paths(translator):
    write("in.json", '[{"d": {"text": "a b"}, "translation": "x"},\n {"d": {"text": "a"}, "id": 2}]')
    status, out, err = translator("translate", "--model", "m", "--field", "d.text", "in.json")
    assert (status, out) == (2, "") and "in.json:1: the object already has a field 'translation'" in err
    status, out, _ = translator("translate", "--model", "m", "--field", "d.text", "--output-field", "mt", "in.json")
    assert status == 0 and [list(json.loads(line)) for line in out.splitlines()] == [
        ["d", "translation", "mt"], ["d", "id", "mt"],
    ]  # fmt: skip
    status, _, err = translator("translate", "--model", "m", "--field", "d", "--output-field", "d", "in.json")
    assert status == 2 and "the translation can't be written to the field 'd'" in err


def test_dev_data_without_the_second_label_is_measured(run):
    write("train.tsv", "".join(f"good {i}\tpos\nbad {i}\tneg\n" for i in range(6)))
    write("dev.tsv", "new\tneg\n")
    err = tuned(run, "classify", "--train", "train.tsv", "--dev", "dev.tsv", "--lr", 1e-9)
    assert "f1 " in err


def test_a_model_that_writes_text_leaves_blank_lines_blank_whatever_its_prefix(run):
    write("train.tsv", "".join(f"a b {i}\tb a\n" for i in range(6)))
    start = ["--task", "text-to-text", "--model", "t5-nano", *SMALL[2:], "--prefix", "sort: "]
    status, _, err = run("finetune", *start, "--train", "train.tsv", "--out", "m")
    assert status == 0, err
    write("in.txt", "\na b\n \n")
    _, out, _ = run("predict", "--model", "m", "--json", "in.txt")
    assert [json.loads(line)["prediction"] is None for line in out.splitlines()] == [True, False, True]
    _, out, _ = run("predict", "--model", "m", "in.txt")
    assert out.split("\n")[0] == out.split("\n")[2] == "" and out.count("\n") == 3
