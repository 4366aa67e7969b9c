from __future__ import annotations

import pytest

from nlpcli.data.examples import Example
from nlpcli.evaluation.worst_mistakes import mistakes
from nlpcli.tasks.choice import Choice


class NumberedChoice(Choice):
    """Labels are places of candidates."""

    def __init__(self):
        self.style = "numbers from 0"


CHOICE = NumberedChoice()


def test_the_worst_choice_is_the_one_that_left_least_to_the_right_candidate():
    examples = [Example(("why", "a", "b"), label, f"dev:{line}") for line, label in enumerate("001", start=1)]
    predictions = [
        {"choice": "ab"[shares[1] > shares[0]], "probabilities": shares, "candidates": ["a", "b"]}
        for shares in ([0.4, 0.6], [0.1, 0.9], [0.2, 0.8])
    ]
    first, second = mistakes(CHOICE, examples, predictions, 3)  # the third is right
    assert (first.place, first.expected, first.predicted, second.place) == ("dev:2", "a", "b", "dev:1")
    assert first.error == pytest.approx(0.9)
