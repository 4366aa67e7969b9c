"""`nlpcli pretrain` and `nlpcli finetune` as a shell runs them: they train, they refuse, they can be interrupted."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml
from nlpcli.errors import NlpcliError
from nlpcli.training.training_log import read_metrics

SMALL = [
    f"--set={setting}"
    for setting in (
        "model.d_model=16", "model.heads=2", "model.d_ff=16", "model.encoder_layers=1", "model.decoder_layers=1",
        "tokenizer.type=chars", "training.log_every=5", "training.evaluate_every=10", "training.precision=float32",
        "training.warmup_steps=2", "training.batch_tokens=512", "training.average_last=0", "training.bleu_sentences=4",
        "data.context=32", "data.workers=1",
    )
]  # fmt: skip
NUMBERS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write(path: Path, lines) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path):
    """Numbers spelled in English and German: train.en, train.de, dev.en, dev.de."""
    places = [(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
    for side, words in (("en", WORDS), ("de", NUMBERS)):
        lines = [" ".join(words[digit] for digit in digits) for digits in places]
        write(tmp_path / f"train.{side}", lines[::3])
        write(tmp_path / f"dev.{side}", lines[1::40])
    return tmp_path


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """A command in this process and an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def finetune(*arguments, out="runs/t", train="train", dev="dev", steps=20):
    files = ["--train", f"{train}.en", f"{train}.de", "--dev", f"{dev}.en", f"{dev}.de"]
    return ["finetune", "--task", "translation", *files, "--out", out, "--max-steps", steps, *SMALL, *arguments]


def pretrain(*arguments, data="train.en", out="runs/lm", steps=20):
    return ["pretrain", "--objective", "clm", "--data", data, "--out", out, "--max-steps", steps, *SMALL, *arguments]


# --- training ----------------------------------------------------------------------------------------------------


def test_a_translator_is_trained_used_and_scored_in_one_pipeline(call, pairs, nlpcli_command, environment):
    status, out, err = call(*finetune(steps=10))
    assert (status, out) == (0, "runs/t\n"), err
    lines = [f"{WORDS[i % 10]} {WORDS[i // 10 % 10]}" if i % 50 else "" for i in range(1000)]
    write(pairs / "test.en", lines)
    write(pairs / "test.de", ["eins zwei drei vier"] * 1000)
    nlpcli = shlex.join(nlpcli_command)
    pipeline = (
        f"cat test.en | {nlpcli} translate --model runs/t --max-length 6 --beam-size 2 | tee hyp.de | "
        f"{nlpcli} score --metric bleu --ref test.de --json"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipeline], cwd=pairs, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    hypotheses = (pairs / "hyp.de").read_text(encoding="utf-8").split("\n")
    assert len(hypotheses) == 1001 and hypotheses[-1] == ""
    assert [bool(line) for line in lines] == [bool(line) for line in hypotheses[:-1]] or hypotheses[0] == ""
    assert hypotheses[0] == hypotheses[50] == ""  # blank for blank
    score = json.loads(done.stdout)
    assert "13a" in json.dumps(score)


def test_the_pipeline_ends_quietly_when_its_reader_leaves(call, pairs, nlpcli_command, environment):
    call(*finetune(steps=2))
    write(pairs / "test.en", ["one two"] * 3000)
    nlpcli = shlex.join(nlpcli_command)
    pipeline = f"cat test.en | {nlpcli} translate --model runs/t --max-length 4 --beam-size 1 2> err | head -n 2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipeline], cwd=pairs, env=environment, capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.returncode in (0, 141)  # 141: cat itself was cut off
    assert "Traceback" not in (pairs / "err").read_text() and "rror" not in (pairs / "err").read_text()


def test_objective_and_task_may_stand_without_their_option(call, pairs):
    arguments = pretrain(out="a", steps=3)
    assert call(*arguments)[0] == 0
    assert call("pretrain", "clm", *arguments[3:][:2], "--out", "b", "--max-steps", 3, *SMALL)[0] == 0
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


@pytest.mark.parametrize("before", [[], ["clm"]], ids=["no objective", "an objective before"])
def test_a_shell_may_make_several_files_of_one_value_of_data_and_of_dev(call, pairs, before):
    files = ["--data", "train.en", "train.de", "--dev", "dev.en", "dev.de"]
    status, _, err = call("pretrain", *before, *files, "--out", "runs/lm", "--max-steps", 2, *SMALL)
    assert status == 0, err
    data = load_yaml(pairs / "runs/lm/config.yaml")["data"]
    assert (data["train"], data["dev"]) == (["train.en", "train.de"], ["dev.en", "dev.de"])


