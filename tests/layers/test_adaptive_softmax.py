from __future__ import annotations

import pytest
import torch

from nlpcli.errors import NlpcliError
from nlpcli.layers.adaptive_softmax import AdaptiveSoftmax


def test_probabilities_of_the_whole_vocabulary_sum_to_one_and_give_the_loss():
    torch.manual_seed(1)
    softmax = AdaptiveSoftmax(16, 50, [10, 30])
    hidden, target = torch.randn(2, 6, 16), torch.randint(0, 50, (2, 6))
    logs = softmax.log_probabilities(hidden)
    assert logs.shape == (2, 6, 50)
    assert torch.allclose(logs.exp().sum(-1), torch.ones(2, 6), atol=1e-5)
    loss = softmax.loss(hidden.flatten(0, 1), target.flatten())
    assert torch.allclose(loss, -logs.gather(-1, target[..., None]).sum(), atol=1e-4)


def test_groups_of_rare_tokens_take_fewer_parameters_than_the_full_matrix():
    assert sum(p.numel() for p in AdaptiveSoftmax(64, 10_000, [500, 2000]).parameters()) < 64 * 10_000 / 4


@pytest.mark.parametrize("cutoffs", [[0], [50], [30, 20], [60]])
def test_cutoffs_that_do_not_rise_inside_the_vocabulary_are_refused(cutoffs):
    with pytest.raises(NlpcliError, match="must rise"):
        AdaptiveSoftmax(16, 50, cutoffs)
