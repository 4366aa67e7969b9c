"""One convention for every command, asserted over the commands themselves: a new one is tested unasked."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nlpcli.cli import app, option_conventions
from nlpcli.cli.main import main


def walk() -> Iterator[tuple[str, Any]]:
    """Every command with its name as it is typed."""
    for name in app.COMMANDS:
        command = app.build_command(name)
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(walk())
GROUPS = ["", *(name for name in app.COMMANDS if hasattr(app.build_command(name), "commands"))]
OPTIONS = [
    (name, parameter)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.param_type_name == "option"
]
every_command = pytest.mark.parametrize("name", COMMANDS)
every_option = pytest.mark.parametrize(
    ("name", "option"), OPTIONS, ids=[f"{name} {option_conventions.long_name(option)}" for name, option in OPTIONS]
)


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs a command in this process in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def required(name: str) -> list[str]:
    """Values for what a command can't do without; nothing of it exists."""
    words = []
    for parameter in COMMANDS[name].params:
        if parameter.required:
            option = parameter.param_type_name == "option"
            words += [option_conventions.long_name(parameter), "somewhere"] if option else ["nothing"]
    return words


def value_for(option: Any) -> list[str]:
    """A value that the option's type takes, as often as it takes one."""
    return [str(getattr(option, "min", None) or 1)] * option.nargs


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# --- options -----------------------------------------------------------------------------------------------------


@every_command
def test_every_command_is_of_the_class_that_keeps_the_convention(name):
    assert isinstance(COMMANDS[name], option_conventions.Command)


def test_a_letter_means_the_same_option_in_every_command_that_has_it():
    meanings, lacking = defaultdict(set), []
    for name, option in OPTIONS:
        long = option_conventions.long_name(option)
        letters = [word for word in option.opts if not word.startswith("--")]
        assert all(re.fullmatch(r"-[A-Za-z]", letter) for letter in letters), (name, letters)
        for letter in letters:
            meanings[letter].add(
                next((word for word in option.opts if option_conventions.LETTERS.get(word) == letter), long)
            )
        if long in option_conventions.LETTERS and option_conventions.LETTERS[long] not in letters:
            lacking.append((name, long))
    assert lacking == []
    assert {letter: names for letter, names in meanings.items() if len(names) > 1} == {}
    assert {letter: names.pop() for letter, names in meanings.items()} == {
        letter: name for name, letter in option_conventions.LETTERS.items() if letter in meanings
    }


def kind_of_value(option: Any) -> str:
    """What an option takes: the word that the help has for it, and a file or folder is a path."""
    if option.is_flag:
        return "flag"
    word = (option.metavar or "").removesuffix("...").partition("[")[0]
    annotation = str(option.type_descriptor.annotation)
    if word == "N|auto":  # a number, or the word for one that is found
        return "int"
    if "Path" in annotation or re.search("FILE|DIR|PATH|SOURCE", word):
        return "path"
    return word if not re.search("int|float", annotation) else re.search("int|float", annotation)[0]


def test_an_option_of_one_name_takes_the_same_kind_of_value_in_every_command_that_has_it():
    kinds = defaultdict(lambda: defaultdict(list))
    for name, option in OPTIONS:
        for word in option.opts:
            if word.startswith("--"):
                kinds[word][kind_of_value(option)].append(name)
    several = {word: {kind: found[kind] for kind in found} for word, found in kinds.items() if len(found) > 1}
    assert several == {}


@every_option
def test_every_option_has_a_sentence_of_help(name, option):
    assert (option.help or "").strip().endswith((".", ")", "…")), f"{name} {option_conventions.long_name(option)}"


@every_command
def test_every_command_writes_where_out_says_and_knows_output_as_its_synonym(name):
    options = [set(option.opts) for command, option in OPTIONS if command == name]
    assert any({"--out", "--output", "-o"} <= names for names in options)
    assert not any("--output" in names and "--out" not in names for names in options)


@every_command
def test_every_command_has_json(name):
    assert any({"--json", "-j"} <= set(option.opts) for command, option in OPTIONS if command == name)


# --- contradictions ----------------------------------------------------------------------------------------------

