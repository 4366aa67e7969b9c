"""A batch that several processes divide has the loss and the gradients of the whole one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from nlpcli.training import training_loop

PARTS = 3


class Done(Exception):
    """The comparison is made, so that no training is needed."""


def added(trainer, batches):
    """The sum of the total losses of batches, and of their gradients."""
    carry, parts, total = None, [], 0.0
    trainer.model.zero_grad()
    for batch in batches:
        loss, carry = trainer.task.loss(trainer.model, batch, carry if len(batches) == 1 else None)
        loss.total.backward()
        total += float(loss.total.detach())
        parts.append(loss)
    grads = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return total, sum(float(loss.nll) for loss in parts), {name: grad.clone() for name, grad in grads.items()}


def compare(trainer):
    task = trainer.task
    batch = task.collate(task.plan(0)[0], np.random.default_rng(1))
    if not getattr(task, "divisible", True):
        pytest.skip("its loss is one of the whole batch")
    trainer.model.train()
    for module in trainer.model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    borders = [batch.size * part // PARTS for part in range(PARTS + 1)]
    parts = [batch.part(*ends) for ends in pairwise(borders) if ends[0] < ends[1]]
    assert len(parts) > 1
    total, nll, grads = added(trainer, [batch])
    total_of_parts, nll_of_parts, grads_of_parts = added(trainer, parts)
    assert total_of_parts == pytest.approx(total, rel=1e-4)
    assert nll_of_parts == pytest.approx(nll, rel=1e-4)
    assert grads.keys() == grads_of_parts.keys()
    size = torch.sqrt(sum(grad.square().sum() for grad in grads.values()))
    for name, grad in grads.items():
        assert (grad - grads_of_parts[name]).abs().max() <= 1e-4 * size + 1e-6, name
    raise Done


@pytest.mark.cases("all")
def test_the_parts_of_a_batch_have_its_loss(case, train, monkeypatch, tmp_path):
    monkeypatch.setattr(training_loop.Trainer, "fit", lambda trainer, **_: compare(trainer))
    with pytest.raises(Done):
        train(case, tmp_path / "run")
