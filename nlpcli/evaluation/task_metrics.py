"""What each task is measured by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from nlpcli.evaluation.similarity_metrics import measures_on, similarity_scores

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.tasks.choice import Choice
    from nlpcli.tasks.classification import Classification
    from nlpcli.tasks.multi_label import MultiLabel
    from nlpcli.tasks.regression import Regression
    from nlpcli.tasks.similarity import Similarity
    from nlpcli.tasks.span import SpanExtraction
    from nlpcli.tasks.tagging import Tagging
    from nlpcli.tasks.task import Task
    from nlpcli.tasks.text_to_text import TextToText

Predictions = Sequence[dict[str, Any]]

Measure = Callable[..., "dict[str, Score]"]


class _Signed(Protocol):
    """What writes the texts of a task, and how."""

    signature: str


def measures_of(task: Task, examples: Sequence[Example] = ()) -> tuple[str, ...]:
    """The names of a task's metrics on held-out examples, the deciding one first."""
    if task.name == "similarity" and examples:
        return measures_on(cast("Similarity", task), examples)
    return tuple(task.measures)


def possible_measures(kind: type[Task]) -> tuple[str, ...]:
    """The names of all metrics that a class of tasks may have, whatever its labels turn out to be."""
    return getattr(kind, "possible_measures", None) or kind.measures


def scores_of(
    task: Task, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None = None
) -> dict[str, Score]:
    """The scores of predictions, by the names of the task's metrics. resampling: for intervals."""
    return _MEASURES[task.name](task, examples, predictions, resampling)


def _labels(
    task: Classification, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.classification_metrics import accuracy, f1, matthews

    gold = [example.label for example in examples]
    predicted = [prediction["label"] for prediction in predictions]
    scores = {"accuracy": accuracy(gold, predicted, resampling)}
    scores["macro_f1"] = f1(gold, predicted, average="macro", resampling=resampling)
    if len(task.labels) == 2:
        scores["f1"] = f1(gold, predicted, **binary_f1(task.labels[1], gold, predicted), resampling=resampling)
    scores["mcc"] = matthews(gold, predicted, resampling)
    return scores


def _sets(
    task: MultiLabel, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.classification_metrics import multilabel_f1, subset_accuracy

    gold = [task.labels_in(example) for example in examples]
    predicted = [prediction["labels"] for prediction in predictions]
    scores = {
        f"{average}_f1": multilabel_f1(
            gold, predicted, labels=all_labels(task, gold), average=average, resampling=resampling
        )
        for average in ("macro", "micro")
    }
    return scores | {"accuracy": subset_accuracy(gold, predicted, resampling)}


def binary_f1(positive: str, gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Any]:
    """The settings of F1 of one label; it is 0 where the label neither occurs nor is predicted."""
    if positive in gold or positive in predicted:
        return {"average": "binary", "positive": positive}
    return {"average": "macro", "labels": [positive]}


def all_labels(task: MultiLabel, gold: Sequence[Sequence[str]]) -> list[str]:
    """The labels that a task knows, and behind them those that only the data has."""
    return [*task.labels, *sorted({label for labels in gold for label in labels} - set(task.labels))]


def _numbers(
    task: Regression, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.correlation import pearson, spearman

    gold = [task.score_in(example) for example in examples]
    predicted = [prediction["score"] for prediction in predictions]
    return {
        "spearman": spearman(gold, predicted, resampling),
        "pearson": pearson(gold, predicted, resampling),
    }


def _tags(
    task: Tagging, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.tagging_metrics import entity_f1, token_accuracy

    gold = [task.tags_in(example) for example in examples]
    predicted = [prediction["tags"] for prediction in predictions]
    scores = {"entity_f1": entity_f1(gold, predicted, resampling=resampling)} if task.scheme else {}
    return scores | {"accuracy": token_accuracy(gold, predicted, resampling=resampling)}


def _answers(
    task: SpanExtraction, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.squad_metrics import answer_f1, exact_match

    gold = [[answer.text for answer in example.label] for example in examples]
    predicted = [prediction["answer"] for prediction in predictions]
    return {"f1": answer_f1(gold, predicted, resampling), "exact_match": exact_match(gold, predicted, resampling)}


def _choices(
    task: Choice, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.evaluation.classification_metrics import accuracy

    gold = [task.reference_in(example) for example in examples]
    return {"accuracy": accuracy(gold, [prediction["choice"] for prediction in predictions], resampling)}


def _texts(
    task: TextToText, examples: Sequence[Example], predictions: Predictions, resampling: Resampling | None
) -> dict[str, Score]:
    from nlpcli.tasks.text_to_text import references

    written = [task.line(prediction) for prediction in predictions]
    right = [references(example) for example in examples]
    scores = _OF_TEXTS[task.wording.measure](written, right, resampling)
    how = cast(_Signed, task.generator).signature  # a task that has predicted texts has what writes them
    return {name: replace(score, signature=f"{score.signature}|{how}") for name, score in scores.items()}


def _rouge(written: list[str], right: list[tuple[str, ...]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.rouge import Rouge, Rouge1, Rouge2, RougeL
    from nlpcli.evaluation.score import reference_sets

    settings = _rouge_settings(right)
    kinds: dict[str, type[Rouge[Any]]] = {"rougeL": RougeL, "rouge1": Rouge1, "rouge2": Rouge2}
    sets = reference_sets(right)
    return {name: kind(**settings).corpus(written, sets, resampling) for name, kind in kinds.items()}


def _rouge_settings(right: Sequence[Sequence[str]]) -> dict[str, str]:
    letters = [letter for texts in right for letter in texts[0] if letter.isalpha()]
    latin = 2 * sum(map(str.isascii, letters)) >= len(letters)
    return {"rouge_stemmer": "porter", "rouge_tokenize": "ascii" if latin else "unicode"}


def _bleu(written: list[str], right: list[tuple[str, ...]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.bleu import Bleu
    from nlpcli.evaluation.score import reference_sets

    return {"bleu": Bleu().corpus(written, reference_sets(right), resampling)}


def _same_text(written: list[str], right: list[tuple[str, ...]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.classification_metrics import accuracy

    gold = [text if text in texts else texts[0] for text, texts in zip(written, right, strict=True)]
    return {"accuracy": accuracy(gold, written, resampling)}


def _same_answer(written: list[str], right: list[tuple[str, ...]], resampling: Resampling | None) -> dict[str, Score]:
    from nlpcli.evaluation.squad_metrics import exact_match

    return {"exact_match": exact_match(right, written, resampling)}


def text_measures(task: TextToText, right: Sequence[Sequence[str]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The metrics of `scores_of` for a task that writes texts: by name those of `nlpcli score` and their options."""
    if task.wording.measure == "rouge":
        settings = _rouge_settings(right)
        return {"rougeL": ("rougel", settings), "rouge1": ("rouge1", settings), "rouge2": ("rouge2", settings)}
    metric, scorer = {
        "bleu": ("bleu", "bleu"), "accuracy": ("accuracy", "same-text"), "exact-match": ("exact_match", "exact-match")
    }[task.wording.measure]  # fmt: skip
    return {metric: (scorer, {})}


_OF_TEXTS = {"rouge": _rouge, "bleu": _bleu, "accuracy": _same_text, "exact-match": _same_answer}

_MEASURES: dict[str, Measure] = {
    "classify": _labels,
    "multi-label": _sets,
    "regress": _numbers,
    "choice": _choices,
    "tag": _tags,
    "span": _answers,
    "similarity": similarity_scores,
    "text-to-text": _texts,
}
