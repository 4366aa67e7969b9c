from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nlpcli.cli.main import main
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

LINES = ["der mann läuft", "", "ein hund und ein kind", "die frau steht auf dem haus"]


def write_model(path: Path, task: str = "translation", kind: str = "encoder-decoder") -> Path:
    """A small model that was never trained."""
    torch.manual_seed(2)
    tokenizer = train_tokenizer(
        "chars", [*LINES, "abcdefghijklmnopqrstuvwxyzäöüß"], vocab_size=None, byte_fallback=False, seed=1
    )
    config = TransformerConfig(
        kind=kind, d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, max_length=64
    )
    model = build_model(config, tokenizer.vocab_size)
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info={"task": task})
    return path


USUAL = {"--max-length": "8", "--device": "cpu"}
"""Options of every call here that are not given by the call itself."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("translate") / "model")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs the command in this process: (status, lines of stdout, stderr)."""

    def run_it(*arguments: object, stdin: bytes | None = None) -> tuple[int, list[str], str]:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        given = [*map(str, arguments)]
        usual = [word for pair in USUAL.items() if pair[0] not in given for word in pair]
        status = main(["translate", *usual, *given])
        captured = capsys.readouterr()
        return status, captured.out.split("\n")[:-1], captured.err

    return run_it


# --- what comes out ----------------------------------------------------------------------------------------------


def test_one_line_comes_out_for_each_line_that_goes_in(run, model, text):
    done = run("translate", "--model", model, "--max-length", 8, "--engine", "torch", stdin=text.read_text("utf-8"))
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout.split("\n")
    assert len(out) == 5
    assert [bool(line) for line in out] == [True, False, True, True, False]


def test_files_follow_one_another_and_minus_is_standard_input(call, model, text):
    _, once, _ = call("--model", model, text)
    status, out, _ = call("--model", model, text, "-", text, stdin=b"der mann l\xc3\xa4uft\r\n\n")
    assert status == 0
    assert out == [*once, once[0], "", *once]


def test_a_missing_last_line_end_changes_nothing(call, model):
    status, out, _ = call("--model", model, stdin=b"ein hund\nein kind")
    assert status == 0
    assert len(out) == 2


def test_batch_size_and_buffering_do_not_change_the_output(call, model, text):
    _, out, _ = call("--model", model, text)
    for options in (["--batch-tokens", 1], ["--line-buffered"], ["--threads", 1]):
        assert call("--model", model, text, *options)[1] == out


def test_scores_and_alignments_follow_after_tabs(call, model, text):
    _, plain, _ = call("--model", model, text)
    _, out, _ = call("--model", model, text, "--scores", "--alignments")
    assert [line.split("\t")[0] for line in out] == plain
    for line, source in zip(out, LINES, strict=True):
        _, score, alignment = line.split("\t")
        assert float(score) <= 0
        pairs = [pair.split("-") for pair in alignment.split()]
        assert all(int(i) < len(source.split()) for i, _ in pairs)


def test_the_n_best_are_moses_list(call, model, text):
    status, out, _ = call("--model", model, text, "--n-best", 3)
    assert status == 0
    fields = [line.split(" ||| ") for line in out]
    assert [int(field[0]) for field in fields] == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert all(len(field) == 4 and field[2].startswith("logprob= ") for field in fields)
    scores = [float(field[3]) for field in fields[:3]]
    assert scores == sorted(scores, reverse=True)


def test_json_lines_keep_their_other_fields(call, model, tmp_path):
    records = [{"id": 7, "text": "der mann", "tags": ["ä", None]}, {"text": "", "id": 8}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + "\n", encoding="utf-8")
    status, out, _ = call("--model", model, path, "--output-field", "de")
    assert status == 0
    found = [json.loads(line) for line in out[:2]]
    assert [{k: v for k, v in record.items() if k != "de"} for record in found] == records
    assert found[0]["de"]
    assert found[1]["de"] == ""
    assert out[2] == ""  # a blank line stays one
    path.write_text('{"frage": "der mann", "text": 3}\n', encoding="utf-8")
    _, out, _ = call("--model", model, path, "--field", "frage", "--n-best", 2, "--alignments")
    record = json.loads(out[0])
    assert record["frage"] == "der mann"
    assert len(record["translation_nbest"]) == 2
    assert set(record) == {"frage", "text", "translation", "translation_alignment", "translation_nbest"}


