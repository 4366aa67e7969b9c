"""How the items of a task come in batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nlpcli.tasks.supervised_objective import SupervisedObjective

SIZES = np.random.default_rng(1).integers(1, 100, 1000)


def batches(**settings):
    return SupervisedObjective(None, [SimpleNamespace(size=int(size)) for size in SIZES], **settings).plan(0)


@pytest.mark.parametrize("batch_size", [10, None])
def test_batches_are_of_like_length_or_random(batch_size):
    spreads = {}
    for like_length in (True, False):
        plan = batches(batch_size=batch_size, batch_tokens=1000, like_length=like_length)
        assert sorted(np.concatenate(plan).tolist()) == list(range(1000))
        spreads[like_length] = np.mean([np.ptp(SIZES[batch]) for batch in plan])
    assert spreads[True] < 10 and spreads[False] > 50
