"""Filters that divide their input among processes: the same bytes in the same order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

pytestmark = pytest.mark.processes
WORDS = ["der mann", "ein hund", "", "das kind steht", "die frau"]
LINES = [f"{WORDS[i % 5]} {'a' * (i % 7)}".rstrip() for i in range(2100)]  # 3 windows


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A small model that was never trained."""
    torch.manual_seed(2)
    tokenizer = train_tokenizer("chars", WORDS, vocab_size=None, byte_fallback=False, seed=1)
    config = TransformerConfig(
        kind="encoder-decoder", d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, max_length=64
    )
    path = tmp_path_factory.mktemp("models") / "translator"
    weights = build_model(config, tokenizer.vocab_size).state_dict()
    save_model(path, weights=weights, config=config, tokenizer=tokenizer, info={"task": "translation"})
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    rows = "\n".join(f"{WORDS[i % 2]} {i}\t{'cat' if i % 2 else 'dog'}" for i in range(20))
    (folder / "rows.tsv").write_text(f"text\tlabel\n{rows}\n")
    small = ("model.d_model=16", "model.heads=2", "model.d_ff=16", "model.encoder_layers=1", "tokenizer.type=chars")
    status = main([
        "finetune", "classify", "--train", str(folder / "rows.tsv"), "--out", str(folder / "run"), "--max-steps=2",
        "--precision=float32", "--device=cpu", "--model=bert-nano", *(f"--set={setting}" for setting in small),
    ])  # fmt: skip
    assert status == 0
    return folder / "run"


@pytest.fixture(scope="module")
def word_vectors(tmp_path_factory):
    """A file of word vectors."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    path.write_text("".join(f"{word} {i}.5 {i % 3} -0.25 1\n" for i, word in enumerate(WORDS[3].split())))
    return path


OF = {
    "translate": ("--max-length=2", "--beam-size=1", "--scores", "--engine=torch"),
    "predict": (),
}  # fmt: skip


@pytest.mark.parametrize("command", OF)
def test_several_processes_write_the_bytes_of_one(run, request, command):
    model = request.getfixturevalue("translator" if command == "translate" else "classifier")
    arguments = (command, "--model", model, "--device=cpu", "--threads=1", *OF[command])
    text = "".join(f"{line}\n" for line in LINES)
    one, several = (run(*arguments, f"--processes={count}", stdin=text) for count in (1, 2))
    assert (one.returncode, several.returncode, several.stderr) == (0, 0, one.stderr)
    assert one.stdout.count("\n") == len(LINES) and several.stdout == one.stdout


def test_several_processes_encode_as_one_does(run, translator):
    text = "".join(f"{line}\n" for line in LINES)
    one, several = (
        run("tokenize", "encode", translator / "tokenizer", f"--processes={count}", stdin=text) for count in (1, 2)
    )
    assert (one.returncode, several.returncode, several.stderr) == (0, 0, "")
    assert one.stdout.count("\n") == len(LINES) and several.stdout == one.stdout


@pytest.mark.parametrize("options", [("--pooling=sif", "--max-length=2"), ("--tokens", "--word=kind")])
def test_several_processes_embed_as_one_does(run, word_vectors, options):
    text = "".join(f"{line} das {'kind ' * (i % 3)}\n" for i, line in enumerate(LINES))
    arguments = ("embed", "--model", word_vectors, "--threads=1", "--device=cpu", *options)
    one, several = (run(*arguments, f"--processes={count}", stdin=text) for count in (1, 2))
    assert (one.returncode, several.returncode, several.stderr) == (0, 0, one.stderr)
    assert one.stdout.count("\n") >= len(LINES) // 2 and several.stdout == one.stdout


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """Two systems and two sets of references, of which one line is blank."""
    folder = tmp_path_factory.mktemp("systems")
    for name, step in (("first", 3), ("second", 5), ("right", 1), ("other", 2)):
        lines = (f"der mann {i % step} sieht den hund {i}, das kind" * (i != 7 or name != "other") for i in range(2100))
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ("bleu,chrf,ter,rouge1", "first", "--ref=right", "--ref=other", "--json"),
        ("wer,cer,bleu", "first", "second", "--ref=right", "--confidence", "--bootstrap-samples=9", "--json"),
        ("bleu,chrf++,wer,rougel", "first", "--baseline=second", "--ref=right", "--bootstrap-samples=9", "--json"),
    ],
)
def test_several_processes_score_as_one_does(run, systems, options):
    one, several = (run("score", *options, f"--processes={count}", cwd=systems) for count in (1, 2))
    assert (one.returncode, several.returncode, several.stderr) == (0, 0, one.stderr)
    assert json.loads(one.stdout)["segments"] == 2100 and several.stdout == one.stdout


def test_an_error_in_another_process_is_reported_once(run, systems):
    (systems / "bad").write_text((systems / "right").read_text().replace(" 1999,", " { 1999 / "))
    done = run("score", "wer", "first", "--ref=bad", "--alternatives", "--processes=2", cwd=systems)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nlpcli: reference line 2000: a '{' has no matching '}'")
    assert done.stderr.count("nlpcli:") == 1 and "Traceback" not in done.stderr


def test_what_is_not_scored_line_by_line_is_not_divided(run, systems):
    done = run("score", "accuracy", "first", "--ref=right", "--processes=2", cwd=systems)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--processes can't divide these files" in done.stderr


def test_everything_before_an_error_is_translated(run, translator):
    objects = [json.dumps({"text": line}) for line in LINES[:1500]]
    done = run(
        "translate", "--model", translator, "--max-length=2", "--device=cpu", "--format=jsonl", "--processes=2",
        stdin="\n".join([*objects, "no object"]),
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("\n")) == (2, 1500)
    assert "1501" in done.stderr and "Traceback" not in done.stderr


def test_everything_before_an_error_is_embedded(run, word_vectors):
    objects = [json.dumps({"text": line}) for line in LINES[:1500]]
    text = "\n".join([*objects, "no object"])
    done = run("embed", "--model", word_vectors, "--format=jsonl", "--processes=2", stdin=text)
    assert (done.returncode, done.stdout.count("\n")) == (2, 1500)
    assert "1501" in done.stderr and "Traceback" not in done.stderr


def children_of(pid):
    return [int(number) for number in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def ended(pid):
    try:
        return open(f"/proc/{pid}/stat").read().split(") ")[1][0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(translator, environment, tmp_path, number):
    (tmp_path / "many.txt").write_text("der mann\n" * 100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "nlpcli", "translate", "--model", translator, "--processes=2", "--device=cpu",
         "--threads=1", "--max-length=2", "--beam-size=1", tmp_path / "many.txt"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        process.stdout.readline()  # the workers are at work
        children = children_of(process.pid)
        assert len(children) >= 2
        process.send_signal(number)
        status = process.wait(90)
    finally:
        process.kill()
        process.stdout.close()
    assert status == (130 if number == signal.SIGINT else -signal.SIGKILL)
    end = time.monotonic() + 90
    while not all(map(ended, children)):
        assert time.monotonic() < end
        time.sleep(0.05)