def test_json_output_gives_text_translation_and_score(call, model, text):
    _, plain, _ = call("--model", model, text)
    _, out, _ = call("--model", model, text, "--json")
    records = [json.loads(line) for line in out]
    assert [record["text"] for record in records] == LINES
    assert [record["translation"] for record in records] == plain
    assert all(record["translation_score"] <= 0 for record in records)


def test_target_prefixes_are_kept(call, model, text, tmp_path):
    _, out, _ = call("--model", model, text, "--target-prefix", "ein")
    assert [line.startswith("ein") for line in out] == [True, False, True, True]
    prefixes = tmp_path / "prefixes"
    prefixes.write_text("der\n\nhund\ndie\n", encoding="utf-8")
    _, out, _ = call("--model", model, text, "--target-prefix-file", prefixes)
    assert [line[:3] for line in out] == ["der", "", "hun", "die"]
    prefixes.write_text("der\n\n", encoding="utf-8")
    status, out, err = call("--model", model, text, "--target-prefix-file", prefixes)
    assert status == 2
    assert f"in.txt:3: {prefixes} has only 2 lines" in err
    assert len(out) == 2


def test_the_same_seed_draws_the_same_translations(call, model, text):
    draw = ["--sample", "--n-best", "2", "--temperature", "1.5", "--top-p", "0.95"]
    first = call("--model", model, text, *draw, "--seed", 3)[1]
    assert first == call("--model", model, text, *draw, "--seed", 3, "--batch-tokens", 1)[1]
    assert first != call("--model", model, text, *draw, "--seed", 4)[1]


def test_output_goes_to_a_file_whole_or_not_at_all(call, model, text, tmp_path):
    _, plain, _ = call("--model", model, text)
    path = tmp_path / "out.txt"
    status, out, _ = call("--model", model, text, "--output", path)
    assert (status, out) == (0, [])
    assert path.read_text("utf-8").split("\n")[:-1] == plain
    text.write_bytes(b"der mann\n\xff\n")
    assert call("--model", model, text, "--output", path)[0] == 2
    assert path.read_text("utf-8").split("\n")[:-1] == plain
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_an_overlong_line_is_cut_and_named(call, model, text):
    text.write_text("ein\n" + "hund " * 100 + "\nein\n", encoding="utf-8")
    status, out, err = call("--model", model, text, "--engine", "torch")
    assert status == 0
    assert len(out) == 3
    assert err.startswith(f"warning: {text}:2: the source has ") and "is truncated to 63, the maximum length" in err


