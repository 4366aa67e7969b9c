"""Measuring a fine-tuned model on labelled examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.commands.predict import Applied, columns_of, open_task, task_class
from nlpcli.data.open_text import check_opens
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.worst_mistakes import Mistake, mistakes
from nlpcli.runs.find_model import locate_task
from nlpcli.runs.finetuning.example_reading import Cuts, check_columns, read_labelled, tell_blank, tell_unknown
from nlpcli.runs.open_model import description_of, folder_of
from nlpcli.tasks import TASKS

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.runs.open_model import Source


@dataclass(frozen=True)
class Evaluating:
    """What to measure on which data.

    columns: where labels and texts stand, when not as in training. resampling: of the confidence intervals, None for
    none. worst: how many of the worst mistakes are wanted. confusion: whether the table of confusions is.
    """

    data: Sequence[str]
    model: Source | None = None
    format: str = "auto"
    columns: dict[str, Any] = field(default_factory=dict)
    part: str | None = None
    resampling: Resampling | None = None
    worst: int = 0
    confusion: bool = False
    batch_tokens: int = 4096
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores by name; `confusion` (labels, table of gold by predicted) and `worst` where they were asked for."""

    model: Path
    examples: int
    scores: dict[str, Score]
    confusion: tuple[list[str], list[list[int]]] | None
    worst: list[Mistake]

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        result: dict[str, Any] = {
            "model": str(self.model),
            "examples": self.examples,
            "scores": [score.as_dict(name) for name, score in self.scores.items()],
        }
        if self.confusion is not None:
            result["confusion"] = {"labels": self.confusion[0], "table": self.confusion[1]}
        if self.worst:
            result["worst"] = [mistake.__dict__ for mistake in self.worst]
        return result


def evaluate(job: Evaluating, *, say: Callable[[str], None], warn: Callable[[str], None]) -> Evaluation:
    """Predicts every example and measures the predictions.

    Labels the model doesn't know are named with their places and count as mistakes; so are texts that are cut, or
    missing.

    Raises: NlpcliError for data that can't be read, with file and line, and for no data.
    """
    source = locate_task(job.model, say=say)
    parts = description_of(source).get("parts")
    if parts and job.part is None:
        raise NlpcliError(
            f"{folder_of(source)}: the model was trained on several tasks, so one must be chosen",
            hint=f"use --task {' or '.join(parts)}",
        )
    for name in job.data:
        check_opens(name)
    cuts = Cuts()
    task = task_class(source, job.part)
    check_columns(task, job.columns)
    _check_confusion(task, job)
    applied = open_task(source, device=job.device, threads=job.threads, part=job.part, on_cut=cuts)
    columns = columns_of(applied.loaded.info, job.columns, job.format)
    read = (read_labelled(applied.task, name, columns, warn, learnt=False) for name in job.data)
    examples = list(itertools.chain.from_iterable(read))
    if not examples:
        raise NlpcliError(f"{', '.join(job.data)}: the data contains no examples")
    tell_blank(examples, warn)
    result = measure(applied, examples, job, warn=warn)
    cuts.tell(warn)
    return result


def measure(applied: Applied, examples: Sequence[Any], job: Evaluating, *, warn: Callable[[str], None]) -> Evaluation:
    """As `evaluate`, of examples that are read already."""
    task = applied.task
    _check_confusion(task, job)
    tell_unknown(task, examples, warn)
    predictions = applied.predict(examples, batch_tokens=job.batch_tokens)
    return Evaluation(
        applied.loaded.path,
        len(examples),
        task.scores(examples, predictions, job.resampling),
        _confusion(task, examples, predictions) if job.confusion else None,
        mistakes(task, examples, predictions, job.worst) if job.worst else [],
    )


def _check_confusion(task: Any, job: Evaluating) -> None:
    if job.confusion and not task.has_confusion:
        tasks = [name for name in TASKS if getattr(TASKS.load(name), "has_confusion", False)]
        raise NlpcliError(
            f"{task.name} has no confusion matrix", hint=f"{' and '.join(tasks)} have one; leave --confusion out"
        )


def _confusion(task: Any, examples: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[str], list[list[int]]]:
    from nlpcli.evaluation.classification_metrics import confusion

    references, predicted = task.compared_labels(examples, predictions)
    labels = list(dict.fromkeys([*task.labels, *references, *predicted]))
    return labels, confusion(references, predicted, labels).tolist()
