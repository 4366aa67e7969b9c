"""All that is computed with a model's parameters while it is trained, as calls of one `forward`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class TrainingModule(nn.Module):
    """forward(compute, *inputs) = compute(model, *inputs).

    A wrapper for data-parallel training (`DistributedDataParallel`, `fully_shard`) acts before and after the module's
    `forward`: there it gathers parameters, and looks in the output, in tuples and lists, for the tensors that gradients
    will come from. An objective or a task takes the parameters it needs, hidden states and the matrix of the
    vocabulary alike; handed in as `compute`, it does so where the wrapper has made them ready.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[..., Any], *inputs: Any) -> Any:  # whatever is to be computed
        return compute(self.model, *inputs)