SINGLE = [(name, option) for name, option in OPTIONS if not option.is_flag and not option.multiple]
PAIRS = [(name, option) for name, option in OPTIONS if option.secondary_opts]


@pytest.mark.parametrize(
    ("name", "option"), SINGLE, ids=[f"{name} {option_conventions.long_name(option)}" for name, option in SINGLE]
)
def test_a_second_value_for_an_option_that_takes_one_is_refused(call, tmp_path, name, option):
    value = ["1"] * option.nargs
    for first in option.opts:
        status, out, err = call(*name.split(), *required(name), first, *value, option.opts[-1], *value)
        assert status == 2 and out == "", err
        assert err.startswith(
            f"nlpcli: {option_conventions.long_name(option)} takes one value but is given more than once: "
        ), err
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "option"), PAIRS, ids=[f"{name} {option_conventions.long_name(option)}" for name, option in PAIRS]
)
def test_an_option_and_its_opposite_contradict_each_other(call, name, option):
    status, out, err = call(*name.split(), *required(name), option.opts[0], option.secondary_opts[0])
    assert (status, out) == (2, "") and f"{option.opts[0]} and {option.secondary_opts[0]} contradict each other" in err


BOUNDED = [(name, option) for name, option in OPTIONS if getattr(option, "min", None) is not None]


@pytest.mark.parametrize(
    ("name", "option"), BOUNDED, ids=[f"{name} {option_conventions.long_name(option)}" for name, option in BOUNDED]
)
def test_a_number_below_its_bound_is_refused_with_the_bound(call, tmp_path, name, option):
    long, value = option_conventions.long_name(option), f"{option.min - 1:g}"
    status, out, err = call(*name.split(), *required(name), f"{long}={value}")
    assert (status, out) == (2, "") and err.startswith(
        f"nlpcli: {long} must be at least {option.min:g}, not '{value}'\n"
    )
    assert files_in(tmp_path) == []


EXCLUSIVE = [(name, *pair) for name, command in COMMANDS.items() for pair in command.exclusive]
NEEDED = [(name, first, others) for name, command in COMMANDS.items() for first, others in command.needed.items()]


def given(name: str, parameter: str) -> list[str]:
    """Words that give a parameter of a command."""
    found = next(one for one in COMMANDS[name].params if one.name == parameter)
    if found.param_type_name != "option":
        return ["1"]
    return [option_conventions.long_name(found), *([] if found.is_flag else value_for(found))]


@pytest.mark.parametrize(("name", "first", "second"), EXCLUSIVE)
def test_what_excludes_each_other_is_refused_before_any_work(call, tmp_path, name, first, second):
    words = [*given(name, first), *given(name, second)]
    status, out, err = call(*name.split(), *required(name), *words)
    assert (status, out) == (2, "") and "can't be used together" in err
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("name", "first", "others"), NEEDED)
def test_an_option_without_effect_is_refused_with_what_it_needs(call, name, first, others):
    off = [f"--no-{other}" for other in others if f"--no-{other}" in all_options(name)]
    status, out, err = call(*name.split(), *required(name), *given(name, first), *off)
    assert (status, out) == (2, "") and "has no effect without --" in err


def all_options(name: str) -> list[str]:
    return [word for command, option in OPTIONS if command == name for word in [*option.opts, *option.secondary_opts]]


@pytest.mark.parametrize(
    "words",
    [
        ["translate", "--model", "A", "--model", "B"],
        ["translate", "--model", "A", "-m", "B"],
        ["translate", "-mA", "--model=B"],
        ["pretrain", "clm", "--objective", "mlm"],
        ["finetune", "classify", "--task", "tag"],
        ["generate", "--greedy", "--temperature", "0.5"],
        ["generate", "--greedy", "--top-k", "5"],
        ["translate", "--temperature", "0.5"],
        ["translate", "--sample", "--beam-size", "5"],
        ["evaluate", "a.tsv", "--data", "b.tsv"],
        ["report", "runs", "--json", "--format", "markdown"],
        ["compare", "grid.yaml", "--json", "--format", "csv"],
        ["visualize-attention", "a text", "--json", "--format", "terminal"],
        ["convert", "a", "b", "--out", "c"],
    ],
)
def test_contradictions_that_people_type_are_refused(call, tmp_path, words):
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert re.search("can't be used together|is given more than once|has no effect without", err), err
    assert files_in(tmp_path) == []


