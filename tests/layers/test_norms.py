"""RMSNorm against its equation, in both precisions."""

from __future__ import annotations

import warnings

import pytest
import torch

from nlpcli.errors import NlpcliError
from nlpcli.layers.norms import RMSNorm, make_norm


def test_it_divides_by_the_root_of_the_mean_square():
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    norm = RMSNorm(8, eps=1e-6).double()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(8))
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    assert torch.allclose(norm(x), expected, atol=1e-12)


def test_in_bfloat16_it_stays_on_the_fused_kernel_and_near_the_exact_numbers():
    x, norm = torch.randn(64, 32), RMSNorm(32, eps=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = norm(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), norm(x), atol=0.03)


def test_an_unknown_norm_is_refused():
    with pytest.raises(NlpcliError, match="layernrom"):
        make_norm("layernrom", 8)
