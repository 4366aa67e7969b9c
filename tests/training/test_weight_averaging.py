"""Averages of weights against loops and PyTorch's averaged SGD."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nlpcli.config.schema import TrainingConfig
from nlpcli.training.checkpoint import Progress, checkpoints, load_yaml
from nlpcli.training.optimizer import make_optimizer
from nlpcli.training.weight_averaging import TriggeredAverage

SETTINGS = TrainingConfig(optimizer="asgd", lr=0.1, weight_decay=0.01)
ASGD = ("training.optimizer=asgd", "training.lr=2", "training.schedule=constant", "training.max_grad_norm=0.25")


def model():
    torch.manual_seed(0)
    return nn.Linear(4, 3, bias=False)


def train(net, optimizer, steps, after=lambda step: None):
    inputs = torch.randn(steps, 5, 4, generator=torch.Generator().manual_seed(1))
    for step, x in enumerate(inputs, 1):
        net(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        after(step)


def test_weights_averaged_from_a_step_on_are_those_of_pytorchs_asgd():
    theirs = model()
    # PyTorch's mean begins with the step after t0 + 1, and the steps up to it move the weights alone
    optimizer = torch.optim.ASGD(theirs.parameters(), lr=0.1, lambd=0, t0=10, weight_decay=0.01)
    train(theirs, optimizer, 30)
    ours, progress = model(), Progress(averaged_from=12)
    average = TriggeredAverage(ours, 5)

    def after(step):
        progress.step = step
        average.update(progress)

    train(ours, make_optimizer(ours, SETTINGS), 30, after)
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-7)
    [mean] = average.weights.values()
    assert torch.allclose(mean, optimizer.state[theirs.weight]["ax"], atol=1e-6)
    with average.applied():
        assert torch.equal(ours.weight, mean.clone()) or torch.allclose(
            ours.weight, optimizer.state[theirs.weight]["ax"]
        )
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-7)


@pytest.mark.parametrize(
    ("metric", "values", "triggered"),
    [
        ("loss", [5, 4, 3, 2, 1, 0.5], None),
        ("loss", [5, 4, 3, 3.5, 3.6, 3.7], 6),  # the first that is worse than the best of all but the last two, 3
        ("loss", [5, 4, 4.5, 4.4, 4.3, 2], 5),
        ("accuracy", [1, 2, 3, 2.5, 2.6, 2.7], 6),
        ("loss", [3, 3, 3, 3], None),
        ("loss", [3, 9], None),
    ],
)
def test_the_average_begins_after_an_evaluation_that_is_worse_than_the_best_of_all_but_the_last_ones(
    metric, values, triggered
):
    average, progress = TriggeredAverage(model(), 2), Progress()
    found = []
    for number, value in enumerate(values, 1):
        progress.step = 10 * number
        if average.evaluated(progress, metric, {metric: value}):
            found.append(number)
            assert progress.averaged_from == 10 * number + 1 and not average.is_running(progress)
    assert found == ([] if triggered is None else [triggered]) and progress.history == values
    progress.step += 1
    assert average.is_running(progress) == (triggered is not None)


def test_without_an_interval_all_weights_are_averaged():
    net, progress = model(), Progress()
    average, seen = TriggeredAverage(net, 0), []

    def after(step):
        progress.step = step
        average.update(progress)
        seen.append(net.weight.detach().clone())

    train(net, make_optimizer(net, SETTINGS), 7, after)
    assert progress.averaged_from == 1 and average.is_running(progress)
    [mean] = average.weights.values()
    assert torch.allclose(mean, torch.stack(seen).mean(dim=0), atol=1e-6)


def test_sgd_is_that_of_pytorch_with_decay_of_matrices_alone():
    net = nn.Linear(4, 3)
    optimizer = make_optimizer(net, SETTINGS.model_copy(update={"optimizer": "sgd"}))
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    net(torch.ones(2, 4)).square().sum().backward()
    slopes = {name: weight.grad.clone() for name, weight in net.named_parameters()}
    optimizer.step()
    assert torch.allclose(net.weight, before["weight"] - 0.1 * (slopes["weight"] + 0.01 * before["weight"]))
    assert torch.allclose(net.bias, before["bias"] - 0.1 * slopes["bias"])


@pytest.mark.parametrize("interval", [0, 1])
def test_an_interrupted_run_with_averaged_weights_ends_with_the_same_bits(run_clm, quiet, interval):
    settings = (*ASGD, f"training.nonmonotone_interval={interval}", "training.evaluate_every=4", "training.lr=20")
    whole, outcome = run_clm("whole", listener := quiet(), *settings)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=31), *settings)
    kept = checkpoints(whole.parent / "broken")[-1]
    began = load_yaml(kept / "state.yaml")["progress"]["averaged_from"]
    assert (kept / "average.safetensors").exists() == (0 < began <= 31)
    broken, again = run_clm("broken", quiet(), resume=True)
    assert again.progress.step == 40 and again.progress.averaged_from == outcome.progress.averaged_from
    assert again.progress.history == outcome.progress.history and len(outcome.progress.history) == 10
    left, right = (load_file(run / "model.safetensors") for run in (whole, broken))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    if interval == 0:
        assert outcome.progress.averaged_from == 1
    if interval == 1:
        assert outcome.progress.averaged_from % 4 == 1
        assert any("on, the weights are averaged" in note for note in listener.notes)


def test_two_running_averages_are_refused():
    with pytest.raises(ValueError, match="averages the weights itself, so ema_decay must be 0"):
        TrainingConfig(optimizer="asgd", ema_decay=0.9)
