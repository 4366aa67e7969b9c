from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.evaluation.ranking_metrics import average_precision, reciprocal_rank


def plain(gold, scores):
    """The definition: precision at every threshold, weighted by what recall it adds."""
    total, value, recall = sum(gold), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [y for y, score in zip(gold, scores, strict=True) if score >= threshold]
        value += (sum(taken) / total - recall) * sum(taken) / len(taken)
        recall = sum(taken) / total
    return 100 * value


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=1).filter(lambda rows: any(y for y, _ in rows))
)
def test_average_precision_is_precision_weighted_by_the_recall_it_adds(rows):
    gold, scores = zip(*rows, strict=True)
    assert average_precision(gold, scores).value == pytest.approx(plain(gold, scores))


def test_a_perfect_ranking_has_an_average_precision_of_a_hundred():
    assert average_precision([1, 0, 1, 0], [0.9, 0.1, 0.8, 0.3]).value == pytest.approx(100)


def test_a_weighted_example_counts_as_often_as_it_is_drawn():
    gold, scores = [1, 0, 1, 0, 1], [0.9, 0.8, 0.7, 0.2, 0.1]
    score = average_precision(gold, scores, Resampling(50, 3))
    assert score.low < score.value < score.high
    weights = np.array([[2, 0, 1, 3, 0]])
    from nlpcli.evaluation.ranking_metrics import AveragePrecision

    repeated = [i for i, weight in enumerate(weights[0]) for _ in range(weight)]
    expected = average_precision([gold[i] for i in repeated], [scores[i] for i in repeated]).value
    assert AveragePrecision().measure(scores, [gold]).values(weights)[0] == pytest.approx(expected)


def test_reciprocal_rank_is_the_mean_of_inverted_ranks():
    score = reciprocal_rank([1, 2, 4, 1])
    assert score.value == pytest.approx(100 * (1 + 0.5 + 0.25 + 1) / 4)
    assert score.details["first"] == 2
    assert "2 of 4 ranked first" in score.line()


def test_what_is_no_rank_and_no_label_is_refused():
    with pytest.raises(NlpcliError, match="ranks start at 1, but one rank is 0"):
        reciprocal_rank([1, 0])
    with pytest.raises(NlpcliError, match="references that are 0 or 1, not"):
        average_precision([1, 2], [0.1, 0.2])
