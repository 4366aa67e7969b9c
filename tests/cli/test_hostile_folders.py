"""Folders that were changed by hand, by a fault of a disk or by an enemy: one sentence, never an internal error."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpcli.cli.main import main

SMALL = [
    *("--set", "tokenizer.type=chars", "--set", "tokenizer.vocab_size=300", "--set", "model.heads=2"),
    *("--set", "model.d_model=8", "--set", "model.d_ff=8", "--max-steps", "2", "--device", "cpu"),
]
WRONG = [
    None, [], {}, "", "x", -1, 0, 10**9, 10**30, 1.5, float("nan"), float("inf"), True, [1], ["a", 2], {"a": 1},
    [[]], "../../etc/passwd", "\x1b]0;title\x07\n", "x" * 5000,
]  # fmt: skip
DAMAGE = [
    b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"a: &a {b: *a}\n", b"[" * 5000, b"9" * 5000, b"a: {b: 1}\n",
    b'{"a": 1}', b"{" + b'"a": {' * 2000,
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A language model, a classifier in both forms, vectors and an index, all tiny."""
    root = tmp_path_factory.mktemp("made")
    (root / "t.txt").write_text("the small cat sat on the mat\nit was good\n" * 30)
    (root / "c.tsv").write_text("a cat sat\tpos\na dog ran\tneg\n" * 8)
    here = {name: str(root / name) for name in ("t.txt", "c.tsv", "lm", "cls", "hf", "v.npy", "idx")}
    lines = [
        ["pretrain", "--objective", "clm", "--preset", "gpt-mini", "--set", "model.decoder_layers=1", *SMALL,
         "--data", here["t.txt"], "--out", here["lm"]],
        ["finetune", "--task", "classify", "--model", here["lm"], "--train", here["c.tsv"], "--dev", here["c.tsv"],
         "--max-steps", "2", "--device", "cpu", "--out", here["cls"]],
        ["convert", "--to", "huggingface", here["lm"], here["hf"]],
        ["embed", "--model", here["lm"], "--output", here["v.npy"], here["t.txt"]],
        ["search", "--model", here["lm"], "--corpus", here["t.txt"], "--save-index", here["idx"], "a cat"],
    ]  # fmt: skip
    for line in lines:
        assert main(line) == 0, line
    return root


COMMANDS = {
    "lm": [
        ["generate", "--model", "lm", "--prompt", "the", "--max-new-tokens", "2"],
        ["inspect", "lm"],
        ["report", "lm"],
        ["pretrain", "--resume", "--out", "lm", "--max-steps", "3"],
        ["convert", "--to", "huggingface", "lm", "out"],
        ["score", "--metric", "perplexity", "--model", "lm", "t.txt"],
    ],
    "cls": [
        ["predict", "--model", "cls", "t.txt"],
        ["evaluate", "--model", "cls", "c.tsv"],
        ["inspect", "cls"],
    ],
    "hf": [["convert", "hf", "out"], ["inspect", "hf"], ["generate", "--model", "hf", "--prompt", "the"]],
    "idx": [["search", "--vectors", "idx", "--model", "lm", "a cat"], ["inspect", "idx"]],
}  # fmt: skip


def settings_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".json", ".jsonl"))


def mutated(value, rng: random.Random):
    """A copy with one wrong value, one value less or one more, somewhere."""
    value = copy.deepcopy(value)
    place, spots = value, []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)) and len(spots) < 2000:
                walk(node[key])

    walk(place)
    if not spots:
        return rng.choice(WRONG)
    node, key = rng.choice(spots)
    how = rng.random()
    if how < 0.1:
        del node[key]
    elif how < 0.2 and isinstance(node, dict):
        node["new"] = rng.choice(WRONG)
    else:
        node[key] = rng.choice(WRONG)
    return value


def damage(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    if rng.random() < 0.2:
        path.write_bytes(rng.choice([*DAMAGE, data[: rng.randrange(len(data) + 1)]]))
    elif rng.random() < 0.03:
        path.unlink()
        path.mkdir()
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(mutated(yaml.safe_load(data), rng)))
    elif path.suffix == ".jsonl":
        lines = data.splitlines()
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(mutated(json.loads(lines[place]), rng)).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path.write_text(json.dumps(mutated(json.loads(data), rng)))


def check(line: list[str], capsys, about: object) -> None:
    """Runs a command: it ends well, or with one bounded sentence."""
    capsys.readouterr()
    status = main(line)
    told = capsys.readouterr().err
    what = f"{line} {about}: {told[-3000:]}"
    assert status in (0, 2), what
    assert "internal error" not in told and "Traceback" not in told, what
    assert "\x1b" not in told, what
    if status:
        sentence = told[told.index("nlpcli: ") :].rstrip("\n").split("\n")
        assert len(sentence) == 1 or (len(sentence) == 2 and sentence[1].startswith("  hint: ")), what
        assert sum(map(len, sentence)) < 2000, what


@pytest.mark.parametrize("folder", list(COMMANDS))
def test_a_changed_folder_is_one_sentence(made, tmp_path, monkeypatch, capsys, folder):
    names = ("t.txt", "c.tsv", "lm", folder)

    @settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 2**32))
    def one(seed):
        rng = random.Random(seed)
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in dict.fromkeys(names):
            source = made / name
            shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        file = rng.choice(settings_files(tmp_path / folder))
        damage(file, rng)
        about = (seed, file, file.read_bytes()[:1500] if file.is_file() else "a folder")
        for line in rng.sample(COMMANDS[folder], 1):
            check(line, capsys, about)

    one()


@pytest.mark.parametrize(
    "change",
    [lambda v: v.fill(np.nan), lambda v: v.__setitem__((3, 1), np.inf), lambda v: v.__setitem__((3, 1), -np.inf)],
)
def test_vectors_that_are_no_numbers_are_named_with_their_row(made, tmp_path, monkeypatch, capsys, change):
    monkeypatch.chdir(tmp_path)
    vectors = np.load(made / "v.npy")
    change(vectors)
    np.save("v.npy", vectors)
    lines = [
        ["search", "--model", str(made / "lm"), "--vectors", "v.npy", "--texts", str(made / "t.txt"), "cat"],
        ["cluster", "--vectors", "v.npy", "--k", "2", str(made / "t.txt")],
    ]
    for line in lines:
        with contextlib.suppress(SystemExit):
            assert main(line) == 2, line
        assert "v.npy: vector " in capsys.readouterr().err


@given(st.integers(0, 127), st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_of_vectors_is_one_sentence(made, tmp_path, capsys, place, value):
    data = bytearray((made / "v.npy").read_bytes())
    data[place] = value
    path = tmp_path / "v.npy"
    path.write_bytes(data)
    check(["inspect", str(path)], capsys, (place, value))
