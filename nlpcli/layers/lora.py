"""Adapters of low rank (LoRA): the weights stay as they are, and the product of two thin matrices is learnt beside.

    y = W x + b + α/r · B A dropout(x)        A (r, in), B (out, r), r far below both (Hu et al. 2022, eq. 3)

B begins with zeros, so that the model begins as it was. Afterwards W + α/r · B A takes the place of W, and the model is
one of its kind again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nlpcli.errors import NlpcliError
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.linear import Linear, linear
from nlpcli.layers.module_name_patterns import fitting

_OF_GLOBAL_TOKENS = ("global_query", "global_key", "global_value")  # Longformer's
_NAMED = {
    "attention": ("query", "value", *_OF_GLOBAL_TOKENS[::2]),
    "all": ("query", "key", "value", "output", "position", "inner", "gate", "outer", *_OF_GLOBAL_TOKENS),
}


class LoraLinear(Linear):
    """A linear layer with an adapter; it has the weight and the bias of `module` under their names, frozen.

    rank: r; alpha: α; dropout: on what the adapter reads. A begins uniform between ±1/√in, as in the authors' code.
    """

    def __init__(self, module: nn.Linear, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = module.in_features, module.out_features
        self.weight, self.bias = module.weight, module.bias
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(False)
        self.lora_a = nn.Parameter(self.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.scale = alpha / rank
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)"""
        low = linear(self.dropout(x), self.lora_a)  # (…, rank)
        return linear(x, self.weight, self.bias) + linear(low, self.lora_b) * self.scale

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.lora_a.size(0)}, scale={self.scale:g}"


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: str | Sequence[str] = "attention",
) -> list[str]:
    """Freezes `model` and puts adapters on its linear layers; what stands on its body (`.body`) stays trained.

    targets: `attention` for its queries and values (section 4.2 of the paper), `all` for every linear layer of
    attention and feed-forward layers, or names and patterns of layers, separated by commas
    (`nlpcli.layers.module_name_patterns.fitting`). The layer that gives the vocabulary's scores, and what stands
    outside the body, get none.

    Returns: the names of the layers that have one. Raises: NlpcliError for a rank below 1, an alpha that is not
    positive, targets that fit nothing, and a model that has adapters already.
    """
    if rank < 1 or alpha <= 0:
        raise NlpcliError(
            f"a low-rank adapter needs a rank of at least 1 and a positive alpha, not rank {rank} and alpha {alpha:g}"
        )
    if has_lora(model):
        raise NlpcliError("this model already has low-rank adapters", hint="start from a model without adapters")
    body = getattr(model, "body", model)
    output = getattr(body, "output_weight_owner", None)
    layers = {
        name: module for name, module in body.named_modules() if isinstance(module, nn.Linear) and module is not output
    }
    chosen = _chosen(list(layers), targets.split(",") if isinstance(targets, str) else targets)
    body.requires_grad_(False)
    for name in chosen:
        parent, _, last = name.rpartition(".")
        adapted = LoraLinear(layers[name], rank=rank, alpha=alpha, dropout=dropout)
        setattr(body.get_submodule(parent), last, adapted)
    return chosen if body is model else [f"body.{name}" for name in chosen]


def _chosen(names: Sequence[str], targets: Sequence[str]) -> list[str]:
    found: set[str] = set()
    for target in map(str.strip, targets):
        if target in _NAMED:
            found |= {name for name in names if name.rpartition(".")[2] in _NAMED[target]}
        else:
            found |= set(fitting(names, [target], "linear layer"))
    if not found:
        raise NlpcliError("no layers are named for the low-rank adapters", hint="name linear layers, or use 'all'")
    return [name for name in names if name in found]


def has_lora(model: nn.Module) -> bool:
    """Whether adapters of low rank are in `model`."""
    return any(isinstance(module, LoraLinear) for module in model.modules())


@torch.no_grad()
def merged(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state dict of the same model without adapters: W + α/r · B A under the name of W.

    weights: another state dict of `model`, as of its running average; its own when None. Without adapters it is
    returned as it is.
    """
    result = dict(model.state_dict() if weights is None else weights)
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            prefix = f"{name}." if name else ""
            a, b = (result.pop(f"{prefix}{part}").double() for part in ("lora_a", "lora_b"))
            weight = result[f"{prefix}weight"]
            result[f"{prefix}weight"] = (weight.double() + module.scale * (b @ a)).to(weight.dtype)
    return result
