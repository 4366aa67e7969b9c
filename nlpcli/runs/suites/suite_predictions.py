"""Answers to a suite's test data as its leaderboard takes them.

GLUE: `index`, `prediction` separated by a tab, one file a part. SuperGLUE and Russian SuperGLUE: JSON lines of `idx`
and `label`; the answers of MultiRC and MuSeRC nested as in the data, and of ReCoRD and RuCoS the likeliest candidate.
Source: the instructions for submissions at gluebenchmark.com, super.gluebenchmark.com and russiansuperglue.com.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import write_atomic
from nlpcli.config.number_parsing import parse_int
from nlpcli.data.suites import FoundTask, candidate_of, group_of
from nlpcli.runs.suites.suite_scores import groups_of, likeliest

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.data.suites import SuiteTask

Predict = Callable[[Sequence[Any]], list[dict[str, Any]]]

_NAMES = {"matched": "-m", "mismatched": "-mm"}
_CAPITAL = ("WSC", "RWSD")  # their truth values are written as Python's


def write_predictions(found: FoundTask, predict: Predict, folder: Path) -> list[Path]:
    """Writes the file of each part of a task's test data; diagnostic sets are their own test data.

    Returns: the files, none where the task has no test data. Raises: NlpcliError for data that can't be read.
    """
    split = "test" if found.task.test else "dev"
    written = []
    for part, source in found.files.get(split, {}).items():
        examples = list(found.read(split, part, labelled=False))
        predictions = predict(examples)
        if ".jsonl" in source.suffixes:
            name, lines = f"{found.task.name}.jsonl", _objects(found.task.name, found.task, examples, predictions)
        else:
            name, lines = f"{found.task.name}{_NAMES.get(part, '')}.tsv", _table(predictions)
        path = folder / name
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
        written.append(path)
    return written


def _table(predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    answers = [f"{found['score']:.3f}" if "score" in found else found["label"] for found in predictions]
    return ["index\tprediction", *(f"{number}\t{answer}" for number, answer in enumerate(answers))]


def _objects(
    name: str, task: SuiteTask, examples: Sequence[Example], predictions: Sequence[Mapping[str, Any]]
) -> list[str]:
    if "group_f1" in task.metrics:
        best = (likeliest(places, predictions, task.positive) for places in groups_of(examples))
        rows = [{"idx": _idx(group_of(examples[p]).split(":")[1]), "label": candidate_of(examples[p])} for p in best]
    elif "f1a" in task.metrics:
        rows = _nested(examples, predictions)
    else:
        rows = [
            {"idx": _idx(example.id or str(number)), "label": _label(name, task, prediction["label"])}
            for number, (example, prediction) in enumerate(zip(examples, predictions, strict=True))
        ]
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def _nested(examples: Sequence[Example], predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """passage -> its questions -> their answers, in the order of the data."""
    passages: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        passage, question = group_of(example).split(":")
        answers = passages.setdefault(passage, {}).setdefault(question, [])
        answers.append({"idx": _idx(candidate_of(example)), "label": int(prediction["label"])})
    return [
        {"idx": _idx(passage), "passage": {"questions": [
            {"idx": _idx(question), "answers": answers} for question, answers in questions.items()
        ]}}
        for passage, questions in passages.items()
    ]  # fmt: skip


def _label(name: str, task: SuiteTask, label: str) -> Any:
    if task.task == "choice":
        return int(label)
    return label.capitalize() if name in _CAPITAL else label


def _idx(text: str) -> Any:
    number = parse_int(text)
    return text if number is None else number
