"""GLUE, SuperGLUE and Russian SuperGLUE whole: a model for each task, a score for each, and their average."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nlpcli.config.loading import merge
from nlpcli.config.task_settings import ExamplesConfig
from nlpcli.data.columns import squashed
from nlpcli.data.suites import SUITES, FoundTask, SuiteTask, read_suite
from nlpcli.errors import NlpcliError, missing_path_hint, unknown
from nlpcli.runs.resolve_settings import resolve
from nlpcli.runs.run_folder import CONFIG, has_checkpoint
from nlpcli.runs.suites.suite_scores import MEAN, SuiteScores, check_model
from nlpcli.runs.training_request import Listener, Request

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.evaluation import Score
    from nlpcli.runs.task_evaluation import EvaluateRequest
    from nlpcli.runs.task_model import TaskModel

MAX_LENGTH = 256
"""The most tokens of an example of SuperGLUE and Russian SuperGLUE, which have paragraphs, unless set otherwise."""

_LEFT_OUT = "left out"  # the request does not include the task
_DESCRIPTION, _CARD = "model.yaml", "README.md"
_STAND_INS = {"AX": "mnli", "AX-b": "rte", "AX-g": "rte", "LiDiRus": "terra"}
"""The task whose model answers a diagnostic set, which has no training data."""


@dataclass(frozen=True)
class TaskResult:
    """A task's scores, the deciding one first; counts: whether that is part of the suite's average."""

    name: str
    model: Path
    examples: int
    scores: dict[str, Score]
    counts: bool

    @property
    def score(self) -> float:
        return next(iter(self.scores.values())).value

    def measured(self) -> str:
        """The metrics as a table has them."""
        shown = [
            " ".join(part for part in (name.replace("_", " "), f"{score.value:.2f}", score.interval()) if part)
            for name, score in self.scores.items()
            if name != MEAN
        ]
        return ", ".join(shown) + ("" if self.counts else " (not in the average)")


@dataclass(frozen=True)
class SuiteReport:
    """The scores on a suite. missing: the tasks that the average lacks, with the reason: no data, no dev data, no
    model, or left out by the request."""

    suite: str
    tasks: list[TaskResult]
    missing: dict[str, str]
    written: list[Path] = field(default_factory=list)

    @property
    def average(self) -> float | None:
        """The mean of the scores of tasks that count; None where there is none."""
        scores = [task.score for task in self.tasks if task.counts]
        return sum(scores) / len(scores) if scores else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        tasks = {
            task.name: {
                "model": str(task.model),
                "examples": task.examples,
                "score": task.score,
                "counts": task.counts,
                "scores": [score.as_dict(name) for name, score in task.scores.items()],
            }
            for task in self.tasks
        }
        result = {"suite": self.suite, "tasks": tasks, "average": self.average, "partial": bool(self.missing),
                  "missing": self.missing}  # fmt: skip
        return result | ({"predictions": [str(path) for path in self.written]} if self.written else {})

    def rows(self) -> Iterator[tuple[str, int, str, str]]:
        """Task, examples, metrics, score; at the end the average, and what it lacks."""
        for task in self.tasks:
            yield task.name, task.examples, task.measured(), f"{task.score:.2f}"
        if self.average is None:
            return
        counted = [task for task in self.tasks if task.counts]
        of = f"{len(counted)} of {len(counted) + len(self.missing)} tasks"
        lacking: dict[str, list[str]] = {}
        for name, what in self.missing.items():
            if what != _LEFT_OUT:
                lacking.setdefault(what, []).append(name)
        problems = "".join(f"; {what}: {', '.join(names)}" for what, names in lacking.items())
        label = f"partial: {of}{problems}" if self.missing else f"all {len(counted)} tasks"
        yield "average", sum(task.examples for task in counted), label, f"{self.average:.2f}"

    def signatures(self) -> list[tuple[str, str]]:
        """The metrics' names and signatures, each once."""
        found = {
            (name.rpartition("_")[2] if name.startswith(("matched_", "mismatched_")) else name, score.signature)
            for task in self.tasks
            for name, score in task.scores.items()
            if name != MEAN
        }
        return sorted(found)


