"""Folders that were changed by hand, by a fault of a disk or by an enemy: one sentence, never an internal error."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import pickle
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpcli.cli.main import main
from nlpcli.commands.inspect import inspect
from nlpcli.commands.report.report_wording import cost
from nlpcli.convert import folder_files, tokenizer_out
from nlpcli.decoding.beam import BeamSettings
from nlpcli.errors import NlpcliError
from nlpcli.text import train_tokenizer

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
    stderr = capsys.readouterr().err
    what = f"{line} {about}: {stderr[-3000:]}"
    assert status in (0, 2), what
    assert "internal error" not in stderr and "Traceback" not in stderr, what
    assert "\x1b" not in stderr, what
    if status:
        sentence = stderr[stderr.index("nlpcli: ") :].rstrip("\n").split("\n")
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


@pytest.mark.parametrize("folder", ["lm", "hf"])
def test_a_pipe_in_the_place_of_a_file_is_one_sentence(made, tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / folder, folder)
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file() and "checkpoints" not in path.parts):
        file.rename("aside")
        os.mkfifo(file)
        check(["inspect", folder], capsys, file)
        check(["generate", "--model", folder, "--prompt", "a", "--max-new-tokens", "1"], capsys, file)
        file.unlink()
        Path("aside").rename(file)


def test_a_header_of_vectors_that_only_old_programs_wrote_is_refused(made, tmp_path, capsys):
    data = (made / "v.npy").read_bytes()
    header = data[:128].replace(b"(60,", b"(60L,", 1)
    assert header != data[:128]
    (tmp_path / "v.npy").write_bytes(header[:128] + data[128:])
    check(["inspect", str(tmp_path / "v.npy")], capsys, "a header of Python 2")
    assert "Warning" not in capsys.readouterr().err


class Planted:
    """Unpickling it creates a file in the working folder."""

    def __reduce__(self):
        return open, ("PLANTED", "w")


def planted(form: str) -> bytes:
    if form == "pickle":
        return pickle.dumps(Planted())
    file = io.BytesIO()
    if form == "torch":
        torch.save({"weight": Planted()}, file)
    else:
        np.save(file, np.array([Planted()], dtype=object), allow_pickle=True)
    return file.getvalue()


def test_the_planted_files_do_run_where_they_are_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in ("pickle", "torch", "numpy"):
        file = io.BytesIO(planted(form))
        if form == "pickle":
            pickle.load(file)
        elif form == "torch":
            torch.load(file, weights_only=False)
        else:
            np.load(file, allow_pickle=True)
        Path("PLANTED").unlink()


@pytest.mark.parametrize("folder", list(COMMANDS))
def test_nothing_that_a_folder_holds_is_unpickled(made, tmp_path, monkeypatch, capsys, folder):
    """A pickle in the place of each file in turn, and beside the weights under the names that other programs load."""
    monkeypatch.chdir(tmp_path)
    for name in dict.fromkeys(("t.txt", "c.tsv", "lm", folder)):
        shutil.copytree(made / name, name) if (made / name).is_dir() else shutil.copy(made / name, name)
    others = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pt", "tokenizer.pkl")
    left_out = {"metrics.jsonl", "README.md", "checkpoints"}
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not left_out & set(path.parts)]
    commands = [line for line in COMMANDS[folder] if line[0] != "pretrain"]
    for number, file in enumerate([*sorted(files), *(Path(folder) / name for name in others)]):
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(planted(("pickle", "torch", "numpy")[number % 3]))
        check(commands[number % len(commands)], capsys, file)
        if file.name.endswith(".bin"):
            check(["convert", "--allow-pickle", folder, f"out{number}"], capsys, file)
        assert not Path("PLANTED").exists(), file
        file.unlink() if before is None else file.write_bytes(before)
    Path(folder, "pytorch_model.bin").write_bytes(planted("torch"))  # instead of the weights
    for weights in Path(folder).rglob("*.safetensors"):
        weights.unlink()
    for line in [*COMMANDS[folder], ["convert", "--allow-pickle", folder, "out"]]:
        check(line, capsys, "no other weights")
        assert not Path("PLANTED").exists(), line


def test_columns_of_a_model_that_were_changed_are_named(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "cls", "cls")
    description = Path("cls/model.yaml")
    info = yaml.safe_load(description.read_text())
    info["columns"]["header"] = ["a", 2]
    description.write_text(yaml.safe_dump(info))
    for command in ("evaluate", "predict"):
        assert main([command, "--model", "cls", str(made / "c.tsv")]) == 2
        assert "model.yaml: header must be" in capsys.readouterr().err


# --- single faults that the campaign found -----------------------------------------------------------------------


def test_numbers_of_vectors_that_signal_are_counted_without_a_warning(tmp_path):
    vectors = np.ones((2, 4), dtype=np.float16)
    vectors.view(np.uint16)[1, 2] = 0x7D00  # a signalling NaN
    np.save(tmp_path / "v.npy", vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inspect(str(tmp_path / "v.npy"))
    assert [finding.lines for finding in found.findings if finding.problem] == [[2]]


def test_a_beam_of_any_size_is_not_tried():
    with pytest.raises(NlpcliError, match="the beam size must be at most 10,000, not 1,000,000,000,000,000,000"):
        BeamSettings(beam_size=10**18)


def test_what_stands_for_a_number_in_a_log_is_shown_as_it_is():
    assert cost("tokens_per_second", {"a": 1}) == "{'a': 1}" and cost("minutes", [2]) == "[2]"


def test_a_damaged_tokenizer_file_is_not_written_on():
    content = {"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
               "model": {"type": "WordPiece", "vocab": {"<s>": 0}, "unk_token": "<s>",
                         "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}}  # fmt: skip
    with pytest.raises(NlpcliError, match=r"its file is damaged \(missing field"):
        tokenizer_out._core_of(json.dumps(content).encode())


def test_weights_in_another_pickle_protocol_are_refused_without_a_warning(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin", pickle_protocol=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NlpcliError, match="the file is damaged or contains more than tensors"):
            folder_files._unpickled(tmp_path / "pytorch_model.bin")


def test_a_vocabulary_that_no_memory_holds_is_refused():
    with pytest.raises(NlpcliError, match="the vocabulary size must be at most 16,777,216, not 4,294,967,296"):
        train_tokenizer("wordpiece", ["a b"], vocab_size=1 << 32)


def test_what_the_program_left_in_a_hugging_face_folder_has_its_types(made, tmp_path, capsys):
    shutil.copytree(made / "hf", tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config["nlpcli"]["info"]["decoding"] = "x"
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    assert main(["inspect", "--as", "model", str(tmp_path / "hf")]) == 2
    assert "config.json: nlpcli.info" in capsys.readouterr().err


def test_a_beam_of_endless_patience_is_one_however_it_is_written():
    assert BeamSettings(patience=1e308).enough == BeamSettings(patience=math.inf).enough == math.inf
