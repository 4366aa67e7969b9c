"""Resuming a run whose weights are divided among processes, from a checkpoint that any number of processes wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nlpcli.config.schema import TrainingConfig
from nlpcli.training.checkpoint import Progress, load_checkpoint
from nlpcli.training.distributed.sharding import ShardedModel, like, scatter_optimizer, whole_tensor
from nlpcli.training.optimizer import make_optimizer


def load_sharded(
    run: Path, sharded: ShardedModel, optimizer: Any, settings: TrainingConfig, average: dict[str, torch.Tensor] | None
) -> tuple[Progress, list[torch.Tensor] | None]:
    """As `load_checkpoint`: each process reads the whole checkpoint, and keeps its part."""
    whole = make_optimizer(sharded.plain, settings)
    averaged = None if average is None else {name: whole_tensor(tensor).clone() for name, tensor in average.items()}
    progress, carry = load_checkpoint(run, model=sharded.plain, optimizer=whole, average=averaged)
    sharded.scatter()
    assert isinstance(whole, torch.optim.Optimizer)  # muon is refused with sharded models
    scatter_optimizer(whole, optimizer)
    if average is not None and averaged is not None:
        for name, tensor in average.items():
            tensor.copy_(like(averaged[name], tensor))
    return progress, carry