def evaluate_suite(
    name: str,
    job: EvaluateRequest,
    *,
    only: Sequence[str] = (),
    predictions: Path | None = None,
    notify: Callable[[str], None],
    warn: Callable[[str], None],
) -> SuiteReport:
    """Measures a model on the dev data of each task of a suite in the folder `job.data`.

    The model of a task is the run below `job.model` that is named as the task, whatever the case; a diagnostic set is
    answered by that of the task it goes with. `job.model` may be a run itself where `only` names one task.
    only: names of tasks; () for all. predictions: a folder for the answers to the test data, see `suite_predictions`.

    Raises: NlpcliError for data that can't be read, with file and line, and where no task has data and a model.
    """
    if len(job.data) != 1:
        raise NlpcliError(
            f"a suite needs one data folder, but {len(job.data)} are given", hint="name one folder with --data DIR"
        )
    if job.model is None:
        raise NlpcliError(
            "the folder of the models is missing", hint="name a folder with one model for each task: --model DIR"
        )
    folder = Path(cast("Path", job.model))  # not a loaded model
    _warn_unused(job, warn)
    wanted = chosen_tasks(name, only)
    found = {task.task.name: task for task in read_suite(name, job.data[0])}
    results, missing, written = [], {}, []
    for task in SUITES[name]:
        there = found.get(task.name)
        model = find_model(folder, task, only=wanted) if task in wanted else None
        lacks = _lacks(task in wanted, there, model)
        if there is not None and model is not None and (not lacks or predictions):
            applied = _open(model, task, job)
            if not lacks:
                notify(f"{task.name}: evaluating {model}")
                results.append(_measure(there, applied, job, warn))
            if predictions is not None:
                from nlpcli.runs.suites.suite_predictions import write_predictions

                written += write_predictions(there, partial(predict_all, applied, job=job), predictions)
        if lacks and task.counts:
            missing[task.name] = lacks
    if not results and not written:
        problems = "; ".join(f"{task}: {what}" for task, what in missing.items() if what != _LEFT_OUT)
        raise NlpcliError(
            f"{job.model} contains no model for any task in {job.data[0]} ({problems})",
            hint=f"train them: nlpcli finetune --suite {name} --train {job.data[0]} --model DIR --out {job.model}",
        )
    return SuiteReport(name, results, missing, written)


def chosen_tasks(suite: str, only: Iterable[str]) -> list[SuiteTask]:
    """The tasks that `only` names, by names or folders, also several with commas between them; all for nothing.

    Raises: NlpcliError for an unknown suite or task.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    names = {squashed(name): name.strip() for part in only for name in part.split(",") if name.strip()}
    by_name = {squashed(task.name): task for task in SUITES[suite]}
    for key, name in names.items():
        if key not in by_name:
            raise unknown(f"task of {suite}", name.lower(), [task.name.lower() for task in SUITES[suite]])
    return [task for key, task in by_name.items() if not names or key in names]


def find_model(root: Path, task: SuiteTask, *, only: Sequence[SuiteTask]) -> Path | None:
    """The run for a task: below `root` under its name, else that of the task it goes with, or `root` itself.

    Raises: NlpcliError where there is no folder, and for a run itself where several tasks are requested.
    """
    if not root.is_dir():
        raise NlpcliError(f"the folder {root} does not exist", hint=missing_path_hint(root))
    if (root / _DESCRIPTION).is_file():
        if len(only) != 1:
            raise NlpcliError(
                f"{root} is a single model, but a suite needs a folder with one model for each task",
                hint="name the task of this model with --only TASK",
            )
        return root
    below = {squashed(path.name): path for path in sorted(root.iterdir()) if (path / _DESCRIPTION).is_file()}
    return below.get(squashed(task.name)) or below.get(_STAND_INS.get(task.name, ""))


def predict_all(applied: TaskModel, examples: Sequence[Example], job: EvaluateRequest) -> list[dict[str, Any]]:
    """The predictions for examples, encoded a window at a time."""
    from nlpcli.runs.task_model import WINDOW

    return [
        prediction
        for start in range(0, len(examples), WINDOW)
        for prediction in applied.predict(examples[start : start + WINDOW], batch_tokens=job.batch_tokens)
    ]


def _open(model: Path, task: SuiteTask, job: EvaluateRequest) -> TaskModel:
    from nlpcli.runs.find_model import locate_task
    from nlpcli.runs.task_model import open_task

    applied = open_task(
        locate_task(model, notify=lambda _: None), device=job.device, threads=job.threads, part=job.part
    )
    try:
        check_model(task, applied.task)
    except NlpcliError as error:
        raise NlpcliError(f"{model}: {error.message}", hint=error.hint) from None
    return applied


def _measure(found: FoundTask, applied: TaskModel, job: EvaluateRequest, warn: Callable[[str], None]) -> TaskResult:
    from nlpcli.runs.finetuning.example_reading import warn_unknown_labels

    examples, parts = read_dev(found)
    warn_unknown_labels(applied.task, examples, warn)
    scores = SuiteScores(found.task, parts)(applied.task, examples, predict_all(applied, examples, job), job.resampling)
    return TaskResult(found.task.name, applied.loaded.path, len(examples), scores, found.task.counts)


def read_dev(found: FoundTask) -> tuple[list[Example], dict[str, int]]:
    """The dev examples of all parts, one part after the other, and how many each has. Raises: NlpcliError for none."""
    parts = {part: list(found.read("dev", part)) for part in found.files.get("dev", {})}
    for part, examples in parts.items():
        if not examples:
            raise NlpcliError(f"{found.files['dev'][part]} contains no examples")
    return [example for examples in parts.values() for example in examples], {p: len(e) for p, e in parts.items()}


def _lacks(wanted: bool, found: FoundTask | None, model: Path | None) -> str:
    if not wanted:
        return _LEFT_OUT
    if found is None:
        return "no data"
    return "no dev data" if "dev" not in found.files else "" if model else "no model"


def _warn_unused(job: EvaluateRequest, warn: Callable[[str], None]) -> None:
    unused = [f"--{name}" for name, value in job.columns.items() if value]
    unused += [f"--{name}" for name in ("worst", "confusion") if getattr(job, name)]
    if job.format != "auto":
        unused.append("--format")
    if unused:
        warn(f"these options have no effect on a suite: {', '.join(unused)}")


def choose_folder(suite: str, root: Path = Path("runs")) -> Path:
    """A folder for a suite's models that is not there yet."""
    return next(path for number in count(1) if not (path := root / f"{suite}-{number}").exists())


