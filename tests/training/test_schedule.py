from __future__ import annotations

import math

import pytest

from nlpcli.config.schema import TrainingConfig
from nlpcli.training.schedule import learning_rate


def rates(steps, total, **settings):
    config = TrainingConfig(**settings)
    return [learning_rate(config, step, step / total, d_model=512) for step in steps]


def test_noam_is_the_formula_of_the_paper():
    for step in (1, 100, 4000, 4001, 90000):
        paper = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        (ours,) = rates([step], 100000, schedule="noam", lr=1.0, warmup_steps=4000)
        assert ours == pytest.approx(paper, rel=1e-12)


@pytest.mark.parametrize("schedule", ["inverse-sqrt", "linear", "cosine", "wsd", "constant"])
def test_every_schedule_rises_to_its_peak_and_never_above(schedule):
    values = rates(range(1, 1001), 1000, schedule=schedule, lr=0.01, warmup_steps=100, min_lr=0.0)
    top = values.index(max(values))
    assert 85 <= top <= 100 and 0.0089 < values[top] <= 0.01 + 1e-12
    assert values[:top] == sorted(values[:top])
    assert values[top:] == sorted(values[top:], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_falling_schedules_end_at_the_least_rate(schedule):
    assert rates([1000], 1000, schedule=schedule, lr=0.01, min_lr=0.001)[0] == pytest.approx(0.001)


def test_warmup_stable_decay_is_flat_until_its_last_share():
    values = rates(range(1, 1001), 1000, schedule="wsd", lr=0.01, warmup_steps=10, decay_fraction=0.2)
    assert values[9:800] == pytest.approx([0.01] * 791)
    assert values[899] == pytest.approx(0.005)


def test_cosine_is_half_way_down_in_the_middle():
    assert rates([500], 1000, schedule="cosine", lr=0.01, warmup_steps=1)[0] == pytest.approx(0.005)


def test_inverse_square_root_halves_when_the_steps_are_fourfold():
    first, second = rates([400, 1600], 10000, schedule="inverse-sqrt", lr=0.01, warmup_steps=100)
    assert second == pytest.approx(first / 2)
    assert math.isclose(first, 0.005)


def test_a_share_of_the_run_that_warms_up_ends_at_the_peak_from_where_the_rate_falls_to_the_end():
    values = rates(range(1, 1001), 1000, schedule="linear", lr=0.01, warmup_steps=0, warmup_fraction=0.1)
    assert values[99] == pytest.approx(0.01) and values[49] == pytest.approx(0.005)
    assert values[549] == pytest.approx(0.005) and values[999] == pytest.approx(0.0)
