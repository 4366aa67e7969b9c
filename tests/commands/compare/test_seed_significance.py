from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from nlpcli.commands.compare.seed_significance import corrected, welch_p_value


def test_the_p_value_is_that_of_welchs_formula():
    first, second = (3.0, 4.5, 5.0, 4.0), (6.0, 5.5, 7.5)
    parts = [statistics.variance(sample) / len(sample) for sample in (first, second)]
    t = (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(s) - 1) for part, s in zip(parts, (first, second), strict=True))
    assert welch_p_value(first, second) == pytest.approx(2 * stats.t.sf(abs(t), freedom))


def test_samples_without_variation_are_not_tested():
    assert math.isnan(welch_p_value((1.0, 1.0), (2.0, 2.0)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_correction_is_holms(p_values):
    assert corrected(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
