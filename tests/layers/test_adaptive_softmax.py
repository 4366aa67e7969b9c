from __future__ import annotations

import pytest
import torch

from nlpcli.errors import NlpcliError
from nlpcli.layers.adaptive_softmax import AdaptiveSoftmax


def parts(bias, cutoffs=(10, 30)):
    torch.manual_seed(1)
    softmax = AdaptiveSoftmax(16, 50, cutoffs).double()
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    return softmax, weight, torch.randn(50, dtype=torch.float64, requires_grad=True) if bias else None


@pytest.mark.parametrize("bias", [False, True])
def test_probabilities_are_those_of_the_head_times_those_inside_the_group(bias):
    softmax, weight, bias = parts(bias)
    hidden = torch.randn(2, 6, 16, dtype=torch.float64)
    logs = softmax.log_probabilities(hidden, weight, bias)
    assert logs.shape == (2, 6, 50)
    assert torch.allclose(logs.exp().sum(-1), torch.ones(2, 6, dtype=torch.float64))
    logits = hidden @ weight.T + (0 if bias is None else bias)
    groups = hidden @ softmax.group_weight.T + softmax.group_bias
    head = torch.cat((logits[..., :10], groups), -1).softmax(-1)
    assert torch.allclose(logs[..., 3].exp(), head[..., 3])
    assert torch.allclose(logs[..., 35].exp(), head[..., 11] * logits[..., 30:].softmax(-1)[..., 5])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("high", [50, 10])
def test_the_loss_is_that_of_these_probabilities_with_its_gradients(bias, high):
    softmax, weight, bias = parts(bias)
    hidden = torch.randn(12, 16, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, high, (12,), generator=torch.Generator().manual_seed(2))
    total, nll = softmax.loss(hidden, weight, target, bias)
    wanted = -softmax.log_probabilities(hidden, weight, bias).gather(-1, target[:, None]).sum()
    assert torch.allclose(total, wanted) and torch.allclose(nll, wanted)
    each = -softmax.log_probabilities(hidden, weight, bias).gather(-1, target[:, None]).squeeze(1)
    assert torch.allclose(softmax.nll(hidden, weight, target, bias), each)
    learnt = [hidden, weight, softmax.group_weight, softmax.group_bias, *([] if bias is None else [bias])]
    found, slopes = torch.autograd.grad(total, learnt), torch.autograd.grad(wanted, learnt)
    assert all(torch.allclose(left, right) for left, right in zip(found, slopes, strict=True))


@pytest.mark.parametrize("cutoffs", [[0], [50], [30, 20], [60]])
def test_cutoffs_that_do_not_rise_inside_the_vocabulary_are_refused(cutoffs):
    with pytest.raises(NlpcliError, match="must increase and be between"):
        AdaptiveSoftmax(16, 50, cutoffs)
