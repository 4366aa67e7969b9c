"""The metrics of a suite's tasks: GLUE's, SuperGLUE's and Russian SuperGLUE's own metrics.

A task's score is the mean of its metrics, and of its parts' scores where it has several (Wang et al. 2018, section 5).
Sources: Wang et al. 2018, table 1 (GLUE); Wang et al. 2019, table 1; Khashabi et al. 2018, section 5 (F1a and exact
match of MultiRC); Zhang et al. 2018, section 5 (F1 and exact match of ReCoRD).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nlpcli.config.counting import counted
from nlpcli.data.suites import SuiteTask, candidate_of, group_of
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.tasks.regression import Regression
    from nlpcli.tasks.similarity import Similarity
    from nlpcli.tasks.task import Prediction, Task

MEAN = "mean"
"""The mean of a task's metrics, where it has several."""

_KINDS = {"classify": ("classify",), "regress": ("regress", "similarity"), "choice": ("choice",)}


class SuiteScores:
    """The scores of predictions for a suite's task.

    parts: how many of the examples are of each part, in their order; None: all are of one. names: of the scores, the
    deciding one first: `accuracy`; `mean`, `f1`, `accuracy` of several; `matched_accuracy` of a part.
    """

    def __init__(self, task: SuiteTask, parts: Mapping[str, int] | None = None) -> None:
        self.task = task
        self.parts = parts
        self.metrics = tuple(
            (f"{part}_{metric}" if part else metric, metric) for part in parts or {"": 0} for metric in task.metrics
        )
        several = len(self.metrics) > 1
        self.names = (*((MEAN,) if several else ()), *(name for name, _ in self.metrics))

    def __call__(
        self,
        task: Task,
        examples: Sequence[Any],
        predictions: Sequence[Mapping[str, Any]],
        resampling: Resampling | None = None,
    ) -> dict[str, Score]:
        """The scores by name. Raises: NlpcliError for a model that was tuned for another kind of task."""
        from nlpcli.evaluation.score import Score

        check_model(self.task, task)
        ends = list((self.parts or {"": len(examples)}).values())
        if sum(ends) != len(examples):
            raise ValueError(f"{counted(len(examples), 'example')} in parts of {ends}")
        values, start = [], 0
        for size in ends:
            part = slice(start, start + size)
            values += [
                _METRICS[metric](self.task, task, examples[part], predictions[part], resampling)
                for metric in self.task.metrics
            ]
            start += size
        scores = dict(zip((name for name, _ in self.metrics), values, strict=True))
        if len(scores) == 1:
            return scores
        mean = sum(score.value for score in values) / len(values)
        return {MEAN: Score(MEAN, mean, f"mean of {', '.join(scores)}"), **scores}


def check_model(suite_task: SuiteTask, task: Task) -> None:
    """Raises: NlpcliError for a model that was tuned for another kind of task."""
    if task.name not in _KINDS[suite_task.task]:
        raise NlpcliError(
            f"{suite_task.name} needs a model fine-tuned with --task {suite_task.task}, "
            f"but this model was fine-tuned with --task {task.name}"
        )


def groups_of(examples: Sequence[Any]) -> list[list[int]]:
    """For each question the indices of its examples, in the order of the questions."""
    groups: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault(group_of(example), []).append(place)
    return list(groups.values())


def likeliest(places: Sequence[int], predictions: Sequence[Mapping[str, Any]], positive: str | None) -> int:
    """The index in `places` whose candidate has the greatest probability of being correct; the first of equals."""
    return max(places, key=lambda place: predictions[place]["probabilities"].get(positive, 0.0))


def _of_labels(name: str, **settings: Any) -> Callable[..., Score]:
    def measure(
        suite_task: SuiteTask,
        task: Task,
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
        resampling: Resampling | None,
    ) -> Score:
        from nlpcli.evaluation import classification_metrics

        references, predicted = task.compared_labels(examples, predictions)
        return getattr(classification_metrics, name)(references, predicted, resampling=resampling, **settings)

    return measure


def _f1(
    suite_task: SuiteTask,
    task: Task,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    resampling: Resampling | None,
) -> Score:
    from nlpcli.evaluation.classification_metrics import f1

    references, predicted = task.compared_labels(examples, predictions)
    positive = suite_task.positive
    if positive not in references and positive not in predicted:  # a small sample without any: F1 is 0 then
        return f1(references, predicted, labels=[positive], resampling=resampling)
    return f1(references, predicted, average="binary", positive=positive, resampling=resampling)


def _of_numbers(name: str) -> Callable[..., Score]:
    def measure(
        suite_task: SuiteTask,
        task: Task,
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
        resampling: Resampling | None,
    ) -> Score:
        from nlpcli.evaluation import correlation

        scored = cast("Regression | Similarity", task)
        references = [scored.score_in(example) for example in examples]
        return getattr(correlation, name)(references, [prediction["score"] for prediction in predictions], resampling)

    return measure


def _whole_questions(
    suite_task: SuiteTask,
    task: Task,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    resampling: Resampling | None,
) -> Score:
    """The share of questions for which every answer is judged correctly."""
    from nlpcli.evaluation.classification_metrics import accuracy

    groups = groups_of(examples)
    references = [tuple(examples[place].label for place in places) for places in groups]
    predicted = [tuple(predictions[place]["label"] for place in places) for places in groups]
    return accuracy(references, predicted, resampling)


def _of_likeliest(name: str) -> Callable[..., Score]:
    def measure(
        suite_task: SuiteTask,
        task: Task,
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
        resampling: Resampling | None,
    ) -> Score:
        from nlpcli.evaluation import squad_metrics

        groups = groups_of(examples)
        references = [
            tuple(candidate_of(examples[p]) for p in places if examples[p].label == suite_task.positive)
            for places in groups
        ]
        best = (likeliest(places, predictions, suite_task.positive) for places in groups)
        predicted = [candidate_of(examples[place]) for place in best]
        return getattr(squad_metrics, name)(references, predicted, resampling)

    return measure


_METRICS: dict[str, Callable[..., Score]] = {
    "accuracy": _of_labels("accuracy"),
    "macro_f1": _of_labels("f1", average="macro"),
    "mcc": _of_labels("matthews"),
    "f1": _f1,
    "f1a": _f1,
    "em": _whole_questions,
    "pearson": _of_numbers("pearson"),
    "spearman": _of_numbers("spearman"),
    "group_f1": _of_likeliest("answer_f1"),
    "group_em": _of_likeliest("exact_match"),
}
