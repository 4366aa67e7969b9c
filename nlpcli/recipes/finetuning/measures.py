"""What each task is measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score

Measure = Callable[..., "dict[str, Score]"]


def measures_of(task: Any) -> tuple[str, ...]:
    """The names of a task's metrics, the deciding one first."""
    return tuple(task.measures)


def scores_of(
    task: Any, examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]], resampling: Resampling | None = None
) -> dict[str, Score]:
    """The scores of predictions, by the names of the task's metrics. resampling: for intervals."""
    return _MEASURES[task.name](task, examples, predictions, resampling)


def _labels(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.labels import accuracy, f1, matthews

    gold = [example.label for example in examples]
    predicted = [prediction["label"] for prediction in predictions]
    scores = {"accuracy": accuracy(gold, predicted, resampling)}
    scores["macro_f1"] = f1(gold, predicted, average="macro", resampling=resampling)
    if len(task.labels) == 2:
        scores["f1"] = f1(gold, predicted, average="binary", positive=task.labels[1], resampling=resampling)
    scores["mcc"] = matthews(gold, predicted, resampling)
    return scores


def _sets(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.labels import multilabel_f1, subset_accuracy

    gold = [task.labels_in(example) for example in examples]
    predicted = [prediction["labels"] for prediction in predictions]
    scores = {
        f"{average}_f1": multilabel_f1(gold, predicted, labels=task.labels, average=average, resampling=resampling)
        for average in ("macro", "micro")
    }
    return scores | {"accuracy": subset_accuracy(gold, predicted, resampling)}


def _numbers(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.regression import pearson, spearman

    gold = [task.score_in(example) for example in examples]
    predicted = [prediction["score"] for prediction in predictions]
    return {
        "spearman": spearman(gold, predicted, resampling),
        "pearson": pearson(gold, predicted, resampling),
    }


def _tags(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.tagging import entity_f1, token_accuracy

    gold = [task.tags_in(example) for example in examples]
    predicted = [prediction["tags"] for prediction in predictions]
    scores = {"entity_f1": entity_f1(gold, predicted, resampling=resampling)} if task.scheme else {}
    return scores | {"accuracy": token_accuracy(gold, predicted, resampling=resampling)}


def _answers(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.answers import answer_f1, exact_match

    gold = [[answer.text for answer in example.label] for example in examples]
    predicted = [prediction["answer"] for prediction in predictions]
    return {"f1": answer_f1(gold, predicted, resampling), "exact_match": exact_match(gold, predicted, resampling)}


def _choices(task: Any, examples: Any, predictions: Any, resampling: Any) -> dict[str, Score]:
    from nlpcli.evaluation.labels import accuracy

    gold = [task.choice_in(example) for example in examples]
    return {"accuracy": accuracy(gold, [prediction["choice"] for prediction in predictions], resampling)}


_MEASURES: dict[str, Measure] = {
    "classify": _labels,
    "multi-label": _sets,
    "regress": _numbers,
    "choice": _choices,
    "tag": _tags,
    "span": _answers,
    "similarity": _numbers,
}