def test_a_corpus_may_come_through_a_pipe(run, pairs, tmp_path):
    text = (pairs / "train.en").read_text()
    done = run(*pretrain(data="-", out="piped", steps=3), stdin=text, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(*pretrain(data="train.en", out="read", steps=3), cwd=tmp_path)
    assert (tmp_path / "piped/model.safetensors").read_bytes() == (tmp_path / "read/model.safetensors").read_bytes()


@pytest.mark.parametrize("attention", ["window:4+global:1", "blockwise:4(window:2+random:1)", "linear"])
def test_any_pattern_and_kind_of_attention_trains_resumes_and_writes(call, pairs, attention):
    chosen = ["--attention", attention, "--attention", "full", "--set", "training.schedule=constant"]
    assert call(*pretrain(*chosen, steps=6))[0] == 0
    assert load_yaml(Path("runs/lm/config.yaml"))["model"]["attention"] == [attention, "full"]
    once = call(*pretrain(*chosen, out="other", steps=3))
    again = call("pretrain", "--resume", "--out", "other", "--max-steps", 6)
    assert once[0] == again[0] == 0
    assert Path("other/model.safetensors").read_bytes() == Path("runs/lm/model.safetensors").read_bytes()
    status, out, err = call("generate", "--model", "runs/lm", "--prompt", "one", "--greedy", "--max-new-tokens", 9)
    assert status == 0 and out.startswith("one"), err


def test_a_translator_attends_as_configured_on_both_sides(call, pairs):
    own = 'model.decoder_attention=["window:6"]'
    status, _, err = call(*finetune("--attention", "window:3+global@0,-1", "--set", own, steps=5))
    assert status == 0, err
    settings = load_yaml(Path("runs/t/config.yaml"))["model"]
    assert (settings["attention"], settings["decoder_attention"]) == (["window:3+global@0,-1"], ["window:6"])
    write(pairs / "in.en", ["one two three"])
    assert call("translate", "--model", "runs/t", "in.en")[0] == 0


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("windw:3", "attention: pattern 'windw:3', character 1: unknown pattern 'windw'"),
        ("global@-1", "depends on the length of the text"),
        ("linear & window:3", "linear does not support patterns"),
    ],
)
def test_attention_that_can_not_be_had_is_refused_before_anything_is_trained(call, pairs, attention, message):
    status, _, err = call(*pretrain("--attention", attention))
    assert status == 2 and message in err and not Path("runs").exists()


def test_json_gives_a_program_where_the_run_is_and_how_it_ended(call, pairs):
    status, out, _ = call(*pretrain("--json", steps=10))
    summary = json.loads(out)
    assert status == 0 and summary["run"] == "runs/lm" and summary["steps"] == 10
    [loss], [best] = ([one for one in summary[key] if one["metric"] == "loss"] for key in ("scores", "best"))
    assert list(loss) == ["metric", "value", "low", "high", "signature"] and loss["low"] is None
    assert loss["signature"].startswith("loss") and best == loss | {"step": 10}
    assert summary["best_checkpoint"] == "step 10" and summary["stopped"] == "the limit of 10 steps was reached"


def test_the_first_line_says_device_precision_and_threads(call, pairs):
    _, _, err = call(*pretrain(steps=2))
    assert re.search(r"parameters; device: cpu, float32 \(as configured\), 1 CPU thread", err), err


def test_with_nothing_given_the_sample_is_taken_and_every_default_is_reported(call):
    status, out, err = call("pretrain", "--max-steps", 1, "--set", "training.bleu_sentences=0", *SMALL[:7])
    assert status == 0, err
    assert "objective: clm (the default)" in err and "preset: gpt-mini (the default)" in err
    assert "tinyshakespeare" in err and out == "runs/clm-gpt-mini-1\n"


