"""`nlpcli finetune`, `predict` and `evaluate` for every task, as a shell runs them, on a few dozen examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml

COLOURS = ["red", "green", "blue", "black", "white", "yellow"]
BEASTS = ["cat", "dog", "cow", "hen", "fox", "owl"]
MODEL = """
model:
  kind: encoder
  d_model: 32
  heads: 2
  d_ff: 64
  encoder_layers: 1
  decoder_layers: 1
  positions: learned
  max_length: 64
  norm_position: pre
  initialization: xavier
  segments: 2
  scale_embeddings: false
  dropout: 0.0
tokenizer: {type: words, vocab_size: 60}
"""
SMALL = ["--lr", "0.01", "--batch-size", "8", "--set", "training.precision=float32", "--set", "training.threads=1",
         "--set", "training.log_every=20", "--set", "data.max_length=32"]  # fmt: skip


def score_in(found, metric):
    """The score of a metric in the JSON of an evaluation."""
    return next(score for score in found["scores"] if score["metric"] == metric)


def write(path: str, lines) -> str:
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder, which must succeed: its stdout; or status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    write("tiny.yaml", [MODEL])

    def run_it(*arguments: object, whole: bool = False):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        if whole:
            return status, captured.out, captured.err
        assert status == 0, captured.err
        return captured.out

    return run_it


def finetune(task: str, *more: object, steps: int = 60, kind: str = "encoder", out: str = "runs/x") -> list:
    return ["finetune", "--task", task, "--model", "tiny.yaml", "--set", f"model.kind={kind}", *SMALL, "--out", out,
            "--max-steps", steps, *more]  # fmt: skip


def sentences() -> list[tuple[str, str]]:
    """A text, and what its colour says of it."""
    return [
        (f"the {colour} {beast}", "warm" if colour in ("red", "yellow", "white") else "cold")
        for colour in COLOURS
        for beast in BEASTS
    ]


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
def test_a_classifier_learns_labels_that_a_word_shows(call, kind):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", "--dev", "train.tsv", kind=kind))
    out = call("predict", "--model", "runs/x", write("in.txt", ["the red dog", "", "a blue owl"]))
    labels = [line.split("\t")[0] for line in out.splitlines()]
    assert labels[0] == "warm" and labels[2] == "cold" and len(labels) == 3
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.tsv", "--json", "--confusion"))
    assert score_in(found, "accuracy")["value"] == 100
    assert found["confusion"] == {"labels": ["cold", "warm"], "table": [[18, 0], [0, 18]]}


def test_predictions_come_as_json_with_the_probability_of_every_label(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=5))
    (line,) = call("predict", "--json", write("in.txt", ["the red dog"])).splitlines()
    found = json.loads(line)
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["probabilities"][found["label"]] == found["probability"] == max(found["probabilities"].values())
    top = call("predict", "--top", 2, "in.txt").rstrip("\n").split("\t")
    assert top[::2] == list(found["probabilities"])


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("in.tsv", ["text\tlabel", "", "the red dog\twarm", " ", "a blue owl\tcold", ""]),
        ("in.csv", ["text,label", "", '"the red dog",warm', " ", '"a blue owl",cold', ""]),
        ("in.jsonl", ["", '{"text": "the red dog"}', " ", '{"text": "a blue owl"}', ""]),
        ("in.txt", ["", "the red dog", "", "a blue owl", ""]),
    ],
)
def test_a_blank_line_has_a_blank_line_in_its_place_in_every_format(call, name, lines):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=1))
    out = call("predict", "--model", "runs/x", write(name, lines)).split("\n")
    assert [bool(line) for line in out] == [False, True, False, True, False, False]
    records = [json.loads(line) for line in call("predict", "--model", "runs/x", "--json", name).splitlines()]
    assert [record["text"] for record in records] == ["", "the red dog", "", "a blue owl", ""]
    assert records[2] == {"text": "", "label": None}
    assert json.loads(call("evaluate", "--model", "runs/x", "--data", "train.tsv", "--json"))["examples"] == 36


def test_files_columns_and_options_are_checked_before_the_weights_are_read(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=1))
    lines = write("in.txt", ["the red dog", " "])
    blank = json.loads(call("predict", "--json", lines).splitlines()[1])
    assert blank == {"text": " ", "label": None}
    Path("runs/x/model.safetensors").write_text("damaged")
    for arguments, expected_message in (
        (["predict", "absent.txt"], "absent.txt: no such file"),
        (["predict", lines, "--choices", "a"], "--choices has no effect on a model for classify"),
        (["predict", lines, "--text", "a"], "--text names a column, but in.txt is read as plain lines"),
        (
            ["predict", lines, "--task", "a"],
            "runs/x: this model was trained on one task only, so --task a has no effect",
        ),
        (["evaluate", "absent.tsv"], "absent.tsv: no such file"),
        (["evaluate", "train.tsv", "--choices", "a"], "--choices has no effect on a model for classify"),
    ):
        status, out, err = call(*arguments, "--model", "runs/x", whole=True)
        assert (status, out) == (2, "")
        assert expected_message.rpartition("runs/x: ")[2] in err


def test_several_labels_are_learnt_at_once(call):
    rows = [f'the {a} {b}\t"{a},{b}"'.replace('"', "") for a in COLOURS for b in BEASTS]
    write("train.tsv", ["text\tlabels", *rows])
    call(
        *finetune(
            "multi-label",
            "--train",
            "train.tsv",
            "--dev",
            "train.tsv",
            "--label",
            "labels",
            "--set",
            "head.pooling=mean",
            steps=120,
        )
    )
    out = call("predict", "--model", "runs/x", write("in.txt", ["the red dog", "the blue hen"]))
    assert [set(line.split(",")) for line in out.splitlines()] == [{"red", "dog"}, {"blue", "hen"}]


def test_scores_are_learnt_for_pairs(call):
    rows = [f"{a} {b}\t{c} {d}\t{(a == c) + (b == d)}.0" for a, b, c, d in zip(
        COLOURS * 8, sorted(BEASTS) * 8, sorted(COLOURS) * 8, BEASTS * 8, strict=True)]  # fmt: skip
    write("train.tsv", ["sentence1\tsentence2\tscore", *rows])
    call(*finetune("regress", "--train", "train.tsv", "--dev", "train.tsv", steps=200))
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.tsv", "--json", "--worst", 3))
    assert score_in(found, "spearman")["value"] > 80
    out = call("predict", "--model", "runs/x", write("in.txt", ["red cat\tred cat"]))
    assert 0 <= float(out) <= 2


def test_the_right_one_of_several_candidates_is_chosen(call):
    rows = [
        {"question": f"a {COLOURS[i % 6]} thing", "choices": [COLOURS[(i + k) % 6] for k in (1, 0, 2)], "answer": 1}
        for i in range(36)
    ]
    write("train.jsonl", map(json.dumps, rows))
    columns = ["--text", "question", "--choices", "choices", "--label", "answer"]
    call(*finetune("choice", "--train", "train.jsonl", "--dev", "train.jsonl", *columns, steps=100))
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.jsonl", "--json"))
    assert score_in(found, "accuracy")["value"] > 90


def test_words_are_tagged(call):
    lines = []
    for colour in COLOURS:
        for beast in BEASTS:
            lines += ["the O", f"{colour} B-COL", f"{beast} B-BEAST", ""]
    write("train.conll", lines)
    call(*finetune("tag", "--train", "train.conll", "--dev", "train.conll"))
    out = call("predict", "--model", "runs/x", write("in.txt", ["the green fox", "", "the black cow sleeps"]))
    assert out.splitlines()[:2] == ["O B-COL B-BEAST", ""] and len(out.splitlines()[2].split()) == 4
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.conll", "--json"))
    assert score_in(found, "entity_f1")["value"] == 100
    out = call("predict", "--model", "runs/x", "--format", "conll", "train.conll")
    assert len(out.splitlines()) == 36


def test_answers_are_found_in_their_contexts(call):
    paragraphs = []
    for number, (colour, beast) in enumerate((c, b) for c in COLOURS for b in BEASTS):
        context = f"here is a {beast} and it is {colour} today"
        answer = {"text": colour, "answer_start": context.index(colour, 20)}
        question = {"id": str(number), "question": "which colour", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    write("train.json", [json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})])
    call(*finetune("span", "--train", "train.json", "--dev", "train.json", steps=150))
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.json", "--json"))
    assert score_in(found, "exact_match")["value"] > 90
    paragraphs[0]["qas"][0]["answers"] = [{"text": "green", "answer_start": 3}]
    write("bad.json", [json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})])
    status, out, err = call("evaluate", "--model", "runs/x", "--data", "bad.json", "--json", whole=True)
    assert status == 0 and json.loads(out)["examples"] == 36 and "left out" not in err
    paragraphs[0]["qas"][0]["answers"] = [{"text": COLOURS[0], "answer_start": 3}]
    write("shifted.json", [json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})])
    shifted = json.loads(call("evaluate", "--model", "runs/x", "--data", "shifted.json", "--json"))
    assert shifted["scores"] == found["scores"]  # only the text of an answer counts
    assert len(call("predict", "--model", "runs/x", "--format", "squad", "bad.json").splitlines()) == 36
    status, out, err = call(
        *finetune("span", "--train", "bad.json", "--dev", "bad.json", steps=1, out="runs/bad"), whole=True
    )
    expected_message = (
        "left out 1 question: bad.json, question 0: the context has 'e is ' at character 3, not the answer 'green'"
    )
    assert status == 0 and err.count(expected_message) == 1  # of the training set; all of the dev set count
    question = "which colour\there is a fox and it is blue today"
    out = call("predict", "--model", "runs/x", write("in.txt", [question, "", question]))
    assert out == "blue\n\nblue\n"
    rows = [json.loads(line) for line in call("predict", "--model", "runs/x", "--json", "train.json",
                                              "--format", "squad").splitlines()]  # fmt: skip
    assert [row["id"] for row in rows] == [str(number) for number in range(36)]


def test_pairs_that_mean_the_same_come_closer(call):
    rows = [f"{a} {b}\t{a} {c}\t1\n{a} {b}\t{d} {b}\t0" for a, d, b, c in zip(
        COLOURS * 4, COLOURS[1:] * 4 + COLOURS[:4], BEASTS * 4, sorted(BEASTS) * 4, strict=True)]  # fmt: skip
    write("train.tsv", ["sentence1\tsentence2\tscore", *rows])
    columns = ["--label", "score", "--objective", "contrastive"]
    call(*finetune("similarity", "--train", "train.tsv", "--dev", "train.tsv", *columns, steps=100))
    found = json.loads(call("evaluate", "--model", "runs/x", "--data", "train.tsv", "--json"))
    assert score_in(found, "average_precision")["value"] > 80


def test_texts_are_made_of_texts(call):
    rows = [f"the {a} {b}\t{b} {a}" for a in COLOURS for b in BEASTS]
    write("train.tsv", ["text\tlabel", *rows])
    call(*finetune("text-to-text", "--train", "train.tsv", "--dev", "train.tsv", "--prefix", "swap: ", "--text", "text",
                   "--label", "label", kind="encoder-decoder", steps=300))  # fmt: skip
    out = call("predict", "--model", "runs/x", write("in.txt", ["the red fox", "the blue hen"]))
    assert out == "fox red\nhen blue\n"


# --- ways to tune ------------------------------------------------------------------------------------------------


def test_seeds_are_trained_one_after_the_other_and_summed_up(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    out = json.loads(call(*finetune("classify", "--train", "train.tsv", "--seeds", 2, "--json", steps=4)))
    accuracy = score_in(out, "accuracy")
    assert list(accuracy) == ["metric", "value", "low", "high", "signature", "deviation", "values"]
    assert out["seeds"] == [1, 2] and accuracy["value"] == pytest.approx(sum(accuracy["values"]) / 2)
    assert accuracy["signature"].startswith("accuracy") and len(accuracy["values"]) == 2
    assert json.loads(Path("runs/x/seeds.json").read_text()) == out


def test_finished_seeds_are_resumed_where_a_greater_limit_is_requested(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", "--seeds", 2, steps=4))
    same = ["finetune", "--resume", "--seeds", 2, "--out", "runs/x"]
    before = [Path(f"runs/x/seed-{seed}/metrics.jsonl").read_text() for seed in (1, 2)]
    call(*same, "--max-steps", 4)
    assert [Path(f"runs/x/seed-{seed}/metrics.jsonl").read_text() for seed in (1, 2)] == before
    call(*same, "--max-steps", 6)
    for seed in (1, 2):
        assert json.loads(Path(f"runs/x/seed-{seed}/metrics.jsonl").read_text().splitlines()[-1])["step"] == 6


@pytest.mark.parametrize(
    "options",
    [["--tune", "head"], ["--tune", "gradual"], ["--lora", 2], ["--layer-decay", 0.5],
     ["--set", "head.layers=weighted"], ["--set", "head.layers=concat:2", "--tune", "head"],
     ["--set", "tuning.freeze_embeddings=true"], ["--fresh"]],
)  # fmt: skip
def test_a_pretrained_model_is_tuned_in_every_way(call, options):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=30, out="runs/first"))
    again = ["finetune", "--task", "regress", "--model", "runs/first", *SMALL, "--max-steps", 6, "--out", "runs/second"]
    write("scores.tsv", ["text\tscore", *(f"{text}\t{len(text)}.5" for text, _ in sentences())])
    call(*again, "--train", "scores.tsv", *options)
    out = call("predict", "--model", "runs/second", write("in.txt", ["the red dog"]))
    assert 10 < float(out) < 20


@pytest.mark.parametrize("tune", [[], ["--lora", 2], ["--tune", "gradual", "--set", "tuning.unfreeze_steps=4"]])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted_without_what_it_began_with(call, tune):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=5, out="runs/first"))
    limits = ["--set", "training.schedule=constant", "--set", "training.evaluate_every=5", *tune]
    again = ["finetune", "--task", "classify", "--model", "runs/first", "--train", "train.tsv", *SMALL, *limits]
    call(*again, "--max-steps", 10, "--out", "runs/whole")
    call(*again, "--max-steps", 5, "--out", "runs/parts")
    shutil.rmtree("runs/first")
    call("finetune", "--resume", "--out", "runs/parts", "--max-steps", 10)
    whole, parts = (Path(f"runs/{name}/model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_table_is_read_as_in_training_and_plain_lines_have_no_columns(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=3))
    assert len(call("predict", "--model", "runs/x", "train.tsv").splitlines()) == 36
    assert len(call("predict", "--model", "runs/x", "--format", "lines", "train.tsv").splitlines()) == 37
    write("in.txt", ["the red dog"])
    err = refused(call, "predict", "--model", "runs/x", "--text", "sentence", "in.txt")
    assert "in.txt is read as plain lines" in err


def test_a_format_that_was_named_in_training_is_remembered(call):
    write("train.txt", [f"{label} {text}" for text, label in sentences()])
    call(*finetune("classify", "--train", "train.txt", "--format", "labeled-lines", steps=3))
    assert json.loads(call("evaluate", "--model", "runs/x", "--data", "train.txt", "--json"))["examples"] == 36


# --- bad input ---------------------------------------------------------------------------------------------------


def refused(call, *arguments: object) -> str:
    status, out, err = call(*arguments, whole=True)
    assert status == 2 and out == ""
    return err


def test_a_column_that_is_not_there_is_named_with_those_that_are(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    err = refused(call, *finetune("classify", "--train", "train.tsv", "--label", "lable"))
    assert "train.tsv:" in err and "lable" in err and "'label'" in err
    assert not Path("runs").exists()


def test_scores_given_to_classify_are_reported(call):
    write("train.tsv", ["text\tlabel", *(f"{text}\t{i / 7:.3f}" for i, (text, _) in enumerate(sentences()))])
    err = refused(call, *finetune("classify", "--train", "train.tsv"))
    assert "train.tsv:" in err and "--task regress" in err


def test_one_class_alone_can_not_be_learnt(call):
    write("train.tsv", ["text\tlabel", *(f"{text}\tsame" for text, _ in sentences())])
    assert "'same'" in refused(call, *finetune("classify", "--train", "train.tsv"))


def test_what_is_wrong_only_because_some_are_held_out_is_reported_so(call):
    kept_and_held = [["x Q-PER", ""], ["y Q-PER", ""], ["z O", ""]]
    messages = set()
    for turn in range(3):
        rows = [line for sentence in kept_and_held[turn:] + kept_and_held[:turn] for line in sentence]
        status, _, err = call(*finetune("tag", "--train", write("bad.conll", rows), steps=1, out=f"runs/{turn}"),
                              whole=True)  # fmt: skip
        messages.add("" if status == 0 else err)
    warning = next(message for message in messages if message)
    assert len(messages) == 2
    assert (
        "after 1 of 3 examples was randomly chosen as the dev set" in warning and "have the same tag 'Q-PER'" in warning
    )
    assert "--dev" in warning
    alike = write("bad.conll", ["x Q-PER", "", "y Q-PER", "", "z Q-PER"])
    err = refused(call, *finetune("tag", "--train", alike))
    assert "bad.conll:1: all words of the training examples have the same tag 'Q-PER'" in err and "randomly" not in err


def test_a_label_that_training_did_not_have_is_named_and_counts_as_a_mistake(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=3))
    write("dev.tsv", ["text\tlabel", "the red dog\twarm", "the red cow\tluke", "the blue cow\tcold"])
    status, out, err = call("evaluate", "--model", "runs/x", "--data", "dev.tsv", whole=True)
    assert (
        status == 0
        and "dev.tsv:3: the model was not trained with the label 'luke'" in err
        and out.startswith("accuracy")
    )


def test_a_model_that_was_not_tuned_for_a_task_is_refused_by_name(call):
    write("train.txt", [text for text, _ in sentences()] * 4)
    settings = ["model.kind=decoder", "model.segments=0", "data.context=16", "data.workers=1"]
    call("pretrain", "--objective", "clm", "--data", "train.txt", "--config", "tiny.yaml", "--max-steps", 2,
         "--out", "runs/lm", *(f"--set={setting}" for setting in settings))  # fmt: skip
    err = refused(call, "predict", "--model", "runs/lm", "train.txt")
    assert "runs/lm" in err and "nlpcli generate" in err
    assert load_yaml(Path("runs/lm/model.yaml"))["task"] == "language-model"


def test_labels_none_of_which_is_known_are_refused(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=3))
    write("dev.tsv", ["text\tlabel", "the red dog\tone", "the red cow\ttwo"])
    status, out, err = call("evaluate", "--model", "runs/x", "--data", "dev.tsv", whole=True)
    assert status == 2 and out == "" and "the model was trained with none of the 2 labels" in err


def test_an_unknown_task_is_named(call):
    assert "unknown task 'clasify'" in refused(call, "finetune", "--task", "clasify", "--model", "tiny.yaml")


def test_settings_without_effect_are_reported(call):
    write("train.tsv", ["text\tlabel", *("\t".join(pair) for pair in sentences())])
    call(*finetune("classify", "--train", "train.tsv", steps=2, out="runs/first"))
    status, _, err = call("finetune", "--task", "classify", "--model", "runs/first", *SMALL, "--train", "train.tsv",
                          "--tune", "head", "--layer-decay", 0.9, "--objective", "softmax", "--choices", "a", "b",
                          "--max-steps", 1, "--out", "runs/second", whole=True)  # fmt: skip
    warning = next(line for line in err.splitlines() if line.startswith("these settings have no effect"))
    assert status == 0 and all(name in warning for name in ("layer_decay", "head.objective", "examples.choices"))
