from __future__ import annotations

import numpy as np
import pytest

from nlpcli.config.counting import counted


@pytest.mark.parametrize("number, thing, shown", [
    (0, "step", "0 steps"), (1, "step", "1 step"), (2, "step", "2 steps"), (12345, "token", "12,345 tokens"),
    (1.0, "epoch", "1 epoch"), (0.5, "minute", "0.5 minutes"),
    (np.int64(1), "step", "1 step"), (np.int64(12345678), "token", "12,345,678 tokens"),
])  # fmt: skip
def test_one_thing_is_singular_and_any_other_number_plural(number, thing, shown):
    assert counted(number, thing) == shown


def test_a_plural_of_its_own_can_be_given():
    assert counted(2, "axis", "axes") == "2 axes" and counted(1, "axis", "axes") == "1 axis"
