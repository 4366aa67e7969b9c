"""Measuring the predictions of a fine-tuned model on labeled examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.worst_mistakes import Mistake, mistakes
from nlpcli.runs.finetuning.example_reading import warn_unknown_labels
from nlpcli.runs.task_model import TaskModel
from nlpcli.tasks import TASKS

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.runs.open_model import Source
    from nlpcli.tasks.task import Task


@dataclass(frozen=True)
class EvaluateRequest:
    """The request of an evaluation: a model and data.

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
    """Scores by name; `confusion` (labels, table of reference by predicted) and `worst` where they were requested."""

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


def measure(
    applied: TaskModel, examples: Sequence[Any], job: EvaluateRequest, *, warn: Callable[[str], None]
) -> Evaluation:
    """As `evaluate`, of examples that are read already."""
    task = applied.task
    _check_confusion(task, job)
    warn_unknown_labels(task, examples, warn)
    predictions = applied.predict(examples, batch_tokens=job.batch_tokens)
    return Evaluation(
        applied.loaded.path,
        len(examples),
        task.scores(examples, predictions, job.resampling),
        _confusion(task, examples, predictions) if job.confusion else None,
        mistakes(task, examples, predictions, job.worst) if job.worst else [],
    )


def _check_confusion(task: Task, job: EvaluateRequest) -> None:
    if job.confusion and not task.has_confusion:
        tasks = [name for name in TASKS if getattr(TASKS.load(name), "has_confusion", False)]
        raise NlpcliError(
            f"--confusion has no effect on the task {task.name}",
            hint=f"{' and '.join(tasks)} have one; leave --confusion out",
        )


def _confusion(task: Task, examples: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[str], list[list[int]]]:
    from nlpcli.evaluation.classification_metrics import confusion

    references, predicted = task.compared_labels(examples, predictions)
    labels = list(dict.fromkeys([*task.labels, *references, *predicted]))
    return labels, confusion(references, predicted, labels).tolist()
