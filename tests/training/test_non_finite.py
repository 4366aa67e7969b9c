"""A step whose loss is not finite or too large stops the run, or is left out; its batch is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import RunFailed
from nlpcli.training import non_finite
from nlpcli.training.checkpoint import Progress
from nlpcli.training.non_finite import MOST_IN_A_ROW, NonFiniteSteps
from nlpcli.training.training_log import read_metrics

NAN = float("nan")


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor
    parts: list[torch.Tensor]
    name: str = "a batch"


GROUP = [Batch(torch.arange(6).view(2, 3), [torch.ones(2), torch.zeros(1)])]


@pytest.fixture
def steps(tmp_path):
    """steps(settings) -> (accepts(step, loss, norm), the progress, the lines of the log, the notes)."""

    def make(**settings):
        notes, lines, progress = [], [], Progress()
        log = SimpleNamespace(write=lambda kind, step, **values: lines.append({"kind": kind, "step": step, **values}))
        guard = NonFiniteSteps(TrainingConfig(**settings), torch.device("cpu"), tmp_path, notes.append)
        guard.log = log

        def accepts(step, loss=1.0, norm=1.0):
            progress.step = step
            return guard.accepts(GROUP, torch.tensor(loss), torch.tensor(norm), progress)

        return accepts, progress, lines, notes

    return make


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (float("inf"), 1.0), (1.0, NAN), (1.0, float("inf"))])
def test_a_step_that_is_not_finite_stops_the_run_and_its_batch_is_kept(steps, tmp_path, loss, norm):
    accepts, *_ = steps()
    assert accepts(1)
    with pytest.raises(RunFailed, match="the loss or the gradient is not finite at step 2") as caught:
        accepts(2, loss, norm)
    place = tmp_path / "non-finite" / "step-00000002.safetensors"
    assert str(place) in caught.value.message and "training.non_finite=skip" in caught.value.hint
    kept = load_file(place)
    assert kept.keys() == {"0.ids", "0.parts.0", "0.parts.1"} and torch.equal(kept["0.ids"], GROUP[0].ids)
    with safe_open(place, "pt") as file:
        assert file.metadata() | {"step": "2", "loss": str(loss), "0.name": '"a batch"'} == file.metadata()


def test_a_loss_above_the_limit_counts_as_one_that_is_not_finite(steps):
    accepts, *_ = steps(max_loss=5.0)
    assert accepts(1, 5.0)
    with pytest.raises(RunFailed, match=r"the loss is above training.max_loss at step 2 \(loss 5.5, "):
        accepts(2, 5.5)


def test_skipped_steps_are_counted_and_logged_as_json(steps):
    accepts, progress, lines, notes = steps(non_finite="skip")
    assert [accepts(1), accepts(2, NAN), accepts(3, 2.0, NAN), accepts(4)] == [True, False, False, True]
    assert (progress.skipped, progress.skipped_in_a_row) == (2, 0)
    assert [line["step"] for line in lines] == [2, 3] and json.loads(json.dumps(lines[1], allow_nan=False)) == {
        "kind": "skipped", "step": 3, "epoch": 0, "loss": 2.0, "grad_norm": "nan",
        "batch": "non-finite/step-00000003.safetensors",
    }  # fmt: skip
    assert "2 steps so far" in notes[-1]


def test_too_many_skipped_steps_in_a_row_stop_the_run(steps, tmp_path):
    accepts, *_ = steps(non_finite="skip")
    for step in range(1, MOST_IN_A_ROW):
        assert not accepts(step, NAN)
    assert accepts(MOST_IN_A_ROW)
    for step in range(101, 100 + MOST_IN_A_ROW):
        assert not accepts(step, NAN)
    with pytest.raises(RunFailed, match=f"{MOST_IN_A_ROW} steps in a row were skipped"):
        accepts(200, NAN)
    assert len(list((tmp_path / "non-finite").iterdir())) == 10  # and no more, of all that were skipped


@pytest.fixture
def bad_gradient(monkeypatch):
    """bad_gradient(n): the n-th step of the process has a gradient that is not a number."""

    def at(number):
        plain, calls = torch.nn.utils.clip_grad_norm_, []

        def clip(parameters, *arguments, **more):
            calls.append(1)
            parameters = list(parameters)
            if len(calls) == number:
                parameters[0].grad.fill_(NAN)
            return plain(parameters, *arguments, **more)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)

    return at


def test_a_run_goes_on_without_a_step_that_is_not_finite(run_clm, bad_gradient):
    bad_gradient(7)
    run, outcome = run_clm("run", None, "training.non_finite=skip", "training.log_every=5", "training.max_steps=10")
    assert (outcome.progress.step, outcome.progress.skipped) == (10, 1)
    assert all(tensor.isfinite().all() for tensor in load_file(run / "model.safetensors").values())
    lines = [(line["kind"], line["step"]) for line in read_metrics(run) if line["kind"] != "dev"]
    assert lines == [("train", 5), ("skipped", 7), ("train", 10)]
    assert (run / "non-finite" / "step-00000007.safetensors").exists()


def test_a_run_stops_at_the_very_step_that_is_not_finite_and_can_skip_it_when_it_is_resumed(run_clm, bad_gradient):
    bad_gradient(7)
    settings = ("training.save_every=5", "training.log_every=50", "training.max_steps=10")
    with pytest.raises(RunFailed, match="not finite at step 7"):
        run_clm("run", None, *settings)
    bad_gradient(2)  # the same step again
    _, outcome = run_clm("run", None, *settings, "training.non_finite=skip", resume=True)
    assert (outcome.progress.step, outcome.progress.skipped) == (10, 1)


def test_a_gpu_that_stops_looks_at_a_step_after_the_next_one_and_never_waits(tmp_path, monkeypatch):
    ready = []
    event = SimpleNamespace(synchronize=lambda: ready.append(1))
    monkeypatch.setattr(non_finite, "_sent", lambda values: (values, event))
    guard = NonFiniteSteps(TrainingConfig(), torch.device("cuda"), tmp_path, print)
    guard.log = SimpleNamespace()

    def accepts(step, loss):
        return guard.accepts(GROUP, torch.tensor(loss), torch.tensor(1.0), Progress(step=step))

    assert accepts(1, 1.0) and not ready
    assert accepts(2, NAN)
    with pytest.raises(RunFailed, match="not finite at step 2"):
        accepts(3, 1.0)
    assert accepts(4, NAN)
    with pytest.raises(RunFailed, match="not finite at step 4"):
        guard.check_pending(Progress(step=4))
    guard.check_pending(Progress(step=4))  # nothing is left to look at