# --- checks before work ------------------------------------------------------------------------------------------

WITH_DEVICE = [name for name, command in COMMANDS.items() if any(p.name == "device" for p in command.params)]


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "mps", "cuda:x"])
@pytest.mark.parametrize("name", WITH_DEVICE)
def test_a_device_that_is_not_there_is_refused_before_any_work(call, tmp_path, name, device):
    words = ["--metric", "perplexity"] if name == "score" else []
    status, out, err = call(*name.split(), *required(name), *words, "--device", device)
    assert (status, out) == (2, "") and f"device '{device}'" in err
    assert "training a tokenizer" not in err and files_in(tmp_path) == []


@every_command
def test_a_file_in_a_folder_that_is_not_there_is_refused_and_nothing_is_created(call, tmp_path, name):
    option = next(p for p in COMMANDS[name].params if "--out" in p.opts)
    if option_conventions.is_folder(option):
        pytest.skip("it writes a folder, which is created with the folders above it")
    words = ["--ref", "x"] if name == "score" else []
    wanted = "no/such/x.json" if name != "embed" else "no/such/x.jsonl"
    for spelling in ("--out", "--output"):
        status, out, err = call(*name.split(), *required(name), *words, spelling, wanted)
        assert (status, out) == (
            2,
            "",
        ) and f"{wanted} can't be written because the folder no/such does not exist" in err
    (tmp_path / "folder").mkdir()
    status, out, err = call(*name.split(), *required(name), *words, "--out", "folder")
    assert (status, out) == (2, "") and "--out needs a file, but folder is a folder" in err
    assert files_in(tmp_path) == [tmp_path / "folder"]


@every_command
def test_a_folder_below_a_file_is_refused(call, tmp_path, name):
    option = next(p for p in COMMANDS[name].params if "--out" in p.opts)
    if not option_conventions.is_folder(option):
        pytest.skip("it writes a file")
    (tmp_path / "file").write_text("")
    words = [] if option.required else required(name)
    words = ["nothing"] if option.required else words
    for wanted in ("file", "file/below"):
        status, out, err = call(*name.split(), *words, "--out", wanted)
        message = "needs a folder, but file is a file" if wanted == "file" else "because file is a file"
        assert (status, out) == (2, "") and message in err.replace(f"{tmp_path}/", "")
    assert files_in(tmp_path) == [tmp_path / "file"]


def test_a_folder_to_write_is_created_with_the_folders_above_it(call, tmp_path):
    Path("text.txt").write_text("the cat sat\non the mat\n" * 40, "utf-8")
    Path("train.tsv").write_text("text\tlabel\n" + "the cat\ta\nthe mat\tb\n" * 8, "utf-8")
    small = [
        "--set",
        "tokenizer.type=chars",
        "--set",
        "model.d_model=8",
        "--set",
        "model.d_ff=8",
        "--set",
        "model.heads=1",
    ]
    small += ["--set", "model.encoder_layers=1", "--max-steps", "1", "--precision", "float32"]
    for number, (words, written) in enumerate(
        [
            (["tokenize", "train", "--type", "chars", "text.txt"], "tokenizer.yaml"),
            (["pretrain", "mlm", "--data", "text.txt", *small], "model.yaml"),
            (["finetune", "classify", "--train", "train.tsv", "--model", "bert-nano", *small], "model.yaml"),
            (["convert", "--to", "huggingface", "new1/deep/folder"], "config.json"),
        ]
    ):
        status, _, err = call(*words, "--out", f"new{number}/deep/folder")
        assert status == 0 and (tmp_path / f"new{number}/deep/folder/{written}").is_file(), err


