"""Models whose weights, gradients and optimizer states are divided among processes: FSDP2 (`fully_shard`).

Zhao et al. 2023; Rajbhandari et al. 2020 (ZeRO, stage 3). The weights of a layer are gathered when it is computed, and
given up after it. Beside the sharded model the first process keeps a plain one, into which all weights are gathered to
be evaluated and saved: what is on disk does not depend on the number of processes, and is safetensors as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from nlpcli.models.stack import Stack, TransformerLayer
from nlpcli.training.distributed.processes import Processes
from nlpcli.training.training_module import TrainingModule


class ShardedModel:
    """`model` with its parameters divided among processes, on a device of each.

    module: what trains it. plain: the same model with all its weights, as they were last gathered; in other processes
    than the first one it has no values once training runs.
    """

    def __init__(self, model: nn.Module, device: torch.device, together: Processes) -> None:
        self.model = model
        self.first = together.first
        self.plain: nn.Module = deepcopy(model)
        if self.first:
            self.plain.to(device)
        self.module = TrainingModule(model)
        mesh = init_device_mesh(device.type, (together.count,))
        for layer in _layers(model):
            if layer.cross_attention is not None:
                fully_shard(layer.cross_attention, mesh=mesh)
                register_fsdp_forward_method(layer.cross_attention, "project_memory")
            fully_shard(layer, mesh=mesh)
            register_fsdp_forward_method(layer, "step")
        fully_shard(self.module, mesh=mesh)

    def begin(self) -> None:
        """Frees the memory of plain models that are not used from here on."""
        if not self.first:
            self.plain.to("meta")

    def gather(self) -> None:
        """Gives the plain model of the first process the weights as they are."""
        plain = dict(self.plain.named_parameters())
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                whole = whole_tensor(parameter)
                if self.first:
                    plain[name].copy_(whole)

    def scatter(self) -> None:
        """Gives the sharded model the weights of the plain one, which all processes have."""
        plain = dict(self.plain.named_parameters())
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(like(plain[name].detach(), parameter))


class GatheredOptimizer:
    """The state of an optimizer over sharded parameters, as that of one over whole ones, to be saved by the first
    process."""

    def __init__(self, optimizer: Any, *, keep: bool) -> None:
        self._state = {
            index: whole_tensors(values, keep=keep) for index, values in optimizer.state_dict()["state"].items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"state": self._state}


def scatter_optimizer(whole: torch.optim.Optimizer, optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer over sharded parameters the state of one over whole ones."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {
            name: like(value, parameters[index]) if value.shape == parameters[index].shape else value
            for name, value in values.items()
        }
        for index, values in whole.state_dict()["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be divided among processes; all of them must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The same for each, one at a time, in main memory; keep: whether this process needs them."""
    found = {}
    for name, tensor in tensors.items():
        whole = whole_tensor(tensor)
        if keep:
            found[name] = whole.detach().cpu()
    return found


def like(whole: Tensor, other: Tensor) -> Tensor:
    """`whole`, which all processes have, divided among them as `other` is."""
    if not isinstance(other, DTensor):
        return whole
    return distribute_tensor(whole.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def _layers(model: nn.Module) -> Iterator[TransformerLayer]:
    """The layers that are gathered one at a time; the rest of a model, and whole models of other families, at once."""
    for stack in [module for module in model.modules() if isinstance(module, Stack) and not module.reversible]:
        yield from stack.layers
