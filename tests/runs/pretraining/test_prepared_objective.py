from __future__ import annotations

import pytest
import torch

from nlpcli.objectives.objective import Loss
from nlpcli.runs.pretraining.prepared_objective import tallied


def loss(nll, count, **tallies):
    return Loss(torch.tensor(nll), torch.tensor(nll), count, tallies)


def test_means_are_taken_over_all_parts_of_the_held_out_text():
    losses = [loss(3.0, 2, accuracy=(30, 40)), loss(6.0, 4, accuracy=(0, 10))]
    assert tallied(losses) == {"loss": 1.5, "accuracy": 60.0}
    assert tallied(losses, {}) == tallied(losses)


def test_shares_are_in_percent_and_losses_in_nats():
    losses = [loss(3.0, 2, mlm_accuracy=(1, 4), mlm_baseline=(1, 8), kept=(3, 4), gap_loss=(6.0, 4))]
    found = tallied(losses)
    assert found == {"loss": 1.5, "mlm_accuracy": 25.0, "mlm_baseline": 12.5, "kept": 75.0, "gap_loss": 1.5}


def test_the_loss_of_a_sum_is_the_weighted_sum_of_its_parts_means():
    losses = [loss(3.0, 2, mlm_loss=(3.0, 2), nsp_loss=(1.0, 1)), loss(5.0, 2, mlm_loss=(5.0, 2), nsp_loss=(2.0, 4))]
    found = tallied(losses, {"mlm": 1.0, "nsp": 0.5})
    assert found == pytest.approx({"loss": 2.0 + 0.5 * 0.6, "mlm_loss": 2.0, "nsp_loss": 0.6})
