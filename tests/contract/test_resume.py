"""A run that is stopped and resumed is the run that was never stopped, whatever is trained."""

from __future__ import annotations

import pytest
import torch

from nlpcli.config.model_settings import FAMILIES
from nlpcli.runs.pretraining import OBJECTIVES, parse
from nlpcli.tasks import TASKS
from nlpcli.training import save_and_resume
from nlpcli.training.checkpoint import load_checkpoint
from nlpcli.training.training_log import read_metrics


def test_a_stopped_and_resumed_run_leaves_what_an_unbroken_one_leaves(case, whole, stopped, train, differing):
    assert len(read_metrics(stopped)) < len(read_metrics(whole))
    train(case, stopped, resume=True)
    assert differing(whole, stopped) == []


# --- and this would be noticed ------------------------------------------------------------------------------------


def rounded_weights(model, optimizer, progress):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())


def new_optimizer(model, optimizer, progress):
    for part in getattr(optimizer, "parts", [optimizer]):  # of Muon and AdamW together
        part.state.clear()


def other_random_numbers(model, optimizer, progress):
    torch.manual_seed(0)


def another_batch(model, optimizer, progress):
    progress.position += 1


def another_epoch(model, optimizer, progress):
    progress.epoch += 1


@pytest.fixture
def resume_with(train, monkeypatch):
    """resume_with(fault, case, run, …): goes on with a run of which something is not as it was."""

    def resumed(fault, case, run, *, memory=True):
        def loaded(run, *, model, optimizer, average):
            progress, carry = load_checkpoint(run, model=model, optimizer=optimizer, average=average)
            if fault is not None:
                fault(model, optimizer, progress)
            return progress, carry if memory else None

        monkeypatch.setattr(save_and_resume, "load_checkpoint", loaded)
        train(case, run, resume=True)

    return resumed


def test_another_batch_after_a_resumption_would_be_noticed(case, whole, stopped, resume_with, differing):
    resume_with(another_batch, case, stopped)
    assert "log" in differing(whole, stopped)


@pytest.mark.cases("of each kind")
def test_another_epoch_after_a_resumption_would_be_noticed(case, whole, stopped, resume_with, differing):
    resume_with(another_epoch, case, stopped)
    assert "log" in differing(whole, stopped)


@pytest.mark.cases("few")
@pytest.mark.parametrize("fault", [rounded_weights, new_optimizer, other_random_numbers])
def test_a_state_that_is_not_restored_would_be_noticed(case, fault, whole, stopped, resume_with, differing):
    resume_with(fault, case, stopped)
    assert "log" in differing(whole, stopped)


@pytest.mark.cases("with memory")
def test_a_memory_that_is_not_restored_would_be_noticed(case, whole, stopped, resume_with, differing):
    resume_with(None, case, stopped, memory=False)
    assert "log" in differing(whole, stopped)


def test_every_objective_family_and_task_is_a_case(cases):
    objectives = {case.settings["objective"] for case in cases if case.task is None}
    assert {part for objective in objectives for part in parse(objective)} == set(OBJECTIVES)
    assert {case.family for case in cases} == set(FAMILIES)
    assert {case.task for case in cases if case.task} == set(TASKS)
