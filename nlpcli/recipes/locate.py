"""Finding the model a command is to use: the one that was named, or the newest one that was trained for the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nlpcli.config.leftovers import find_finished
from nlpcli.errors import NlpcliError
from nlpcli.models.directory import DESCRIPTION, read_info
from nlpcli.recipes.models import description_of, task_of

TRANSLATION, LANGUAGE_MODEL = "translation", "language-model"

_NAMES = {
    TRANSLATION: "a translation model",
    LANGUAGE_MODEL: "a language model",
    "encoder": "an encoder",
    "denoising": "a model that restores text",
}
_COMMANDS = {TRANSLATION: "nlpcli translate", LANGUAGE_MODEL: "nlpcli generate"}
_MAKING = {
    TRANSLATION: "nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende",
    LANGUAGE_MODEL: "nlpcli pretrain --objective clm --data corpus/ --out runs/lm",
}


def newest_run(task: str, root: Path = Path("runs")) -> Path:
    """The run below `root` whose finished model for `task` was written last.

    Raises: NlpcliError, with how to make one, when there is none.
    """
    runs = [path.parent for path in find_finished(root, f"*/{DESCRIPTION}") if _task_of(path.parent) == task]
    if not runs:
        raise NlpcliError(
            f"no model was given, and there is no run of {_NAMES.get(task, task)} under {root}/",
            hint=f"name one with --model, or make one: {_MAKING[task]}" if task in _MAKING else "name one with --model",
        )
    return max(runs, key=lambda run: ((run / DESCRIPTION).stat().st_mtime_ns, run.name))


def _task_of(run: Path) -> str | None:
    try:
        return read_info(run)["task"]
    except NlpcliError:  # a damaged run is not the newest usable one; whoever names it is told
        return None


def locate(task: str, path: Path | None, *, say: Callable[[str], None]) -> Path:
    """`path`, or the newest run for `task`, which `say` is told.

    Raises: NlpcliError when there is no such model, or when it was trained for another task.
    """
    if path is None:
        path = newest_run(task)
        say(f"model: {path} (the newest run of {_NAMES[task]}; --model names another)")
    found = task_of(path)
    if found != task:
        hint = f"use it with: {_COMMANDS[found]} --model {path}" if found in _COMMANDS else None
        raise NlpcliError(f"{path}: is {_NAMES.get(found, f'a model for {found}')}, not {_NAMES[task]}", hint=hint)
    return Path(path)


def locate_task(path: Path | None, *, say: Callable[[str], None], root: Path = Path("runs")) -> Path:
    """`path`, or the newest run that was fine-tuned for a task with labels, which `say` is told.

    Raises: NlpcliError when there is no such model, or when it was trained for something else.
    """
    if path is not None:
        described = description_of(path)
        if "problem" in described:
            return Path(path)
        found = described["task"]
        hint = f"use it with: {_COMMANDS[found]} --model {path}" if found in _COMMANDS else None
        raise NlpcliError(
            f"{path}: is {_NAMES.get(found, f'a model for {found}')}, not fine-tuned for a task", hint=hint
        )
    runs = [found.parent for found in find_finished(root, f"**/{DESCRIPTION}") if _is_tuned(found.parent)]
    if not runs:
        raise NlpcliError(
            f"no model was given, and there is no fine-tuned run under {root}/",
            hint="name one with --model, or make one: nlpcli finetune --task classify --train train.tsv --dev dev.tsv",
        )
    newest = max(runs, key=lambda run: ((run / DESCRIPTION).stat().st_mtime_ns, run.name))
    say(f"model: {newest} (the newest fine-tuned run; --model names another)")
    return newest


def _is_tuned(run: Path) -> bool:
    try:
        return "problem" in read_info(run)
    except NlpcliError:
        return False