def test_no_folder_is_created_for_a_call_that_is_refused(call, tmp_path):
    for words in (
        ["tokenize", "train", "none.txt"], ["pretrain", "mlm", "--data", "none.txt"], ["convert", "none"],
        ["finetune", "classify", "--train", "none.tsv"], ["compare", "none.yaml"],
    ):  # fmt: skip
        status, _, _ = call(*words, "--out", "new/deep/folder")
        assert status == 2 and files_in(tmp_path) == [], words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "clm", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["pretrain", "mlm", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["pretrain", "plm", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["finetune", "--set", "training.metric=blue"], "training.metric 'blue' is not measured"),
        (["finetune", "classify", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["finetune", "tag", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["finetune", "similarity", "--set", "training.metric=f1x"], "training.metric 'f1x' is not measured"),
        (["pretrain", "--set", "training.device=mps"], "device 'mps' is not available"),
        (["finetune", "classify", "--set", "training.device=cuda:99"], "device 'cuda:99' is not available"),
        (["finetune", "--set", "training.precision=float8"], "training.precision"),
        (["pretrain", "--set", "training.learning=1"], "training.learning"),
        (["pretrain", "nsq"], "unknown objective 'nsq'"),
        (["pretrain", "--objective", "mlm+nsq"], "unknown objective 'nsq'"),
        (["finetune", "sentimental"], "unknown task 'sentimental'"),
        (["pretrain", "--preset", "gpt-mni"], "unknown preset 'gpt-mni'"),
        (["finetune", "--model", "transformer-tny"], "'transformer-tny'"),
        (["finetune", "classify", "--label", "nowhere"], "nowhere"),
        (["finetune", "classify", "--train", "none.tsv"], "none.tsv: no such file"),
        (["tokenize", "train", "--type", "bpx", "--out", "t", "none.txt"], "unknown tokenizer type 'bpx'"),
        (["translate", "--field", "text", "--format", "text"], "--field and --format text can't be used together"),
        (["embed", "--field", "text", "--format", "lines"], "--field and --format lines can't be used together"),
        (["report", "--metric", "x", "runs", "--out", "r.xyz"], "r.xyz"),
        (["convert", "--to", "onyx", "nothing", "out"], "unknown value of --to 'onyx'"),
    ],
)
def test_what_can_be_checked_is_checked_before_any_work(call, tmp_path, words, message):
    status, out, err = call(*words)
    assert (status, out) == (2, "") and message in err
    assert "training a tokenizer" not in err and files_in(tmp_path) == []


# --- names that people type --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "task"),
    [("ner", "tag"), ("POS", "tag"), ("qa", "span"), ("question_answering", "span"), ("sentiment", "classify"),
     ("classification", "classify"), ("summarize", "text-to-text"), ("summarization", "text-to-text"),
     ("translate", "translation"), ("sts", "regress")],
)  # fmt: skip
def test_a_task_is_understood_by_its_usual_names(call, tmp_path, typed, task):
    for words in (["--task", typed], [typed]):
        status, _, err = call("finetune", *words, "--train", "none.tsv", "--dev", "none.tsv")
        assert status == 2 and f"task: {task} ({typed})" in err and "unknown task" not in err
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "objective"),
    [("causal", "clm"), ("lm", "clm"), ("gpt", "clm"), ("bert", "mlm+nsp"), ("roberta", "mlm"), ("t5", "denoise"),
     ("BART", "denoise"), ("xlnet", "plm"), ("pegasus", "gap-sentences")],
)  # fmt: skip
def test_an_objective_is_understood_by_its_usual_names(call, tmp_path, typed, objective):
    status, _, err = call("pretrain", typed, "--data", "none.txt")
    assert status == 2 and f"objective: {objective} ({typed})" in err and "none.txt: no such file" in err
    status, _, err = call("pretrain", "--set", f"objective={typed}", "--data", "none.txt")
    assert status == 2 and f"objective '{typed}'" in err and objective in err
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["search", "--format", "json"], "--json"), (["search", "--format=json"], "--json"),
        (["cluster", "-f", "json"], "--json"), (["finetune", "--preset", "bert-nano"], "--model"),
        (["finetune", "--learning-rate", "1"], "--lr"), (["pretrain", "--epochs", "3"], "--max-epochs"),
        (["pretrain", "--steps", "3"], "--max-steps"), (["pretrain", "--input", "a"], "--data"),
        (["score", "--width=4"], "--decimals"),
        (["score", "--precision", "4"], "--decimals"), (["score", "perplexity", "--memory", "4"], "--memory-length"),
        (["translate", "--patience", "2"], "--beam-patience"), (["tokenize", "encode", "t", "--as", "ids"], "--unit"),
        (["tokenize", "decode", "t", "--as", "ids"], "--unit"),
    ],
)  # fmt: skip
def test_an_option_that_another_command_or_program_has_is_answered_with_the_one_here(call, tmp_path, words, meant):
    status, out, err = call(*words)
    assert (status, out) == (2, "") and err.startswith("nlpcli: unknown option") and f"did you mean '{meant}'?" in err
    assert files_in(tmp_path) == []