def finetune_suite(
    suite: str,
    folder: Path | str,
    out: Path,
    request_for: Callable[[str], Request],
    listener: Listener,
    *,
    only: Sequence[str] = (),
) -> dict[str, NlpcliError]:
    """Trains a model on each task of a suite that has training data in a folder, in runs below `out`.

    request_for: makes the request of a run for a kind of task. With `resume`, a finished task is not trained again and
    an interrupted one is resumed. The suite's metric selects the model; of several metrics, their mean.

    Returns: what went wrong, by the name of the task: the others are trained all the same.
    Raises: NlpcliError when there is nothing to train on, and the first task's when all of them failed.
    """
    wanted = chosen_tasks(suite, only)
    found = [task for task in read_suite(suite, folder) if task.task in wanted and "train" in task.files]
    if not found:
        raise NlpcliError(f"{folder} contains no training data for {', '.join(task.name for task in wanted)}")
    failed: dict[str, NlpcliError] = {}
    for number, task in enumerate(found, start=1):
        listener.note(f"{task.task.name} ({number} of {len(found)})")
        request = request_for(task.task.task)
        if suite != "glue" and request.base is not None:
            request = replace(request, base=merge(merge({}, request.base), {"data": {"max_length": MAX_LENGTH}}))
        try:
            _finetune_task(task, out / task.task.folders[0], request, listener)
        except NlpcliError as error:
            failed[task.task.name] = error
            if len(failed) == len(found):
                raise next(iter(failed.values())) from None
            listener.note(f"the training for {task.task.name} failed: {error.message}")
    return failed


def _finetune_task(found: FoundTask, run: Path, request: Request, listener: Listener) -> None:
    from nlpcli.runs.finetuning.task_training import Examples, run_task

    started = request.resume and (run / CONFIG).exists()
    if started and (run / _CARD).exists():  # the card is written last
        listener.note(f"{run} is already finished")
        return
    files = {split: [str(path) for path in found.files.get(split, {}).values()] for split in ("train", "dev")}
    columns = {
        name: value
        for name, value in asdict(found.task.columns).items()
        if name in ExamplesConfig.model_fields and value is not None
    }
    settings = merge(
        merge({}, request.settings),
        {"task": found.task.task, "data": files, "examples": {**columns, "choices": list(columns["choices"])}},
    )
    resume = started and has_checkpoint(run)  # one that was stopped before its first checkpoint begins anew
    run_request = replace(request, out=run, settings=settings, resume=resume, overwrite=request.overwrite or started)
    if resume:  # the run's own folder has these settings
        run_request = replace(run_request, preset=None, config=None, tokenizer=None)
    dev, parts = read_dev(found)
    examples = Examples(list(found.read("train")), dev, SuiteScores(found.task, parts or None))
    run_task(run_request, resolve(run_request), listener, examples)