@pytest.mark.parametrize("arguments, documents", [
    ([], "file"), (["mlm"], "paragraphs"), (["--set", "data.documents=lines"], "lines"),
    (["--documents", "paragraphs"], "paragraphs"), (["--config", "lines.yaml"], "lines"),
    (["--config", "mlm.yaml"], "paragraphs"), (["--config", "clm.yaml"], "file"),
    (["--set", "objective=mlm"], "paragraphs"),
])  # fmt: skip
def test_how_documents_stand_in_the_sample_is_reported_as_it_is_read(call, pairs, monkeypatch, arguments, documents):
    write(pairs / "text", ["one two three four five six", "", "seven eight nine one", "two three"])
    monkeypatch.setattr("nlpcli.data.sample_data.sample_file", lambda name: pairs / "text")
    write(pairs / "lines.yaml", ["extends: gpt-mini", "data: {documents: lines}"])
    write(pairs / "mlm.yaml", ["extends: roberta-nano"])
    write(pairs / "clm.yaml", ["extends: gpt-mini", "objective: clm"])
    _, _, err = call("pretrain", *arguments, "--max-steps", 1, "--out", "run", *SMALL, "--set", "data.context=8",
                     "--set", "data.dev_fraction=0.4")  # fmt: skip
    assert f"(the sample data of nlpcli), data.documents: {documents}\n" in err
    assert load_yaml(Path("run/config.yaml"))["data"]["documents"] == documents


def test_the_sample_is_learnt_by_what_was_made_for_it_and_other_pairs_by_the_usual_preset(call, pairs, monkeypatch):
    pairs_ = ["--train", "train.en", "train.de", "--dev", "dev.en", "dev.de"]
    small = ["--max-steps", 1, *SMALL]
    assert "model: transformer-tiny (the default)" in call("finetune", *pairs_, *small)[2]
    assert (
        "model: transformer-tiny (the default)"
        in call("finetune", "--set", "data.train=[train.en, train.de]", *small)[2]
    )
    monkeypatch.setattr("nlpcli.data.sample_data.sample_file", lambda name: pairs / Path(name).name.removesuffix(".gz"))
    status, out, err = call("finetune", *small)
    assert status == 0 and out == "runs/translation-transformer-mini-1\n"
    assert "model: transformer-mini (the default)" in err and "the sample" in err


def test_a_configuration_without_text_takes_the_sample_too(call, pairs):
    write(pairs / "mine.yaml", ["extends: gpt-mini", "training: {max_steps: 1}"])
    status, _, err = call("pretrain", "--config", "mine.yaml", *SMALL[:7])
    assert status == 0 and "the sample data of nlpcli" in err
    write(pairs / "named.yaml", ["extends: gpt-mini", "data: {train: [train.en]}", "training: {max_steps: 1}"])
    status, _, err = call("pretrain", "--config", "named.yaml", *SMALL)
    assert status == 0 and "sample" not in err


def test_text_named_in_a_preset_file_or_by_set_is_not_replaced_by_the_sample(call, pairs):
    write(pairs / "named.yaml", ["extends: gpt-mini", "data: {train: [train.en]}", "training: {max_steps: 1}"])
    for number, arguments in enumerate((["--preset", "named.yaml"], ["--set", "data.train=[train.en]"])):
        status, _, err = call("pretrain", *arguments, "--max-steps", 1, "--out", f"run{number}", *SMALL)
        assert status == 0 and "sample data of nlpcli" not in err and "317 documents" in err, err


def test_held_out_pairs_that_are_given_stand_beside_the_sample(call, pairs):
    status, _, err = call("finetune", "--dev", "dev.en", "dev.de", "--max-steps", 1, "--out", "run", *SMALL)
    assert status == 0 and "the sample" in err
    assert "dev: [dev.en, dev.de]" in Path("run/config.yaml").read_text()


def test_settings_that_mean_nothing_to_a_run_are_reported(call, pairs):
    _, _, err = call(*pretrain("--set", "data.subword_sampling=0.1", steps=1))
    assert "these settings have no effect on this run: data.subword_sampling" in err
    _, _, err = call(*finetune("--set", "data.column=2", steps=1))
    assert "these settings have no effect on this run: data.column" in err


def test_a_resumed_run_keeps_its_model_and_refusing_another_changes_nothing(call, pairs):
    call(*pretrain(steps=2))
    before = Path("runs/lm/config.yaml").read_bytes()
    for setting in ("model.heads=1", "model.activation=relu", "tokenizer.vocab_size=9"):
        status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--set", setting)
        assert status == 2 and f"{setting.split('=')[0]} of a resumed run can't be changed from" in err
    status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--noise", "spans")
    assert status == 2 and "noise.kinds of a resumed run can't be changed from infill:0.3,permute to spans" in err
    assert Path("runs/lm/config.yaml").read_bytes() == before
    status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--set", "model.dropout=0.2", "--max-steps", 3)
    assert status == 0, err


