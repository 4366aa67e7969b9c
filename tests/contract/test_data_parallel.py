"""What trains goes through the forward of one module, so that wrappers for data-parallel training can act around it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from nlpcli.training import training_state
from nlpcli.training.training_module import TrainingModule

pytestmark = pytest.mark.cases("of each kind")


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    """A group of this process alone."""
    store = distributed.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def through_forward(module, compute, inputs):
    return module(compute, *inputs)


def past_forward(module, compute, inputs):
    module(lambda model: None)
    return compute(module.module.model if isinstance(module, DistributedDataParallel) else module.model, *inputs)


# --- DistributedDataParallel: gradients that forward has prepared for are averaged --------------------------------


class Replicated(torch.nn.Module):
    """The module that trains, wrapped. averaged: is given the number of gradients of each bucket, of which one holds
    all."""

    def __init__(self, model, how, averaged):
        super().__init__()
        self.wrapped = DistributedDataParallel(TrainingModule(model), find_unused_parameters=True)
        self.how = how

        def average(state, bucket):
            averaged.append(len(bucket.gradients()))
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        self.wrapped.register_comm_hook(None, average)

    def forward(self, compute, *inputs):
        return self.how(self.wrapped, compute, inputs)


def replicated(monkeypatch, how):
    averaged = []
    monkeypatch.setattr(training_state, "TrainingModule", lambda model: Replicated(model, how, averaged))
    return averaged


def test_all_gradients_are_averaged_in_each_step_and_nothing_else_changes(
    case, whole, train, differing, monkeypatch, tmp_path
):
    averaged = replicated(monkeypatch, through_forward)
    assert differing(whole, train(case, tmp_path / "run")) == []
    assert len(averaged) == 6


@pytest.mark.cases("few")
def test_what_is_computed_past_forward_is_refused(case, train, monkeypatch, tmp_path):
    replicated(monkeypatch, past_forward)
    with pytest.raises(RuntimeError, match="Use of a module parameter outside the `forward` function"):
        train(case, tmp_path / "run")


# --- fully_shard: there are no whole parameters outside of forward ------------------------------------------------


class AlsoSharded(TrainingModule):
    """Computes the first loss and the first evaluation twice, once of a copy whose parameters are sharded."""

    def __init__(self, model, how, found):
        super().__init__(model)
        self.how = how
        self.found = found

    def forward(self, compute, *inputs):
        if self.training in self.found:
            return super().forward(compute, *inputs)
        with torch.inference_mode(False):
            twin = TrainingModule(deepcopy(self.model)).train(self.training)
            fully_shard(twin, mesh=init_device_mesh("cpu", (1,)), reshard_after_forward=True)
            twin(lambda model: None)  # as a step of training before the first evaluation does
        random = torch.get_rng_state()
        sharded = self._computed(twin, self.how(twin, compute, inputs))
        torch.set_rng_state(random)
        plain = self._computed(self, super().forward(compute, *inputs))
        self.found[self.training] = sharded, plain
        torch.set_rng_state(random)
        return super().forward(compute, *inputs)

    @staticmethod
    def _computed(module, result):
        """The metrics, or the loss and its gradients."""
        if not module.training:
            return result
        total, nll, *_ = result
        total.backward()
        grads = {name: parameter.grad for name, parameter in module.model.named_parameters()}
        module.zero_grad()
        return {"nll": nll, **{name: None if grad is None else unsharded(grad) for name, grad in grads.items()}}


def unsharded(tensor):
    return tensor.full_tensor() if isinstance(tensor, distributed.tensor.DTensor) else tensor


def same(one, other):
    return one is other or (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other)


def sharded(monkeypatch, how):
    found = {}
    monkeypatch.setattr(training_state, "TrainingModule", lambda model: AlsoSharded(model, how, found))
    return found


def test_sharded_parameters_give_the_same_gradients_and_metrics(case, train, monkeypatch, tmp_path):
    found = sharded(monkeypatch, through_forward)
    train(case, tmp_path / "run")
    for training in (True, False):
        one, other = found[training]
        assert one.keys() == other.keys() and [name for name in one if not same(one[name], other[name])] == []


@pytest.mark.cases("few")
def test_parameters_that_are_used_past_forward_are_not_whole(case, train, monkeypatch, tmp_path):
    sharded(monkeypatch, past_forward)
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
        train(case, tmp_path / "run")
