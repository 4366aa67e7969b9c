from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.significance import _compute_p_value, estimate_ci

from nlpcli.evaluation import Resampling, bootstrap


def test_sums_are_those_of_drawing_one_resample_after_the_other():
    counts = np.arange(30).reshape(10, 3)
    [sums] = bootstrap.resampled_sums([counts], Resampling(20, 4))
    rng = np.random.default_rng(4)
    drawn = rng.choice(10, size=(20, 10), replace=True)
    assert sums.tolist() == [counts[row].sum(axis=0).tolist() for row in drawn]


def test_the_memory_bound_changes_no_draw(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 9, size=(50, 4))
    [whole] = bootstrap.resampled_sums([counts], Resampling(100, 1))
    monkeypatch.setattr(bootstrap, "_CELLS", 450)
    [pieces] = bootstrap.resampled_sums([counts], Resampling(100, 1))
    assert np.array_equal(whole, pieces)


def test_all_systems_get_the_same_draws():
    counts = np.random.default_rng(0).integers(0, 9, size=(50, 4))
    first, second = bootstrap.resampled_sums([counts, 2 * counts], Resampling(30))
    assert np.array_equal(2 * first, second)


@pytest.mark.parametrize("samples", [2, 39, 40, 1000])
def test_interval_and_p_value_are_cut_as_sacrebleu_cuts_them(samples):
    rng = np.random.default_rng(samples)
    system, baseline = rng.normal(10, 1, samples), rng.normal(9, 1, samples)
    low, high, mean = bootstrap.interval(system)
    assert (mean, (high - low) / 2) == pytest.approx(estimate_ci(system))
    spread = np.abs(system - baseline)
    assert bootstrap.paired_p_value(system, baseline, 0.8) == _compute_p_value(spread - spread.mean(), 0.8)
    assert bootstrap.paired_p_value(system, system, 0.0) == 1.0


def test_the_interval_covers_the_truth_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        errors = rng.binomial(10, 0.3, size=100)
        [sums] = bootstrap.resampled_sums([errors[:, None]], Resampling(400, trial))
        low, high, _ = bootstrap.interval(sums[:, 0] / 1000)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 198
