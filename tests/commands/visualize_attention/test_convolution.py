"""`--convolution`: a convolution beside the attention of the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nlpcli.commands.visualize_attention.convolution import ALPHAS, compare_convolution
from nlpcli.errors import NlpcliError


@pytest.mark.parametrize(("kernel", "shifts"), [("3", [(-1,), (0,), (1,)]), ("1x3", [(0, -1), (0, 0), (0, 1)])])
def test_there_is_a_head_for_each_shift_of_the_kernel(kernel, shifts):
    comparison = compare_convolution(kernel)
    assert list(comparison.shifts) == shifts
    assert [level.alpha for level in comparison.levels] == list(ALPHAS)
    assert comparison.levels[-1].error < 1e-4 < comparison.levels[0].error


def test_the_window_of_a_head_is_the_softmax_of_its_scores_around_the_query():
    comparison = compare_convolution("3x3")
    assert comparison.window == (5, 5)
    level = comparison.levels[4]
    steps = np.arange(-2, 3)
    for shift, weights in zip(comparison.shifts, level.weights, strict=True):
        squares = (steps[:, None] - shift[0]) ** 2 + (steps[None, :] - shift[1]) ** 2
        wanted = np.exp(-level.alpha * squares)
        np.testing.assert_allclose(weights / weights.max(), wanted / wanted.max(), atol=1e-12)


def test_the_seed_chooses_the_convolution_and_leaves_other_random_numbers_alone():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    errors = [[level.error for level in compare_convolution("3", seed=seed).levels] for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), before)
    assert errors[0] == errors[1] != errors[2]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("2", "--convolution 2 is not possible: a kernel must be odd in size and at most 5"),
        ("7", "--convolution 7 is not possible"),
        ("0", "--convolution 0 is not possible"),
        ("3x4", "--convolution 3x4 is not possible"),
        ("3x3x3", "--convolution needs the size of a kernel, but '3x3x3' is none"),
        ("big", "--convolution needs the size of a kernel, but 'big' is none"),
        ("-3", "--convolution needs the size of a kernel, but '-3' is none"),
        ("9" * 30, "--convolution needs the size of a kernel"),
    ],
)
def test_a_size_that_is_none_is_refused(kernel, message):
    with pytest.raises(NlpcliError) as refused:
        compare_convolution(kernel)
    assert refused.value.message.startswith(message)
