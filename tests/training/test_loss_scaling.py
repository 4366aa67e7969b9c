"""Training in float16 with a loss scale, on a CPU, which computes it for tests."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.errors import RunFailed
from nlpcli.training import device, loss_scaling
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import read_metrics

SCALER = torch.amp.GradScaler
HALF = ("training.precision=float16",)


@pytest.fixture
def on_cpu(monkeypatch):
    """float16 is let through on a CPU."""
    monkeypatch.setattr(device, "check_precision", lambda *_: None)
    from nlpcli.runs import resolve_settings

    monkeypatch.setattr(resolve_settings, "_check_device", lambda *_: None)


@pytest.fixture
def first_scale(monkeypatch):
    """first_scale(x): runs begin with the loss scale x."""

    def begin(scale):
        monkeypatch.setattr(loss_scaling.torch.amp, "GradScaler", lambda kind: SCALER(kind, init_scale=scale))

    return begin


def losses(run):
    return [line["loss"] for line in read_metrics(run) if line["kind"] == "train"]


def weights(run):
    return load_file(checkpoints(run)[-1] / "model.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_float16_learns_as_float32_does(run_clm, on_cpu, optimizer):
    settings = (f"training.optimizer={optimizer}", "training.max_steps=20", "model.dropout=0.0")
    single, _ = run_clm("single", None, *settings)
    half, outcome = run_clm("half", None, *settings, *HALF)
    assert losses(half) == pytest.approx(losses(single), rel=0.02)
    assert losses(half) != losses(single) and outcome.progress.loss_scale == 65536.0


def test_a_resumed_run_has_the_scale_and_ends_with_the_very_weights(run_clm, quiet, on_cpu, first_scale):
    first_scale(2.0**40)  # which overflows, and is halved until it does not
    whole, outcome = run_clm("whole", None, *HALF)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=5), *HALF)
    first_scale(1.0)
    run, resumed = run_clm("broken", None, resume=True)
    assert resumed.progress.loss_scale == outcome.progress.loss_scale < 2.0**40
    assert resumed.progress.loss_scale_steps == outcome.progress.loss_scale_steps > 0
    left, right = weights(whole), weights(run)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_step_that_overflows_changes_no_weights_and_halves_the_scale(run_clm, on_cpu, first_scale):
    first_scale(2.0**60)
    run, outcome = run_clm("run", None, *HALF, "training.max_steps=3", "training.save_every=1", "training.samples=0",
                           "training.keep_checkpoints=9")  # fmt: skip
    before, *_, after = (load_file(path / "model.safetensors") for path in checkpoints(run))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert outcome.progress.loss_scale == 2.0**57 and outcome.progress.step == 3 and outcome.progress.skipped == 0


def test_without_a_scale_small_gradients_are_lost(run_clm, on_cpu, first_scale):
    """The scale is what makes float16 train: with one that underflows, attention learns otherwise."""
    first_scale(2.0**-24)
    run, _ = run_clm("run", None, *HALF, "training.max_steps=20", "model.dropout=0.0")
    good, _ = run_clm("good", None, "training.max_steps=20", "model.dropout=0.0")
    assert losses(run) != pytest.approx(losses(good), rel=0.02)


def test_a_gradient_that_overflows_without_a_scale_ends_the_run(run_clm, on_cpu, first_scale, monkeypatch):
    first_scale(1.0)
    plain = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a, **k: plain(*a, **k) * math.inf)
    with pytest.raises(RunFailed, match="not finite at step"):
        run_clm("run", None, *HALF)