def test_a_requested_limit_replaces_the_presets(call, pairs):
    arguments = [argument for argument in pretrain() if argument not in ("--max-steps", 20)]
    status, _, err = call(*arguments, "--max-epochs", 1)
    assert status == 0 and "the limit of 1 epoch was reached" in err
    training = load_yaml(Path("runs/lm/config.yaml"))["training"]
    assert (training["max_steps"], training["max_epochs"], training["max_minutes"]) == (None, 1.0, None)


@pytest.mark.parametrize("limit", ["max_tokens=900", "max_flops=1e6"])
def test_a_requested_limit_replaces_those_of_the_run_that_is_resumed(call, pairs, limit):
    arguments = [argument for argument in pretrain() if argument not in ("--max-steps", 20)]
    done = call(*arguments, "--set", "training.max_steps=null", "--set", f"training.{limit}")
    assert done[0] == 0 and re.search("the limit of [0-9.e+,]+ (tokens|FLOPs) was reached", done[2]), done[2]
    status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--max-steps", 5)
    assert status == 0 and "stopped after step 5" in err and "the limit of 5 steps was reached" in err
    status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--max-tokens", 5000)
    assert status == 0 and "tokens was reached" in err
    training = load_yaml(Path("runs/lm/config.yaml"))["training"]
    assert (training["max_steps"], training["max_tokens"], training["max_flops"]) == (None, 5000, None)


def test_a_translator_reports_its_perplexity_per_token_word_and_byte(call, pairs):
    call(*finetune(steps=2))
    info = load_yaml(Path("runs/t/model.yaml"))
    assert {"loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bleu"} <= info[
        "metrics"
    ].keys()
    assert "window:sentence" in info["signatures"]["word_perplexity"]
    assert "sentences:4|beam:1" in info["signatures"]["bleu"]


def test_looking_at_examples_twice_trains_one_tokenizer_and_training_takes_it_too(call, pairs, monkeypatch):
    monkeypatch.setenv("NLPCLI_CACHE", str(pairs / "cache"))
    small = [item for item in SMALL if "chars" not in item]
    look = ["pretrain", "mlm", "--data", "train.en", *small, "--set", "tokenizer.vocab_size=300"]
    first, second, train = (call(*look, *more)[2] for more in (["--show", 1], ["--show", 2], ["--max-steps", 1]))
    assert "training a tokenizer" in first
    for err in (second, train):
        assert "training a tokenizer" not in err and "trained on this text before" in err


class Shown:
    """A bar that remembers what it shows."""

    def __init__(self):
        self.texts = []

    def update(self, completed, status=""):
        self.texts.append((round(completed, 3), status))


@pytest.fixture
def bars(monkeypatch):
    """Every bar that a command has shown."""
    found = []

    @contextlib.contextmanager
    def progress(description, **_):
        found.append(Shown())
        yield found[-1]

    monkeypatch.setattr("nlpcli.cli.terminal.progress", progress)
    return found


@pytest.mark.parametrize("make, words", [(pretrain, ["evaluating"]), (finetune, ["evaluating", "translating"])])
def test_an_evaluation_during_training_says_how_far_it_is(call, pairs, bars, make, words):
    status, _, err = call(*make("--set", "training.evaluate_every=2", "--set", "training.log_every=1", steps=4))
    assert status == 0, err
    texts = [text for _, text in bars[0].texts]
    for word in words:
        assert any(text.startswith(f"step 2  {word}") for text in texts)
        assert f"step 4  {word} 100 %" in texts  # the second time it is known how much there is
    assert all(share == 0.5 for share, text in bars[0].texts if text.startswith("step 2  eval"))


def test_evaluating_says_how_far_it_is(call, pairs, bars):
    write(pairs / "train.tsv", ["text\tlabel", *(f"{word}\t{i % 2}" for i, word in enumerate(WORDS * 4))])
    small = [item for item in SMALL if "average_last" not in item and "chars" not in item]
    call("finetune", "classify", "--train", "train.tsv", "--out", "runs/c", "--max-steps", 2, *small, "--set",
         "tokenizer.type=words")  # fmt: skip
    assert "step 2  computing the loss 100 %" in [text for _, text in bars[0].texts]
    assert "step 2  evaluating 100 %" in [text for _, text in bars[0].texts]
    status, _, err = call("evaluate", "--model", "runs/c", "train.tsv")
    assert status == 0 and bars[-1].texts[-1] == (1.0, "evaluating 100 %"), err
    call(*pretrain(steps=2))
    call("score", "perplexity", "train.en", "--model", "runs/lm")
    assert bars[-1].texts[-1] == (1.0, "evaluating 100 %")


