"""Finding the model a command is to use: the one that was named, or the newest one that was trained for the job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.config.temporary_files import find_finished
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import DESCRIPTION, read_info
from nlpcli.runs.model_card import read_card
from nlpcli.runs.open_model import Source, description_of, folder_of, task_of
from nlpcli.runs.run_folder import CONFIG

TRANSLATION, LANGUAGE_MODEL = "translation", "language-model"

_NAMES = {
    TRANSLATION: "translation model",
    LANGUAGE_MODEL: "language model",
    "encoder": "encoder",
    "denoising": "denoising model",
}
_COMMANDS = {TRANSLATION: "nlpcli translate", LANGUAGE_MODEL: "nlpcli generate"}
_MAKING = {
    TRANSLATION: "nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende",
    LANGUAGE_MODEL: "nlpcli pretrain --objective clm --data corpus/ --out runs/lm",
}


@dataclass(frozen=True)
class Newest:
    """A model that is taken since none was named, and a remark for the user beside its name."""

    path: Path
    remark: str = ""

    def report(self, what: str, notify: Callable[[str], None]) -> Path:
        """Names the model, and returns its folder. what: "the newest language model"."""
        notify(f"model: {self.path} ({what}; choose another one with --model)")
        if self.remark:
            notify(self.remark)
        return self.path


def newest_model(accepts: Callable[[dict[str, Any]], bool], root: Path = Path("runs")) -> Newest | None:
    """The model below `root` that was written last, of those whose model.yaml `accepts` takes.

    A run that is finished goes before one that was interrupted or still trains: the latter's model may be that of its
    first step. Damaged folders are left out.
    """
    last, step = None, 0
    for run in sorted((path.parent for path in find_finished(root, f"**/{DESCRIPTION}")), key=_age, reverse=True):
        info = _info(run)
        if info is None or not accepts(info):
            continue
        if not (run / CONFIG).exists() or read_card(run):
            newer = f"the run {last} is newer, but not finished; --model {last} uses its checkpoint of step {step:,}"
            return Newest(run, "" if last is None else newer)
        if last is None:
            last, step = run, info.get("step", 0)
    if last is None:
        return None
    return Newest(last, f"warning: the run {last} is not finished; its checkpoint of step {step:,} is used")


def newest_run(task: str, root: Path = Path("runs")) -> Newest:
    """The newest model below `root` for `task`, as `newest_model` finds it.

    Raises: NlpcliError, with how to make one, when there is none.
    """
    found = newest_model(lambda info: info["task"] == task, root)
    if found is None:
        raise NlpcliError(
            f"no model was given, and {root}/ contains no {_kind(task)}",
            hint=f"name one with --model, or train one: {_MAKING[task]}"
            if task in _MAKING
            else "name one with --model",
        )
    return found


def _kind(task: str) -> str:
    """The name of a model for a task: `language model`."""
    return _NAMES.get(task, f"model for {task}")


def _named(task: str) -> str:
    return f"{'an' if _kind(task)[0] in 'aeiou' else 'a'} {_kind(task)}"


def _info(run: Path) -> dict[str, Any] | None:
    try:
        return read_info(run)
    except NlpcliError:  # a damaged run is not the newest usable one; naming it gives the error
        return None


def _age(run: Path) -> tuple[int, str]:
    return (run / DESCRIPTION).stat().st_mtime_ns, run.name


def locate(task: str, source: Source | None, *, notify: Callable[[str], None]) -> Source:
    """`source`, or the newest run for `task`, which `notify` reports.

    Raises: NlpcliError when there is no such model, or when it was trained for another task.
    """
    if source is None:
        source = newest_run(task).report(f"the newest {_kind(task)}", notify)
    found = task_of(source)
    if found != task:
        path = folder_of(source)
        hint = f"use it with: {_COMMANDS[found]} --model {path}" if found in _COMMANDS else None
        raise NlpcliError(f"{path} is {_named(found)}, not {_named(task)}", hint=hint)
    return source


def locate_task(source: Source | None, *, notify: Callable[[str], None], root: Path = Path("runs")) -> Source:
    """`source`, or the newest run that was fine-tuned for a task with labels, which `notify` reports.

    Raises: NlpcliError when there is no such model, or when it was trained for something else.
    """
    if source is not None:
        described = description_of(source)
        if "problem" in described:
            return source
        path, found = folder_of(source), described["task"]
        hint = f"use it with: {_COMMANDS[found]} --model {path}" if found in _COMMANDS else None
        raise NlpcliError(
            f"{path} is {_named(found)}, but this command needs a model that was fine-tuned for a task", hint=hint
        )
    found = newest_model(lambda info: "problem" in info, root)
    if found is None:
        raise NlpcliError(
            f"no model was given, and {root}/ contains no fine-tuned model",
            hint="name one with --model, or train one: nlpcli finetune --task classify --train train.tsv --dev dev.tsv",
        )
    return found.report("the newest fine-tuned model", notify)
