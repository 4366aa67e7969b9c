"""The loss of a target after its source, with one pass of the model and with two."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.objectives.source_target_batches import pair_batch
from nlpcli.objectives.source_target_loss import pair_loss, pair_states
from nlpcli.text import SpecialTokens

BATCH = pair_batch([([4, 5], [6, 7, 8, 4]), ([5], [7])], SpecialTokens(pad=0, bos=1, eos=2, unk=3), [1])
SIZES = {"d_model": 8, "heads": 2, "d_ff": 8, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.4}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return build_model(SIZES, 9).train()


def test_r_drop_adds_the_divergence_of_two_passes_with_other_dropout(model):
    torch.manual_seed(5)
    loss = pair_loss(model, BATCH, LossSettings(label_smoothing=0.1, r_drop=5.0))
    loss.total.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    torch.manual_seed(5)
    logits = [pair_states(model, BATCH) @ model.output_weight.t() for _ in range(2)]
    p, q = (scores.log_softmax(-1) for scores in logits)
    assert float((p - q).detach().abs().max()) > 0.01
    nll = sum(F.cross_entropy(scores, BATCH.labels, reduction="sum", label_smoothing=0.1) for scores in logits)
    divergence = ((p.exp() - q.exp()) * (p - q)).sum()  # of P from Q and of Q from P
    expected = (nll + 5 / 2 * divergence) / 2
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == BATCH.labels.numel()
    expected.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_r_drop_counts_in_training_alone(model):
    model.eval()
    plain, measured = (pair_loss(model, BATCH, LossSettings(r_drop=alpha)) for alpha in (0.0, 5.0))
    assert measured.total == measured.nll == plain.total
