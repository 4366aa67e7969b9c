"""Linear attention: the sums that it keeps. Its laws are those of all kinds (tests/contract/)."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.linear import prefix_sums


@pytest.mark.parametrize("count", [1, 2, 5])
def test_prefix_sums_are_those_of_cumsum_and_so_are_their_gradients(count):
    first = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    parts = torch.randn(2, 3, count, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.cat((first[:, :, None], parts), dim=2).cumsum(2)
    assert torch.allclose(prefix_sums(first, parts), expected)
    assert torch.autograd.gradcheck(prefix_sums, (first, parts))
