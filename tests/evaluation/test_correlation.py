from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling, correlation

NUMBER = st.integers(-5, 5).map(lambda n: n / 2) | st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
PAIRS = st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=30)


@given(PAIRS, st.sampled_from([1.0, 1e-9, 1e12]), st.sampled_from([0.0, 1000.0]))
def test_both_coefficients_are_those_of_scipy(pairs, scale, offset):
    gold, predicted = map(list, zip(*pairs, strict=True))
    predicted = [scale * number + offset for number in predicted]
    assume(np.std(predicted) > 1e-9 * (abs(np.mean(predicted)) + 1e-30) and np.std(gold) > 1e-9 * abs(np.mean(gold)))
    expected = 100 * scipy.stats.pearsonr(gold, predicted)[0]
    assert correlation.pearson(gold, predicted).value == pytest.approx(expected, abs=1e-4)
    expected = 100 * scipy.stats.spearmanr(gold, predicted)[0]
    assert correlation.spearman(gold, predicted).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("score", "theirs"), [(correlation.pearson, scipy.stats.pearsonr), (correlation.spearman, scipy.stats.spearmanr)]
)
def test_the_interval_is_that_of_scoring_each_resample_by_itself(score, theirs):
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 6, 40) / 2
    predicted = gold + rng.normal(size=40)
    drawn = np.random.default_rng(9).choice(40, size=(120, 40), replace=True)
    values = sorted(100 * theirs(gold[row], predicted[row])[0] for row in drawn)
    found = score(list(gold), list(predicted), Resampling(120, 9))
    assert (found.low, found.high, found.mean) == pytest.approx((values[3], values[-4], np.mean(values)))


@pytest.mark.parametrize("metric", [correlation.Pearson(), correlation.Spearman()])
def test_a_constant_side_gives_zero_and_a_caution_in_resamples_too(metric):
    score = metric.corpus([0.1] * 5, [[1.0, 2.0, 3.0, 4.0, 5.0]], Resampling(20))
    assert (score.value, score.low, score.high) == (0.0, 0.0, 0.0)
    assert metric.cautions([0.1] * 5, [[1, 2, 3, 4, 5]]) == [
        "every prediction is 0.1, so the correlation is undefined and reported as 0"
    ]
    assert metric.cautions([1.0, 2.0], [[1.0, 2.0]]) == []
    rare = metric.corpus([7.7, 7.7, 7.7, 8.1], [[1.0, 2.0, 3.0, 4.0]], Resampling(200))
    assert np.isfinite([rare.low, rare.high, rare.mean]).all()


def test_systems_are_compared_with_a_baseline():
    rng = np.random.default_rng(3)
    gold = rng.normal(size=200)
    better, worse = gold + 0.3 * rng.normal(size=200), gold + 3 * rng.normal(size=200)
    first, second, same = correlation.Spearman().compare(worse, [better, worse], [gold], Resampling(100))
    assert second.value > first.value and second.p_value < 0.05 and same.p_value == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad):
    for score in (correlation.pearson, correlation.spearman):
        with pytest.raises(NlpcliError, match="finite numbers, but number 2 is"):
            score([1.0, 2.0], [1.0, bad])
    with pytest.raises(NlpcliError, match="whole test set"):
        correlation.Pearson().sentences([1.0], [[1.0]])
