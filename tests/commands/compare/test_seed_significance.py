from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nlpcli.commands.compare.seed_significance import corrected, welch_p_value


def test_the_p_value_is_that_of_welchs_formula():
    first, second = (3.0, 4.5, 5.0, 4.0), (6.0, 5.5, 7.5)
    parts = [statistics.variance(sample) / len(sample) for sample in (first, second)]
    t = (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(s) - 1) for part, s in zip(parts, (first, second), strict=True))
    assert welch_p_value(first, second) == pytest.approx(2 * stats.t.sf(abs(t), freedom))


def test_samples_without_variation_are_not_tested():
    assert math.isnan(welch_p_value((1.0, 1.0), (2.0, 2.0)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_the_correction_is_holms(p_values):
    """A hypothesis is rejected where Bonferroni's test rejects each intersection of hypotheses that contains it."""
    wanted = [0.0] * len(p_values)
    for size in range(1, len(p_values) + 1):
        for places in itertools.combinations(range(len(p_values)), size):
            whole = min(1.0, size * min(p_values[place] for place in places))
            for place in places:
                wanted[place] = max(wanted[place], whole)
    assert corrected(p_values) == pytest.approx(wanted)


def test_the_correction_gives_p_values_worked_by_hand():
    assert corrected([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert corrected([0.04, 0.9, 0.005, 0.6]) == pytest.approx([0.12, 1.0, 0.02, 1.0])