# --- JSON --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer(call):
    Path("text.txt").write_text("the cat sat\non the mat\n" * 20, "utf-8")
    assert call("tokenize", "train", "--type", "chars", "--out", "tok", "text.txt")[0] == 0
    return "tok"


KEYED_BY_DATA = ("special", "scripts")
"""Objects whose keys are names that the data have, not names of fields."""


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            if key not in KEYED_BY_DATA:
                yield from keys_of(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from keys_of(entry)


def test_json_is_a_line_for_each_input_or_one_object_and_its_keys_are_snake_case(call, tokenizer):
    Path("hyp.txt").write_text("the cat sat on the mat\nb\n", "utf-8")
    Path("ids.txt").write_text("10 11\n12\n", "utf-8")
    calls = {  # lines that are to come
        ("tokenize", "encode", "tok", "hyp.txt"): 2,
        ("tokenize", "encode", "tok", "hyp.txt", "--unit", "tokens"): 2,
        ("tokenize", "decode", "tok", "ids.txt"): 2,
        ("tokenize", "info", "tok", "hyp.txt"): 1,
        ("score", "bleu,chrf", "hyp.txt", "--ref", "hyp.txt"): 1,
        ("score", "bleu,chrf", "hyp.txt", "--ref", "hyp.txt", "--sentence"): 2,
        ("inspect", "hyp.txt"): 1,
        ("config", "show", "gpt-mini"): 1,
        ("visualize-attention", "--pattern", "window:2", "--length", "4"): 1,
        ("visualize-attention", "--positions", "relative", "--length", "4"): 1,
    }
    for words, count in calls.items():
        status, out, err = call(*words, "--json")
        assert status == 0, (words, err)
        found = [json.loads(line) for line in out.splitlines()]
        assert len(found) == count and all(isinstance(one, dict) for one in found), words
        names = list(keys_of(found))
        assert [key for key in names if not re.fullmatch(r"[a-z][a-z0-9_]*", key)] == [], words
        assert call(*words, "-j", "-o", "out.json")[:2] == (0, "")
        assert Path("out.json").read_text("utf-8") == out, words


def test_filters_echo_the_text_they_read(call, tokenizer):
    Path("in.txt").write_text("the cat\nsat\n", "utf-8")
    lines = call("tokenize", "encode", tokenizer, "in.txt", "--json")[1].splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["the cat", "sat"]
    lines = call("score", "wer", "in.txt", "--ref", "in.txt", "--sentence", "--json")[1].splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["the cat", "sat"]


def test_a_score_has_one_form(call):
    from nlpcli.commands.report.output_scores import Final
    from nlpcli.commands.report.report_data import _score
    from nlpcli.evaluation import Score

    form = ["metric", "value", "low", "high", "signature"]
    assert list(Score("BLEU", 1.0, "BLEU|x").as_dict("bleu")) == form
    assert list(_score(Final("bleu", 1.0))) == form
    Path("a.txt").write_text("a b c d\n", "utf-8")
    out = call("score", "bleu", "a.txt", "--ref", "a.txt", "--json")[1]
    [score] = json.loads(out)["scores"]
    assert set(form) <= set(score) and score["metric"] == "bleu" and score["low"] is None


# --- width -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_help_keeps_to_the_width_and_breaks_no_word(call, monkeypatch, name, columns):
    def help_at(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        status, out, _ = call(*name.split(), "--help")
        assert status == 0
        return out

    words = set(help_at(500).split())
    shown = help_at(columns)
    assert [line for line in shown.splitlines() if len(line) > columns] == []
    assert [word for word in shown.split() if word not in words and word != "\\"] == []
