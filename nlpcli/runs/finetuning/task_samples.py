"""What a fine-tuned model predicted for held-out examples: a few to look at, all to measure again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nlpcli.evaluation.similarity_metrics import ranks
from nlpcli.evaluation.task_metrics import all_labels, binary_f1, text_measures
from nlpcli.tasks.text_to_text import references


def task_samples(
    task: Any, examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]], chosen: Iterable[int]
) -> Iterator[dict[str, Any]]:
    """Examples as they are read, what is right and what was predicted; how probable that is, where it is known."""
    for place in chosen:
        example, prediction = examples[place], predictions[place]
        gold, said = _written(task, example, prediction)
        text = (" " if task.name == "tag" else "\t").join(example.texts)
        sample = {"text": text, "reference": gold, "output": said}
        if isinstance(prediction.get("probability"), float):
            sample["probability"] = round(prediction["probability"], 3)
        yield sample


def _written(task: Any, example: Any, prediction: Mapping[str, Any]) -> tuple[str, str]:
    kind = task.name
    if kind == "text-to-text":
        return " | ".join(references(example)), task.line(prediction)
    if kind == "classify":
        return str(example.label), prediction["label"]
    if kind == "multi-label":
        return ", ".join(task.labels_in(example)), ", ".join(prediction["labels"])
    if kind == "choice":
        return task.choice_in(example) or str(example.label), prediction["choice"]
    if kind == "tag":
        return " ".join(task.tags_in(example)), " ".join(prediction["tags"])
    if kind == "span":
        return " | ".join(dict.fromkeys(answer.text for answer in example.label)), prediction["answer"]
    if "label" in prediction:
        return str(example.label), prediction["label"]
    return "" if example.label is None else f"{task.score_in(example):g}", f"{prediction['score']:.3f}"


def task_outputs(
    task: Any, examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The reference and the output of each example, and the metrics of a task of this kind that follow from it."""
    pairs, measures = _OUTPUTS[task.name](task, examples, predictions)
    named = {name: {"metric": metric, "options": options} for name, (metric, options) in measures.items()}
    if hasattr(task, "generator"):
        for how in named.values():
            how["suffix"] = task.generator.signature
    return [{"reference": reference, "output": output} for reference, output in pairs], named


def _labels(task: Any, examples: Any, predictions: Any) -> Any:
    pairs = [(example.label, said["label"]) for example, said in zip(examples, predictions, strict=True)]
    measures = {"accuracy": ("accuracy", {}), "macro_f1": ("f1", {"average": "macro"}), "mcc": ("mcc", {})}
    if len(task.labels) == 2:
        measures["f1"] = ("f1", binary_f1(task.labels[1], *zip(*pairs, strict=True)))
    return pairs, measures


def _sets(task: Any, examples: Any, predictions: Any) -> Any:
    gold, said = [task.labels_in(example) for example in examples], [found["labels"] for found in predictions]
    pairs = [(sorted(true), sorted(told)) for true, told in zip(gold, said, strict=True)]
    options = {"labels": all_labels(task, gold)}
    measures = {f"{name}_f1": ("label-sets-f1", {"average": name, **options}) for name in ("macro", "micro")}
    return pairs, {**measures, "accuracy": ("label-sets-accuracy", {})}


def _numbers(task: Any, examples: Any, predictions: Any) -> Any:
    pairs = [(task.score_in(example), said["score"]) for example, said in zip(examples, predictions, strict=True)]
    return pairs, {"spearman": ("spearman", {}), "pearson": ("pearson", {})}


def _choices(task: Any, examples: Any, predictions: Any) -> Any:
    pairs = [
        (_place(example, task.choice_in(example)), said["candidates"].index(said["choice"]))
        for example, said in zip(examples, predictions, strict=True)
    ]
    return pairs, {"accuracy": ("accuracy", {})}


def _place(example: Any, choice: str | None) -> int:
    """The place of a candidate, from 0; -1 for none of them."""
    return -1 if choice is None else list(example.texts[1:]).index(choice)


def _tags(task: Any, examples: Any, predictions: Any) -> Any:
    pairs = [(list(task.tags_in(example)), said["tags"]) for example, said in zip(examples, predictions, strict=True)]
    measures = {"entity_f1": ("entity-f1", {})} if task.scheme else {}
    return pairs, {**measures, "accuracy": ("tag-accuracy", {})}


def _answers(task: Any, examples: Any, predictions: Any) -> Any:
    pairs = [
        ([answer.text for answer in example.label], said["answer"])
        for example, said in zip(examples, predictions, strict=True)
    ]
    return pairs, {"f1": ("answer-f1", {}), "exact_match": ("exact-match", {})}


def _similarities(task: Any, examples: Any, predictions: Any) -> Any:
    judged = task.judged(examples)
    if judged == "labels":
        pairs = [(example.label, said["label"]) for example, said in zip(examples, predictions, strict=True)]
        return pairs, {"accuracy": ("accuracy", {}), "macro_f1": ("f1", {"average": "macro"})}
    if judged == "pairs":
        return [(1, rank) for rank in ranks(examples, predictions)], {"mrr": ("reciprocal-rank", {})}
    pairs, measures = _numbers(task, examples, predictions)
    if judged == "two":
        return pairs, {"average_precision": ("average-precision", {}), "spearman": measures["spearman"]}
    return pairs, measures


def _texts(task: Any, examples: Any, predictions: Any) -> Any:
    gold = [list(references(example)) for example in examples]
    return list(zip(gold, map(task.line, predictions), strict=True)), text_measures(task, gold)


_OUTPUTS = {
    "classify": _labels,
    "multi-label": _sets,
    "regress": _numbers,
    "choice": _choices,
    "tag": _tags,
    "span": _answers,
    "similarity": _similarities,
    "text-to-text": _texts,
}
