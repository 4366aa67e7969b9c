"""The loss of predicted tokens, from hidden states, for every objective and task."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import nlpcli
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.objectives import token_loss as module
from nlpcli.objectives.token_loss import best_tokens, token_loss, token_nll

SMALL = {"d_model": 8, "heads": 2, "d_ff": 8, "decoder_layers": 1, "kind": "decoder", "output_bias": True}


@pytest.fixture
def predicted():
    """A model, hidden states and labels."""
    torch.manual_seed(4)
    model = build_model(SMALL, 40)
    torch.nn.init.normal_(model.output_bias)
    return model, torch.randn(30, 8), torch.randint(40, (30,))


def test_settings_count_in_training_only_and_never_in_the_likelihood(predicted):
    model, states, labels = predicted
    settings = LossSettings(label_smoothing=0.1)
    logits = F.linear(states, model.output_weight, model.output_bias)
    nll = F.cross_entropy(logits, labels, reduction="sum")
    smooth = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=0.1)
    found = token_loss(model.train(), states, labels, settings)
    torch.testing.assert_close(found.total, smooth)
    torch.testing.assert_close(found.nll, nll)
    found = token_loss(model.eval(), states, labels, settings)
    torch.testing.assert_close(found.total, nll)
    torch.testing.assert_close(token_nll(model, states, labels).sum(), nll)
    assert found.count == 30


@pytest.mark.parametrize("name", [setting.name for setting in fields(LossSettings)])
def test_an_adaptive_softmax_refuses_settings_that_it_does_not_support(predicted, name):
    shape = {"family": "transformer-xl", "adaptive_cutoffs": [10], "d_model": 8, "heads": 2, "d_ff": 8}
    model = build_model({**shape, "kind": "decoder", "decoder_layers": 1}, 40).train()
    with pytest.raises(NlpcliError, match=f"an adaptive softmax does not support {name.replace('_', ' ')}") as caught:
        token_loss(model, *predicted[1:], LossSettings(**{name: 0.1}))
    assert caught.value.hint == f"set training.{name}=0"


def test_each_loss_setting_is_a_setting_of_training_with_the_same_default():
    training = TrainingConfig()
    assert LossSettings.of(training) == LossSettings()
    for setting in fields(LossSettings):
        changed = training.model_copy(update={setting.name: 0.25})
        assert LossSettings.of(changed).chosen() == [setting.name]


def test_nothing_else_computes_a_loss_over_the_vocabulary():
    """The gradient of alignments in `decoding` is no training."""
    root = Path(nlpcli.__file__).parent
    callers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"(?<!def )\bvocabulary_loss\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"objectives/token_loss.py", "layers/adaptive_softmax.py", "decoding/cross_attention.py"}


@pytest.mark.parametrize("count", [0, 1, 100])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_best_tokens_are_those_of_the_logits(count, with_bias, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 50)  # many chunks
    generator = torch.Generator().manual_seed(1)
    states, weight = torch.randn(count, 8, generator=generator), torch.randn(40, 8, generator=generator)
    bias = torch.randn(40, generator=generator) if with_bias else None
    assert torch.equal(best_tokens(states, weight, bias), torch.nn.functional.linear(states, weight, bias).argmax(-1))