def test_the_newest_translation_run_is_taken_and_named(call, model, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = write_model(tmp_path / "runs" / "old")
    new = write_model(tmp_path / "runs" / "new")
    write_model(tmp_path / "runs" / "lm", "language-model", "decoder")
    for age, run_folder in ((200, old), (100, new)):
        os.utime(run_folder / "model.yaml", (1e9 - age, 1e9 - age))
    status, out, err = call(text)
    assert status == 0
    assert len(out) == 4
    assert err.startswith("model: runs/new (the newest translation model;")


@pytest.mark.processes
def test_line_buffered_answers_each_line_before_the_next(nlpcli_command, environment, model, tmp_path):
    process = subprocess.Popen(
        [*nlpcli_command, "translate", "--model", str(model), "--line-buffered", "--max-length", "4"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=tmp_path, text=True, encoding="utf-8",
    )  # fmt: skip
    for line in ("der mann", "", "ein hund"):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert bool(process.stdout.readline().strip()) == bool(line)
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.mark.processes
def test_a_reader_that_leaves_ends_it_quietly(nlpcli_command, environment, model, tmp_path):
    (tmp_path / "many.txt").write_text("der mann\n" * 3000, encoding="utf-8")
    process = subprocess.Popen(
        [*nlpcli_command, "translate", "--model", str(model), "--max-length", "2", "-b", "1",
         "--engine", "torch", "many.txt"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stderr.close()


# --- what is refused ---------------------------------------------------------------------------------------------


def test_without_a_run_it_says_how_to_make_one(run, text):
    done = run("translate", text)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no model was given, and runs/ contains no translation model" in done.stderr
    assert "nlpcli finetune --task translation" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_stands_before_invalid_utf8_is_translated(run, model):
    data = b"der mann\nein hund\nk\xffnd\nein kind\n"
    done = run("translate", "--model", model, "--max-length", 4, stdin=data)
    assert done.returncode == 2
    assert len(done.stdout.split("\n")) == 3
    assert "<stdin>:3: the line is not valid UTF-8 (byte 0xff at column 2)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "ein"', "in.jsonl:2: this is not valid JSON"),
        ("[1]", "in.jsonl:2: this is not a JSON object"),
        ('{"txt": "ein"}', "in.jsonl:2: there is no field 'text'"),
        ('{"text": 5}', "in.jsonl:2: the field 'text' must be text, not 5"),
        ('{"text": "\\ud800"}', "in.jsonl:2: the field 'text' contains half of a surrogate pair"),
    ],
)
def test_a_broken_json_line_is_named(call, model, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"text": "ein hund"}\n' + line + "\n", encoding="utf-8")
    status, out, err = call("--model", model, "in.jsonl")
    assert status == 2
    assert len(out) == 1
    assert message in err


def test_a_model_for_another_task_is_refused(call, text, tmp_path):
    path = write_model(tmp_path / "lm", "language-model", "decoder")
    status, _, err = call("--model", path, text)
    assert status == 2
    assert f"{path} is a language model, not a translation model" in err
    assert f"nlpcli generate --model {path}" in err


def test_a_damaged_model_folder_is_refused(run, call, text, tmp_path):
    path = write_model(tmp_path / "cut")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    done = run("translate", "--model", path, text)
    assert done.returncode == 2
    assert "model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    weights.unlink()
    assert "model.safetensors is missing" in call("--model", path, text)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "nowhere: the model folder does not exist"),
        (["no-such.txt"], "no-such.txt: no such file"),
        (["--beam-size", "0"], "beam size must be at least 1, not 0"),
        (["--beam-size", "2", "--n-best", "3"], "--n-best must lie between 1 and the beam size 2, not 3"),
        (["--length-normalization", "averge"], "unknown length normalization 'averge'"),
        (["--format", "jsn"], "unknown format 'jsn'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--temperature", "0.5"], "--temperature has no effect without --sample"),
        (["--sample", "--top-p", "2"], "--top-p must be above 0 and at most 1"),
        (["--sample", "--temperature", "0"], "temperature must be a positive number"),
        (["--batch-tokens", "0"], "--batch-tokens must be at least 1"),
        (["--alignments", "--alignment-layer", "9"], "no decoder layer 9"),
        (["--target-prefix", "a", "--target-prefix-file", "b"], "can't be used together"),
        (["--beam-sise", "2"], "unknown option '--beam-sise'"),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(call, model, text, arguments, message):
    given = [] if "--model" in arguments else ["--model", model]
    status, out, err = call(*given, *arguments, text)
    assert status == 2
    assert message in err
    assert "internal error" not in err
    assert out == []


@pytest.mark.parametrize("format", ["auto", "text"])
def test_a_field_of_the_output_is_refused_where_lines_are_plain(call, model, text, format):
    status, out, err = call("--model", model, text, "--format", format, "--output-field", "de")
    assert status == 2 and not out and "--output-field names a field of JSON objects" in err
    status, out, _ = call("--model", model, text, "--format", format, "--output-field", "de", "--json")
    assert status == 0 and all("de" in json.loads(line) for line in out)


def test_an_ensemble_of_a_model_with_itself_translates_as_the_model(call, model, text):
    _, alone, _ = call("--model", model, "--engine", "torch", text)
    status, lines, err = call("--model", model, "--ensemble", model, "--engine", "auto", text)
    assert status == 0 and lines == alone
    assert "CTranslate2 does not support --ensemble" in err or "ctranslate2 is not installed" in err


def test_an_ensemble_needs_one_tokenizer_and_has_no_attention(call, model, text, tmp_path):
    other = tmp_path / "other"
    tokenizer = train_tokenizer("chars", ["abc"], vocab_size=None, byte_fallback=False, seed=1)
    config = TransformerConfig(kind="encoder-decoder", d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=1)
    save_model(
        other, weights=build_model(config, tokenizer.vocab_size).state_dict(), config=config, tokenizer=tokenizer,
        info={"task": "translation"},
    )  # fmt: skip
    status, _, err = call("--model", model, "--ensemble", other, text)
    assert status == 2 and "because their tokenizers differ" in err
    status, _, err = call("--model", model, "--ensemble", model, "--alignments", text)
    assert status == 2 and "--alignments and --ensemble can't be used together" in err