def test_a_run_without_a_name_gets_a_new_one(call, pairs):
    arguments = [argument for argument in pretrain(steps=1) if argument not in ("--out", "runs/lm")]
    assert [call(*arguments)[1] for _ in range(2)] == ["runs/clm-gpt-mini-1\n", "runs/clm-gpt-mini-2\n"]


def test_a_run_is_named_after_what_is_trained(call, pairs):
    lm = ["--data", "train.en", "--max-steps", 1, *SMALL]
    pairs_ = ["--train", "train.en", "train.de", "--dev", "dev.en", "dev.de", "--max-steps", 1, *SMALL]
    write(pairs / "mine.yaml", ["extends: bart-nano", "objective: denoise"])
    assert call("pretrain", "mlm", *lm)[1] == "runs/mlm-roberta-nano-1\n"
    assert call("pretrain", "mlm", "--model", "runs/mlm-roberta-nano-1", *lm)[1] == "runs/mlm-roberta-nano-2\n"
    plm = [argument for argument in lm if argument != "--set=model.decoder_layers=1"]
    assert call("pretrain", "plm", *plm)[1] == "runs/plm-xlnet-nano-1\n"
    assert call("pretrain", "--config", "mine.yaml", *lm)[1] == "runs/denoise-mine-1\n"
    Path("runs/mlm-roberta-nano-1").rename("my encoder")
    assert call("pretrain", "mlm", "--model", "my encoder", *lm)[1] == "runs/mlm-my-encoder-1\n"
    assert call("finetune", "translation", *pairs_)[1] == "runs/translation-transformer-tiny-1\n"
    assert call("finetune", "--model", "bart-nano", *pairs_)[1] == "runs/translation-bart-nano-1\n"
    denoiser = "runs/denoise-mine-1"
    assert call("finetune", "--model", denoiser, *pairs_)[1] == "runs/translation-denoise-mine-1\n"


