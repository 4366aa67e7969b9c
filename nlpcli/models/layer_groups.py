"""A model's layers from bottom to top: for rates of learning that fall with depth, for freezing, and for compiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from nlpcli.models.backbone import EMBEDDINGS, FINAL, HEAD, Backbone


@dataclass(frozen=True)
class Group:
    """Parameters that stand at the same depth, in the order in which the model has them."""

    name: str
    parameters: tuple[nn.Parameter, ...]


def depth_groups(model: nn.Module) -> list[Group]:
    """The model's parameters, each once, bottom up: those that are the same matrix in the lowest place it has.

    `embeddings`, with positions, segments and their norm; the layers, `encoder.0`, …, `decoder.0`, … or `layers.0`, …,
    those of an encoder before those of its decoder, the last layer of an encoder together with the norm after it;
    `final`, the last norm and the pooler; `head`, all that stands above: what makes predictions, and an encoder of
    another source language. Of a model with a body under a task's head (`.body`) everything inside the body
    that is neither an embedding nor a layer is `final`. What a model lacks is left out.
    """
    body = cast("Backbone", model.body)  # every model has one
    seen: set[int] = set()
    parts = [*body.layer_groups(), *([(FINAL, body)] if body is not model else []), (HEAD, model)]
    groups: dict[str, list[nn.Parameter]] = {}
    for name, part in parts:
        for parameter in [part] if isinstance(part, nn.Parameter) else part.parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault(name, []).append(parameter)
    return [Group(name, tuple(parameters)) for name, parameters in groups.items()]


def layer_scales(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """The factor of each parameter's learning rate: decay^(n - k) in group k of n, counted from 1.

    So the head learns at the full rate, and a group `d` groups below it at decay^d of it (Howard and Ruder 2018,
    section 3.2, with a decay of 1/2.6; Clark et al. 2020, appendix B, with 0.8 and 0.9). Groups: `depth_groups`.
    """
    groups = depth_groups(model)
    return {
        parameter: decay ** (len(groups) - place)
        for place, group in enumerate(groups, 1)
        for parameter in group.parameters
    }


def compile_layers(model: nn.Module) -> None:
    """Has torch.compile make one kernel of each layer, whatever the lengths of texts; embeddings and head stay as is.

    Layers of one kind are compiled once. The names and values of the weights do not change.
    """
    body = cast("Backbone", model.body)
    for name, part in body.layer_groups():
        if name not in (EMBEDDINGS, FINAL) and isinstance(part, nn.Module):
            part.compile(dynamic=True)
