"""The optimizer: decoupled weight decay on matrices only, fused kernels where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nlpcli.config.schema import TrainingConfig
from nlpcli.training.muon import Muon

Scales = Mapping[nn.Parameter, float]
OPTIMIZERS = {
    "adamw": "fused AdamW",
    "muon": "Muon and fused AdamW",
    "sgd": "fused SGD",
    "asgd": "fused SGD with averaged weights",
}
"""`training.optimizer` -> what it is called in messages."""


def make_optimizer(
    model: nn.Module, settings: TrainingConfig, scales: Scales | None = None, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer | OptimizerGroup:
    """The optimizer `settings.optimizer` for the trainable parameters; no decay of biases, norms and vectors.

    adamw: AdamW (Loshchilov and Hutter 2019). muon: Muon (Jordan et al. 2024) for the matrices of hidden layers, whose
    gradient's momentum is replaced by the nearest orthogonal matrix, computed in `dtype`, and AdamW for the rest:
    embeddings, the output projection, vectors. Muon's updates are scaled by 0.2 √max(rows, columns) to the size of
    AdamW's (Liu et al. 2025, section 2.2), so both can take the same learning rate; AdamW's is multiplied by
    settings.adamw_lr_factor. sgd: w ← w - lr · (gradient + weight_decay · w). asgd: the same; the average of its
    weights is `nlpcli.training.weight_averaging.TriggeredAverage`.

    scales: a factor of each parameter's learning rate (`nlpcli.models.layer_groups.layer_scales`), None: 1 for all.
    Each group of the optimizer has its factor under `scale`; code that sets `lr` multiplies with it.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer in ("sgd", "asgd"):
        return torch.optim.SGD(_by_decay(parameters, settings, scales), lr=settings.lr, fused=True)
    hidden = hidden_matrices(model) if settings.optimizer == "muon" else []
    if not hidden:
        return _adamw(parameters, settings, scales)
    chosen = {id(matrix) for matrix in hidden}
    rest = [parameter for parameter in parameters if id(parameter) not in chosen]
    muon = Muon(_by_scale(hidden, scales), lr=settings.lr, weight_decay=settings.weight_decay, dtype=dtype)
    if settings.adamw_lr_factor != 1:
        scales = {p: settings.adamw_lr_factor * (1.0 if scales is None else scales[p]) for p in rest}
    return OptimizerGroup([muon, _adamw(rest, settings, scales)] if rest else [muon])


def set_rate(optimizer: torch.optim.Optimizer | OptimizerGroup, lr: float) -> None:
    """Has every group learn at `lr` times its `scale`, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained weights of linear layers, but for embeddings, what gives the vocabulary's scores, and a task's head.

    Adapters of low rank (`nlpcli.layers.lora`) are not among them.
    """
    body = getattr(model, "body", model)
    others: set[int] = set()
    for module in body.modules():
        owner = getattr(module, "output_weight_owner", None)
        others.add(id(getattr(owner, "weight", None)))
        if isinstance(module, nn.Embedding):
            others.add(id(module.weight))
        elif isinstance(module, nn.AdaptiveLogSoftmaxWithLoss):
            others |= {id(parameter) for parameter in module.parameters()}
    weights = {id(module.weight): module.weight for module in body.modules() if isinstance(module, nn.Linear)}
    trained = [weight for key, weight in weights.items() if key not in others and weight.requires_grad]
    return [weight for weight in trained if isinstance(weight, nn.Parameter)]


class OptimizerGroup:
    """Several optimisers over different parameters as one; its state numbers their parameters through."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Optimizer.state_dict`."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        first = 0
        for part in self.parts:
            own = part.state_dict()
            state |= {first + index: values for index, values in own["state"].items()}
            groups += [{**g, "params": [first + index for index in g["params"]]} for g in own["param_groups"]]
            first += _size(part)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `torch.optim.Optimizer.load_state_dict`."""
        groups = list(state_dict["param_groups"])
        first = 0
        for part in self.parts:
            size, count = _size(part), len(part.param_groups)
            own, groups = groups[:count], groups[count:]
            part.load_state_dict({
                "state": {i - first: v for i, v in state_dict["state"].items() if first <= i < first + size},
                "param_groups": [{**g, "params": [index - first for index in g["params"]]} for g in own],
            })  # fmt: skip
            first += size


def memories(optimizer: torch.optim.Optimizer | OptimizerGroup) -> list[dict[str, torch.Size]]:
    """Names and shapes of the optimizer's state for each parameter once it was trained, in the order of the numbers."""
    return [
        {name: torch.Size() if name == "step" else parameter.shape for name in _REMEMBERED.get(type(part), ())}
        for part in (optimizer.parts if isinstance(optimizer, OptimizerGroup) else [optimizer])
        for group in part.param_groups
        for parameter in group["params"]
    ]


_REMEMBERED = {torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"), Muon: ("momentum_buffer",)}


def _size(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def _adamw(parameters: Sequence[nn.Parameter], settings: TrainingConfig, scales: Scales | None) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        _by_decay(parameters, settings, scales),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,  # exists for CPU and CUDA from torch 2.4 on; up to 18 % of a small model's step
    )


def _by_decay(
    parameters: Sequence[nn.Parameter], settings: TrainingConfig, scales: Scales | None
) -> list[dict[str, Any]]:
    """Groups of matrices, which decay, and of vectors, which do not."""
    matrices = _by_scale([p for p in parameters if p.dim() >= 2], scales)
    vectors = _by_scale([p for p in parameters if p.dim() < 2], scales)
    groups = [{**group, "weight_decay": settings.weight_decay} for group in matrices]
    return groups + [{**group, "weight_decay": 0.0} for group in vectors]


def _by_scale(parameters: Sequence[nn.Parameter], scales: Scales | None) -> list[dict[str, Any]]:
    """A group for each scale, in the order in which they are met, the parameters in their order."""
    if scales is None:
        return [{"params": list(parameters)}] if parameters else []
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(scales[parameter], []).append(parameter)
    return [{"params": members, "scale": scale} for scale, members in groups.items()]
