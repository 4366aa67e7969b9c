"""Modules that train in several processes: what is put around a model, so that gradients are those of all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from nlpcli.training.distributed.processes import Processes
from nlpcli.training.training_module import TrainingModule


def in_parallel(module: TrainingModule, processes: Processes) -> nn.Module:
    """The module itself, or among several processes a replica that averages its gradients with the others'.

    All parameters that are trained at any time are looked after from the beginning; those that a step does not use, or
    that are frozen then, are left out of that step. Buffers are functions of the settings, so that nothing is sent of
    them.
    """
    if not processes.several or isinstance(module, FSDPModule):
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name of broadcast_buffers is not in older versions
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


@contextmanager
def synchronized(module: nn.Module, *, now: bool) -> Iterator[None]:
    """Inside, a backward pass exchanges gradients with the other processes if `now`, and only adds them up if not."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)
    if now or not isinstance(module, DistributedDataParallel):
        yield
    else:
        with module.no_sync():
            yield
