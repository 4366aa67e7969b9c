"""`nlpcli generate --template`: a small language model that has read solved tasks solves them."""

from __future__ import annotations

import io
import json
import random
import sys

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

KINDS = {"red": "colour", "blue": "colour", "green": "colour", "dog": "animal", "cat": "animal", "horse": "animal"}
RANKING = """
prompt: "Word: {text}\\nKind:"
labels: {c: colour, a: animal}
"""
WRITING = """
prompt: "Word: {text}\\nKind:"
max_new_tokens: 10
metric: [accuracy, exact-match]
"""


def solved(words) -> str:
    return "".join(f"Word: {word}\nKind: {KINDS[word]}\n\n" for word in words)


def write_model(path):
    """A decoder that has read a few thousand solved tasks: a second of training."""
    draw = random.Random(1)
    tokenizer = train_tokenizer("byte-bpe", [solved(KINDS)] * 20, vocab_size=295, byte_fallback=False, seed=1)
    config = TransformerConfig(
        kind="decoder", d_model=32, heads=2, d_ff=64, decoder_layers=2, positions="rotary", norm_position="pre",
        max_length=96, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(1)
    model = build_model(config, tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(150):
        rows = tokenizer.encode([solved(draw.choices(list(KINDS), k=4)) for _ in range(16)])
        ids = torch.tensor([row[: min(map(len, rows))] for row in rows])
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    info = {"task": "language-model", "context": 64, "document_end": False}
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, templates, and data: words that the model has seen with their kinds."""
    path = tmp_path_factory.mktemp("prompting")
    write_model(path / "lm")
    (path / "rank.yaml").write_text(RANKING)
    (path / "write.yaml").write_text(WRITING)
    rows = "".join(f"{word}\t{kind[0]}\n" for word, kind in KINDS.items())
    (path / "rank.tsv").write_text(f"text\tlabel\n{rows}")
    (path / "write.tsv").write_text("text\tlabel\n" + "".join(f"{word}\t{kind}\n" for word, kind in KINDS.items()))
    return path


@pytest.fixture
def call(capsys, monkeypatch, folder):
    """Runs the command in this process, in the folder: (status, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def run_it(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        status = main(["generate", "--device", "cpu", "--model", "lm", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_candidates_are_ranked_rightly_with_any_number_of_shots(call, shots):
    few = ("--shots", shots, "--examples", "rank.tsv") if shots else ()
    status, out, err = call("--template", "rank.yaml", "--data", "rank.tsv", *few)
    assert (status, out.split()) == (0, ["c", "c", "c", "a", "a", "a"])
    assert err.startswith("accuracy 100.00 [100.00, 100.00] 6 of 6 correct accuracy|nrefs:1|")


def test_a_shell_pipes_lines_through(run, folder):
    done = run("generate", "--model", "lm", "--template", "rank.yaml", stdin="dog\nblue\n", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "a\nc\n")
    assert done.stderr == "no example has a label, so no score is computed\n"


def test_answers_are_written_until_the_stop_text(call):
    status, out, err = call("--template", "write.yaml", "--data", "write.tsv", "--shots", 2, "--examples", "write.tsv")
    assert (status, out.split()) == (0, list(KINDS.values()))
    assert [line.split()[:2] for line in err.splitlines()] == [["accuracy", "100.00"], ["EM", "100.00"]]


def test_json_has_the_candidates_and_the_prompt_on_request(call):
    arguments = ("--template", "rank.yaml", "--data", "rank.tsv", "--shots", 1, "--examples", "rank.tsv", "--json")
    records = [json.loads(line) for line in call(*arguments, "--echo")[1].splitlines()]
    assert [record["prediction"] for record in records] == [record["label"] for record in records]
    first = records[0]
    assert first["prompt"].endswith("\n\nWord: red\nKind:") and first["prompt"].count("Word:") == 2
    assert [candidate["label"] for candidate in first["candidates"]] == ["c", "a"]
    assert first["candidates"][0]["score"] == first["candidates"][0]["logprob"] > first["candidates"][1]["logprob"]
    assert "prompt" not in json.loads(call(*arguments)[1].splitlines()[0])


def test_json_has_the_columns_of_the_prompt_as_text_and_text2(call, folder):
    out = call("--template", "rank.yaml", "--data", "rank.tsv", "--json")[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [record["text"] for record in found] == list(KINDS) and "text2" not in found[0]
    (folder / "two.yaml").write_text(RANKING.replace("Word: {text}", "Word: {colour} {beast}"))
    (folder / "two.jsonl").write_text('{"beast": "dog", "colour": "red"}\n')
    (record,) = map(json.loads, call("--template", "two.yaml", "--data", "two.jsonl", "--json")[1].splitlines())
    assert (record["text"], record["text2"]) == ("dog", "red")


@pytest.mark.parametrize("template", ["rank.yaml", "write.yaml"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("in.tsv", ["text\tlabel", "", "{}\ta", " ", "{}\ta", ""]),
        ("in.jsonl", ["", '{{"text": "{}", "label": "a"}}', "", '{{"text": "{}", "label": "a"}}', ""]),
        ("in.txt", ["", "{}", "", "{}", ""]),
    ],
)
def test_a_blank_line_has_a_blank_line_in_its_place(call, folder, template, name, lines):
    rows = iter(("dog", "cat"))
    lines = [line.format(next(rows)) if "{}" in line else line for line in lines]
    (folder / name).write_text("".join(line + "\n" for line in lines))
    arguments = ("--template", template, "--data", name, "--shots", 1, "--examples", "rank.tsv")
    if template == "write.yaml":
        arguments = (*arguments[:-1], "write.tsv")
    status, out, err = call(*arguments)
    assert (status, [bool(line) for line in out.split("\n")]) == (0, [False, True, False, True, False, False])
    assert "without a label" not in err
    records = [json.loads(line) for line in call(*arguments, "--json")[1].splitlines()]
    assert [record["text"] for record in records] == ["", "dog", "", "cat", ""]
    assert records[2] == {"text": "", "prediction": None}


def test_blank_lines_change_neither_the_shots_nor_the_scores(call, folder):
    rows = (folder / "rank.tsv").read_text()
    (folder / "gaps.tsv").write_text("\n" + rows.replace("\n", "\n\n"))
    seen = []
    for data in ("rank.tsv", "gaps.tsv"):
        status, out, err = call("--template", "rank.yaml", "--data", data, "--shots", 2, "--examples", data, "--json",
                                "--echo")  # fmt: skip
        assert status == 0
        records = [json.loads(line) for line in out.splitlines()]
        seen.append(([record for record in records if record["prediction"] is not None], err))
    assert seen[0] == seen[1]


def test_the_seed_decides_which_examples_are_shown(call):
    def prompts(seed):
        arguments = ("--template", "rank.yaml", "--data", "rank.tsv", "--shots", 2, "--examples", "rank.tsv")
        lines = call(*arguments, "--json", "--echo", "--seed", seed)[1].splitlines()
        return [json.loads(line)["prompt"] for line in lines]

    assert prompts(1) == prompts(1) != prompts(2)
    assert len(set(prompts(1))) == len(KINDS)


def test_a_seed_without_shots_is_reported_to_have_no_effect(call):
    assert "--seed has no effect" in call("--template", "rank.yaml", "--data", "rank.tsv", "--seed", 3)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--template", "rank.yaml", "--temperature", "2"], "--temperature has no effect with --template"),
        (["--template", "rank.yaml", "--prompt", "a"], "--prompt has no effect with --template"),
        (["--shots", "2"], "--shots has no effect without --template"),
        (["--template", "rank.yaml", "--echo"], "--echo with --template"),
        (["--template", "rank.yaml", "--shots", "2"], "add --examples FILE"),
        (["--template", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--template", "rank.yaml", "--data", "nowhere.tsv"], "nowhere.tsv: no such file"),
        (["--template", "rank.yaml", "--data", "rank.tsv", "--label", "gold"], "no column 'gold'"),
        (["--template", "rank.yaml", "--format", "conll"], "contains tagged words"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, arguments, message):
    status, out, err = call(*arguments, stdin="dog\n")
    assert (status, out) == (2, "")
    assert message in err and "internal error" not in err
