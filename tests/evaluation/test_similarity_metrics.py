from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nlpcli.data.examples import Example
from nlpcli.evaluation.similarity_metrics import ranks, similarity_scores
from nlpcli.tasks.similarity import MEASURES, Compared


def pair(first, second, *more, label=None):
    return Example((first, second, *more), label)


def compared(*vectors, label=None):
    one, two, *_ = rows = torch.tensor(vectors, dtype=torch.float32)
    found = Compared(score=float(torch.nn.functional.cosine_similarity(one, two, dim=0)), label=label)
    found.vectors = rows
    return found


A, B, C = [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]


def test_a_rank_counts_the_texts_that_are_nearer_than_the_right_one():
    assert ranks([pair("a", "x"), pair("b", "y")], [compared(A, B), compared(C, C)]) == [1, 1]
    assert ranks([pair("a", "x"), pair("b", "y")], [compared(A, C), compared(B, A)]) == [2, 1]
    assert ranks([pair("a", "x", "n"), pair("b", "y")], [compared(A, C, B), compared(C, C)]) == [2, 1]


def test_what_belongs_to_an_equal_text_and_the_text_itself_do_not_count_against_it():
    examples = [pair("a", "x"), pair("a", "y"), pair("c", "a")]
    assert ranks(examples, [compared(A, C), compared(A, B), compared(C, A)]) == [1, 1, 3]


@pytest.mark.parametrize(
    ("judged", "labels"),
    [("scores", ["1", "3", "2"]), ("two", ["1", "0", "1"]), ("labels", ["p", "q", "p"]), ("pairs", [None] * 3)],
)
def test_labels_decide_what_is_measured(judged, labels):
    task = SimpleNamespace(judged=lambda examples: judged, score_in=lambda example: float(example.label))
    examples = [pair(f"{i}", f"{i}'", label=label) for i, label in enumerate(labels)]
    predictions = [compared(A, A, label="p"), compared(A, C, label="q"), compared(A, B, label="q")]
    scores = similarity_scores(task, examples, predictions)
    assert tuple(scores) == MEASURES[judged]
    expected = {"scores": -100, "two": 100, "labels": 200 / 3, "pairs": 100 * (1 + 1 / 3 + 1 / 2) / 3}[judged]
    assert next(iter(scores.values())).value == pytest.approx(expected)
