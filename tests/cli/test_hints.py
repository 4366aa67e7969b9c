"""Every option and command that a message of the program names is there, and belongs to the command that is running."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import nlpcli
from nlpcli.cli.app import COMMANDS, build_command

ROOT = Path(nlpcli.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-zA-Z][\w-]*")
CALL = re.compile(rf"\bnlpcli ({'|'.join(map(re.escape, COMMANDS))})\b( (?:train|encode|decode|info|list|show)\b)?")
TRAINING = ("pretrain", "finetune")
# whose messages may name which options: an option must be one of every command that reaches the module
OWNERS = {
    "cli/training_options.py": TRAINING,
    "cli/attention_options.py": ("visualize-attention",),
    "cli/attention_output.py": ("visualize-attention",),
    "cli/score_output.py": ("score",),
    "text/": ("tokenize train", *TRAINING),
    "training/": TRAINING,
    "objectives/": ("pretrain",),
    "evaluation/": ("score",),
    "runs/resolve_settings.py": TRAINING,
    "runs/run_folder.py": TRAINING,
    "runs/training_tokenizer.py": TRAINING,
    "runs/request_from_options.py": TRAINING,
    "runs/init_from_model.py": TRAINING,
    "runs/dev_samples.py": TRAINING,
    "runs/corpus.py": ("pretrain",),
    "runs/pretraining/pretrain.py": ("pretrain",),
    "runs/pretraining/": ("pretrain",),
    "runs/finetuning/finetune.py": ("finetune",),
    "runs/finetuning/seeds.py": ("finetune",),
    "runs/finetuning/task_training.py": ("finetune",),
    "runs/finetuning/translation_training.py": ("finetune",),
    "runs/model_preparation.py": TRAINING,
    "runs/text_inputs.py": ("embed", "translate"),
    "commands/compare/": ("compare",),
    "commands/report/": ("report",),
    "commands/visualize_attention/": ("visualize-attention",),
    "commands/visualize_attention/word_alignment.py": ("visualize-attention",),
    "runs/find_model.py": ("predict", "evaluate", "translate", "generate", "embed", "visualize-attention"),
    "commands/predict.py": ("predict",),
    "commands/evaluate.py": ("evaluate",),
    "commands/translate.py": ("translate",),
    "commands/generate/generate.py": ("generate",),
    "commands/generate/prompt": ("generate",),
    "runs/embedder.py": ("embed", "search", "cluster"),
    "commands/cluster.py": ("cluster",),
    "commands/search.py": ("search",),
    "commands/convert.py": ("convert",),
    "commands/score/perplexity.py": ("score",),
    "commands/score/score": ("score",),
}
OTHERS = {  # the hint where another command's option is named, or what is no option at all
    ("runs/resolve_settings.py", "--source-tokenizer"),  # of finetune
    ("runs/request_from_options.py", "--train"),  # of finetune
    ("commands/report/read_runs.py", "--out"),  # of training
    ("runs/finetuning/task_training.py", "--set"),
    ("cli/training_options.py", "--seeds"),  # of finetune
}


@cache
def options() -> dict[str, set[str]]:
    """The options of each command, and of each command below one."""
    found = {}
    for name in COMMANDS:
        command = build_command(name)
        below = {f"{name} {inner}": sub for inner, sub in getattr(command, "commands", {}).items()}
        for full, one in (below or {name: command}).items():
            found[full] = {"--help", *(opt for p in one.params for opt in (*p.opts, *p.secondary_opts))}
        if below:
            found[name] = set().union(*(found[full] for full in below))
    return found


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module but its docstrings, with their lines; a filled place of one is {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            is_help = path.parent.name == "cli" and node.__dict__.get("name") in ("command", "train")
            inner |= set() if is_help else {id(node.body[0].value)}
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def owners(place: str) -> tuple[str, ...]:
    """The commands that a module belongs to; () where it may be any."""
    own = place.removeprefix("cli/").removesuffix(".py").replace("_", "-")
    if place.startswith("cli/") and own in COMMANDS:
        return (own,)
    return next((commands for prefix, commands in OWNERS.items() if place.startswith(prefix)), ())


def wrong_in(place: str, text: str) -> Iterator[str]:
    """What a text names that is not there: options of a call `nlpcli COMMAND --x`, and options alone."""
    known = options()
    whole = set().union(*known.values(), {"--version", "--traceback", "--max-restarts"})  # the last one is torchrun's
    calls = list(CALL.finditer(text))
    starts = [call.start() for call in calls] + [len(text)]
    for number, part in enumerate([text[: starts[0]], *(text[a:b] for a, b in pairwise(starts))]):
        for option in OPTION.findall(part.split("\n")[0] if number else part):
            if number:
                call = calls[number - 1]
                command = f"{call[1]}{call[2] or ''}"
                if option not in known.get(command, known[call[1]]):
                    yield f"nlpcli {command} has no {option}"
            elif option not in whole:
                yield f"no command has {option}"
            elif (place, option) not in OTHERS:
                yield from (f"{command} has no {option}" for command in owners(place) if option not in known[command])


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "visualization/charts.py"]  # CSS has --ink


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_message_names_only_options_that_are_there(path):
    place = path.relative_to(ROOT).as_posix()
    wrong = [f"{place}:{line}: {what}: {text!r}" for line, text in texts(path) for what in wrong_in(place, text)]
    assert not wrong, "\n".join(wrong)


def test_messages_name_only_commands_that_are_there():
    for path in MODULES:
        for line, text in texts(path):
            for name in re.findall(r"(?:^|['`(: ])nlpcli ([a-z][a-z-]+) (?=--|[A-Z]{2,}|\{\})", text):
                assert name in COMMANDS, f"{path}:{line}: {text!r}"


@pytest.mark.parametrize("text, wrong", [
    ("give --vocab-size 300", ["pretrain has no --vocab-size", "finetune has no --vocab-size"]),
    ("nlpcli tokenize train --vocab-size 300", []),
    ("nlpcli pretrain --vocab-size 300", ["nlpcli pretrain has no --vocab-size"]),
    ("name it with --outt", ["no command has --outt"]),
    ("name it with --out", []),
])  # fmt: skip
def test_a_wrong_option_would_be_found(text, wrong):
    assert list(wrong_in("text/vocabulary_limits.py", text)) == wrong
