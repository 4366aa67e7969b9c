"""`--suite` of `nlpcli finetune` and `nlpcli evaluate`: GLUE, SuperGLUE and Russian SuperGLUE whole."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.cli import terminal, training_options

if TYPE_CHECKING:
    from nlpcli.commands.evaluate import EvaluateRequest
    from nlpcli.runs.suites.suite import SuiteReport
    from nlpcli.runs.training_request import Request

_SET_BY_SUITE = (
    "task", "task_name", "dev", "text", "text2", "label", "choices", "format", "header", "objective", "prefix",
    "mixture", "seeds",
)  # fmt: skip


def evaluate(name: str, job: EvaluateRequest, *, only: Sequence[str], predictions: Path | None, json: bool) -> None:
    """Prints the table of a suite, or the same as JSON."""
    from nlpcli.runs.suites.suite import evaluate_suite

    with terminal.evaluation("evaluate"):
        report = evaluate_suite(
            name, job, only=only, predictions=predictions, notify=terminal.notify, warn=terminal.warn
        )
    _write(report, json=json)


def finetune(given: Mapping[str, Any], request_for: Callable[[str], Request]) -> None:
    """Trains a model on each task of a suite and prints its table; `given`: the parameters of `nlpcli finetune`.

    Raises: NlpcliError for a wrong call, RunFailed when a task could not be learnt, after the others were.
    """
    from nlpcli.errors import NlpcliError, RunFailed
    from nlpcli.runs.request_from_options import report_suite_model
    from nlpcli.runs.suites.suite import choose_folder, evaluate_suite, finetune_suite
    from nlpcli.runs.task_evaluation import EvaluateRequest

    name, folder = given["suite"], _folder(given)
    out = given["out"] or choose_folder(name)
    report_suite_model(given, terminal.notify)
    with training_options.watched("finetune", _again(given["out"], out)) as watcher:
        failed = finetune_suite(name, folder, out, request_for, watcher, only=given["only"] or ())
    for task, error in failed.items():
        terminal.warn(f"{task} failed: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    job = EvaluateRequest((folder,), model=out, device=given["device"] or "auto", threads=given["threads"])
    try:
        with terminal.evaluation("evaluate"):
            report = evaluate_suite(name, job, only=given["only"] or (), notify=terminal.notify, warn=terminal.warn)
    except NlpcliError as error:  # data without a dev part: what was trained stays
        terminal.warn(error.message)
    else:
        _write(report, json=given["json"])
    terminal.notify(f"use the model of a task: nlpcli predict --model {shlex.quote(str(out))}/TASK FILE")
    if failed:
        raise RunFailed(
            f"the training of {', '.join(failed)} failed",
            hint="fix the reported cause, then run the same command with --resume",
        )


def refuse_minimal_pairs(name: str, job: EvaluateRequest) -> None:
    """Raises: NlpcliError for `--suite blimp`, which needs no fine-tuned model, with the command that scores it."""
    from nlpcli.errors import NlpcliError

    if name.lower() in ("blimp", "minimal-pairs"):
        model = "" if job.model is None else f" --model {shlex.quote(str(job.model))}"
        raise NlpcliError(
            f"{name} is scored with a language model, without fine-tuning",
            hint=f"run: nlpcli score minimal-pairs{model} {shlex.join(job.data)}",
        )


def refuse_only(only: Sequence[str] | None) -> None:
    """Raises: NlpcliError for `--only` without `--suite`."""
    from nlpcli.errors import NlpcliError

    if only:
        raise NlpcliError("--only has no effect without --suite", hint="add --suite")


def _folder(given: Mapping[str, Any]) -> str:
    from nlpcli.errors import NlpcliError

    contradicting = [name for name in _SET_BY_SUITE if given[name]]
    if contradicting:
        options = ", ".join("TASK" if name == "task_name" else f"--{name}" for name in contradicting)
        raise NlpcliError(
            f"--suite sets the tasks and their data, so {options} can't be used with it", hint=f"leave out {options}"
        )
    if len(given["train"] or []) != 1:
        raise NlpcliError(
            "--suite needs one folder with the data of the suite as it is distributed",
            hint="name the folder: --train DIR",
        )
    if given["resume"] and given["out"] is None:
        raise NlpcliError("--resume needs the folder of a run", hint="name the folder: --out DIR")
    if given["resume"] and not given["out"].is_dir():
        raise NlpcliError(f"there is no folder {given['out']} to resume", hint="leave out --resume to start a new run")
    if given["resume"] and given["overwrite"]:
        raise NlpcliError("--resume and --overwrite can't be used together", hint="leave one of them out")
    return given["train"][0]


def _again(folder: Path | None, out: Path) -> str:
    """This call, with --resume."""
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
    return shlex.join(["nlpcli", *words, *([] if folder else ["--out", str(out)]), "--resume"])


def _write(report: SuiteReport, *, json: bool) -> None:
    for path in report.written:
        terminal.notify(f"written: {path}")
    if json:
        terminal.write_json(report.as_dict())
        return
    if not report.tasks:
        return
    terminal.write_table(["task", "examples", "metrics", "score"], report.rows())
    terminal.write_line()
    for name, signature in report.signatures():
        terminal.write_report(f"{name.replace('_', ' ')}\t{signature}")