def test_a_run_is_resumed_by_the_command_that_began_it_and_no_other(call, pairs):
    assert call(*pretrain(steps=1))[0] == 0 and call(*finetune(steps=1))[0] == 0
    before = {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()}
    for command, run, own in (("pretrain", "runs/t", "finetune"), ("finetune", "runs/lm", "pretrain")):
        status, out, err = call(command, "--resume", "--out", run)
        assert (status, out) == (2, "")
        kind = "a fine-tuning run (task translation)" if own == "finetune" else "a pretraining run (clm)"
        assert f"{run} is {kind}, which 'nlpcli {command}' can't resume" in err
        assert f"nlpcli {own} --resume --out {run}" in err
    assert {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_resuming_what_is_no_run_says_what_is_there(call, pairs, command):
    for out, message, hint in (
        ("runs/nothing", "runs/nothing does not exist, so there is no run to resume", "leave out --resume"),
        ("runs/lmm", "runs/lmm does not exist, so there is no run to resume", "did you mean 'runs/lm'?"),
        ("train.en", "train.en is a file, not the folder of a run", "with --out"),
        ("empty", "empty is not the folder of a run (config.yaml is missing)", "with --out"),
        (
            "runs",
            "runs is not the folder of a run (config.yaml is missing)",
            "name one of the runs in it, such as runs/lm",
        ),
        (
            "runs/lm/checkpoints",
            "runs/lm/checkpoints is not the folder of a run",
            f"name the run with --out: {pairs}/runs/lm",
        ),
        ("seeds", "seeds is not the folder of a run", "nlpcli finetune --resume --seeds 2 --out seeds"),
    ):
        for place in ("runs/lm/checkpoints/step-00000003", "seeds/seed-1", "seeds/seed-2"):
            (pairs / place).mkdir(parents=True, exist_ok=True)
            (pairs / place / ("config.yaml" if "seed-" in place else "state.yaml")).write_text("objective: clm\n")
        (pairs / "runs/lm").mkdir(parents=True, exist_ok=True)
        (pairs / "empty").mkdir(exist_ok=True)
        (pairs / "runs/lm/config.yaml").write_text("objective: clm\n")
        status, stdout, err = call(command, "--resume", "--out", out)
        assert (status, stdout) == (2, "") and message in err and hint in err, err
    shutil.rmtree(pairs / "runs/lm/checkpoints")
    (pairs / "runs/lm/README.md").write_text("finished, and its checkpoints were removed\n")
    status, stdout, err = call("pretrain", "--resume", "--out", "runs/lm", "--data", "train.en")
    assert (status, stdout) == (2, "") and err.startswith("nlpcli: runs/lm contains no checkpoint to resume from"), err
    for more in (["--seeds", 2], ["--suite", "glue", "--train", "GLUE"]):
        status, _, err = call("finetune", "--resume", "--out", "runs/nothing", *more)
        assert status == 2 and "runs/nothing" in err and "there is no" in err and "to resume" in err
    status, _, err = call("finetune", "--resume", "--out", "runs/lm", "--seeds", 2)
    assert status == 2 and "runs/lm is a single run" in err and "leave out --seeds" in err


def test_a_vocabulary_the_text_cannot_fill_is_made_smaller_and_reported(call, pairs):
    status, _, err = call(*finetune("--set", "tokenizer.type=unigram", "--set", "tokenizer.vocab_size=8000", steps=1))
    assert status == 0 and "the text is too small for this vocabulary size; the tokenizer has" in err


# --- interruption ------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_ctrl_c_saves_and_the_command_it_prints_resumes(nlpcli_command, environment, pairs):
    command = [str(a) for a in pretrain("--set", "training.log_every=1", steps=100000)]
    process = subprocess.Popen(
        [*nlpcli_command, *command],
        cwd=pairs,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = pairs / "runs/lm/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    resume = re.search(r"resume with: nlpcli (.*)", err)
    done_steps = int(re.search(r"stopped after step ([\d,]+)", err)[1].replace(",", ""))
    more = [*shlex.split(resume[1]), "--max-steps", str(done_steps + 3)]
    done = subprocess.run([*nlpcli_command, *more], cwd=pairs, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resuming after step {done_steps:,}" in done.stderr
    assert [line["step"] for line in read_metrics(pairs / "runs/lm")][-1] == done_steps + 3


def test_a_full_disk_ends_the_run_with_one_sentence_and_keeps_what_was_there(call, pairs, nlpcli_command, environment):
    call(*pretrain(steps=2))
    before = {path: path.read_bytes() for path in (pairs / "runs/lm").rglob("*") if path.is_file()}
    command = [str(a) for a in pretrain("--set", "model.d_model=128", out="runs/big", steps=2)]
    limited = f"ulimit -f 64; exec {shlex.join([*nlpcli_command, *command])}"  # no file beyond 64 blocks of 1024 bytes
    done = subprocess.run(["bash", "-c", limited], cwd=pairs, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "no space is left" in done.stderr and "Traceback" not in done.stderr
    assert not (pairs / "runs/big/model.yaml").exists()
    assert before == {path: path.read_bytes() for path in (pairs / "runs/lm").rglob("*") if path.is_file()}


# --- refusals ----------------------------------------------------------------------------------------------------


def make_bad_files(folder: Path) -> None:
    (folder / "empty.en").touch()
    (folder / "empty.de").touch()
    (folder / "latin.en").write_bytes(b"one\ntwo\nca\xffe\n")
    write(folder / "latin.de", NUMBERS[:3])
    write(folder / "short.en", WORDS[:3])
    write(folder / "short.de", NUMBERS[:2])
    write(folder / "wrong.yaml", ["training:", "  learning_rate: 0.1"])
    write(folder / "broken.yaml", ["training:", "  lr: [0.1"])
    write(folder / "rate.yaml", ["training:", "  lr: fast"])
    write(folder / "odd.yaml", ["extends: gpt-mini", "data: [1]"])
    (folder / "holds-something").mkdir()
    write(folder / "holds-something/notes.txt", ["mine"])


LEARNED = ["--set", "model.positions=learned", "--set", "model.max_length=10"]
BAD_CALLS = {
    "missing file": (finetune(train="nowhere"), "nowhere.en: no such file", None),
    "empty file": (finetune(train="empty"), "empty", None),
    "invalid UTF-8": (finetune(train="latin"), "latin.en:3", None),
    "unequal numbers of lines": (finetune(train="short"), "short.en has 3 lines, but short.de has 2", None),
    "unequal dev files": (finetune(dev="short"), "short.en has 3 lines, but short.de has 2", None),
    "text missing": (pretrain(data="nowhere.txt"), "nowhere.txt: no such file", None),
    "text empty": (pretrain(data="empty.en"), "empty", None),
    "text not UTF-8": (pretrain(data="latin.en"), "latin.en:3", None),
    "folder without text": (pretrain(data="holds-nothing"), "holds-nothing", None),
    "unknown preset": (pretrain("--preset", "gpt-mimi"), "unknown preset 'gpt-mimi'", "gpt-mini"),
    "unknown model": (finetune("--model", "transformer-tiney"), "unknown preset", "transformer-tiny"),
    "unknown option": (pretrain("--max-step", 3), "--max-step", "--max-steps"),
    "unknown objective": (["pretrain", "clmm"], "unknown objective 'clmm'", "clm"),
    "unknown task": (["finetune", "translatoin"], "unknown task 'translatoin'", "translation"),
    "unknown key": (pretrain("--config", "wrong.yaml"), "training.learning_rate", None),
    "unknown key by --set": (pretrain("--set", "training.warmup_step=3"), "training.warmup_step", "warmup_steps"),
    "not YAML": (pretrain("--config", "broken.yaml"), "broken.yaml:", None),
    "not a number": (pretrain("--config", "rate.yaml"), "training.lr", None),
    "wrong device": (pretrain("--device", "gpu"), "gpu", "cuda"),
    "a model of the wrong kind": (pretrain("--preset", "transformer-tiny"), "clm needs a decoder", None),
    "no such tokenizer": (pretrain("--tokenizer", "nowhere"), "nowhere", None),
    "two bases": (pretrain("--config", "rate.yaml", "--preset", "gpt-mini"), "--config", "extends"),
    "resume nothing": (["pretrain", "--resume", "--out", "runs/none"], "runs/none", None),
    "resume without a name": (["pretrain", "--resume"], "--resume", "--out"),
    "a folder of other things": (
        pretrain(out="holds-something"),
        "holds-something is not empty, and it is not the folder of a run",
        "--out",
    ),
    "text shorter than the context": (pretrain("--set", "data.context=100000"), "context", None),
    "stride wider than the context": (pretrain("--set", "data.eval_stride=33"), "stride 33", None),
    "negative seed": (pretrain("--seed", -1), "training.seed", None),
    "schedule without an end": (
        pretrain("--set", "training.max_steps=null"),
        "'cosine' needs to know when training ends, but no limit is set",
        "training.max_steps",
    ),
    "metric not measured": (finetune("--set", "training.metric=chrf"), "'chrf' is not measured", "bleu"),
    "BLEU of no sentences": (finetune("--set", "training.bleu_sentences=0"), "'bleu' is not measured", "loss"),
    "unknown BLEU tokenizer": (finetune("--set", "decoding.bleu_tokenize=14a"), "14a", "13a"),
    "no second segmentation": (
        finetune("--set", "data.subword_sampling=0.1"),
        "a tokenizer of type chars does not support subword sampling",
        None,
    ),
    "too few positions": (
        finetune(*LEARNED),
        "data.max_length 128 is greater than model.max_length 10",
        "data.max_length=10",
    ),
    "a dev line beyond the positions": (
        finetune(*LEARNED, "--set", "data.max_length=10"),
        "dev.en and dev.de",
        "leave",
    ),
    "resume with a preset": (
        ["pretrain", "--resume", "--out", "a", "--preset", "gpt-mini"],
        "a preset and --resume can't be used together",
        "--set",
    ),
    "resume with a file": (
        ["pretrain", "--resume", "--out", "a", "--config", "wrong.yaml"],
        "--config and --resume can't be used together",
        "--set",
    ),
    "resume and overwrite": (
        ["finetune", "--resume", "--out", "a", "--overwrite"],
        "--overwrite and --resume can't be used together",
        None,
    ),
    "resume with a tokenizer": (
        ["finetune", "--resume", "--out", "a", "--tokenizer", "b"],
        "--tokenizer and --resume can't be used together",
        None,
    ),
    "a noise for another objective": (
        pretrain("--noise", "spans"),
        "--noise has no effect on the objective clm",
        "denoise",
    ),
    "a noise for masks": (
        ["pretrain", "--objective", "mlm", "--noise", "spans", "--data", "train.en"],
        "--noise has no effect on the objective mlm",
        "denoise",
    ),
    "a noise for gap sentences": (
        ["pretrain", "gap-sentences", "--noise", "infill", "--data", "train.en"],
        "--noise has no effect on the objective gap-sentences",
        "denoise",
    ),
    "a document mask for masks": (
        ["pretrain", "--objective", "mlm", "--document-mask", "--data", "train.en"],
        "--document-mask has no effect on the objective mlm",
        "clm",
    ),
    "data that is no group": (["pretrain", "--preset", "odd.yaml"], "odd.yaml': data", None),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_ends_with_one_sentence_and_status_2(call, pairs, name):
    arguments, message, hint = BAD_CALLS[name]
    make_bad_files(pairs)
    (pairs / "holds-nothing").mkdir()
    status, out, err = call(*arguments)
    assert status == 2, err
    assert out == "" and "Traceback" not in err
    assert message in err, err
    assert hint is None or hint in err, err
    assert not list(pairs.glob("runs/*"))  # nothing stands in the way of the next try
    assert (pairs / "holds-something/notes.txt").read_text() == "mine\n"


@pytest.mark.parametrize("make", [finetune, pretrain], ids=["finetune", "pretrain"])
def test_a_folder_that_holds_a_run_is_refused_and_left_alone(call, pairs, make):
    assert call(*make(out="run", steps=2))[0] == 0
    before = {path: path.read_bytes() for path in (pairs / "run").rglob("*") if path.is_file()}
    status, _, err = call(*make(out="run", steps=2))
    assert status == 2 and "already contains a run" in err and "--resume" in err
    assert before == {path: path.read_bytes() for path in (pairs / "run").rglob("*") if path.is_file()}
    assert call(*make("--overwrite", out="run", steps=2))[0] == 0


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_resumption_that_is_refused_late_changes_nothing(call, pairs):
    call(*pretrain(steps=2))
    (weights,) = Path("runs/lm/checkpoints").glob("step-*/model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    before = contents(Path("runs/lm"))
    status, _, err = call("pretrain", "--resume", "--out", "runs/lm", "--max-steps", 4)
    assert status == 2 and "all checkpoints are damaged" in err
    assert contents(Path("runs/lm")) == before
    weights.write_bytes(whole)
    assert call("pretrain", "--resume", "--out", "runs/lm", "--max-steps", 3)[0] == 0


def no_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def no_model(monkeypatch):
    def refuse(config, vocab_size, head=None):
        raise NlpcliError("no such model")

    monkeypatch.setattr("nlpcli.models.build.build_model", refuse)


def no_batch(monkeypatch):
    monkeypatch.setattr("nlpcli.objectives.clm.CausalLanguageModelling.plan", lambda self, epoch: [])


REFUSED_LATE = {
    "a model that can't be built": (no_model, [], "no such model"),
    "a log that can't be written": (no_tensorboard, ["--set", "training.tensorboard=true"], "TensorBoard"),
    "too little text": (no_batch, [], "too small for one batch"),
    "a metric that isn't measured": (None, ["--set", "training.metric=bleu"], "'bleu' is not measured"),
}


@pytest.mark.parametrize("name", REFUSED_LATE)
@pytest.mark.parametrize("how", ["--overwrite", "--resume", "a new one"])
def test_a_run_that_is_refused_late_leaves_what_was_there(call, pairs, monkeypatch, name, how):
    hinder, arguments, message = REFUSED_LATE[name]
    if how != "a new one":
        call(*pretrain(steps=2))
    before = contents(pairs)
    with monkeypatch.context() as patch:
        if hinder is not None:
            hinder(patch)
        again = ["pretrain", "--resume", "--out", "runs/lm"] if how == "--resume" else pretrain(steps=2)
        status, _, err = call(*again, *arguments, *([how] if how == "--overwrite" else []))
    assert status == 2 and message in err, err
    assert contents(pairs) == before and (how != "a new one" or not Path("runs").exists())


def test_a_tokenizer_that_is_not_the_models_own_is_refused(call, pairs):
    call(*finetune(out="one", steps=2))
    call(*finetune("--set", "tokenizer.type=byte-bpe", "--set", "tokenizer.vocab_size=300", out="two", steps=2))
    for file in Path("one/tokenizer").iterdir():
        file.unlink()
    for file in Path("two/tokenizer").iterdir():
        (Path("one/tokenizer") / file.name).write_bytes(file.read_bytes())
    status, out, err = call("translate", "--model", "one", "dev.en")
    assert status == 2 and out == "" and "the model was trained with another tokenizer" in err


def test_real_processes_refuse_in_the_same_words(run_python, pairs):
    make_bad_files(pairs)
    for name in ("missing file", "invalid UTF-8", "unknown key by --set"):
        arguments, message, _ = BAD_CALLS[name]
        done = run_python(*arguments, cwd=pairs)
        assert done.returncode == 2 and done.stdout == "" and message in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 5
