"""Activation checkpointing: layers are computed a second time in the backward pass, to save memory.

Source: Chen et al. 2016.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from nlpcli.errors import NlpcliError
from nlpcli.models.stack import Stack


def checkpoint_activations(model: nn.Module) -> None:
    """Has each layer of the model's Transformer stacks store only what enters it.

    Dropout is the same in both passes. Raises: NlpcliError for a model without such layers.
    """
    stacks = [module for module in model.modules() if isinstance(module, Stack) and not module.reversible]
    if not stacks:
        raise NlpcliError(
            "training.activation_checkpointing needs Transformer layers that store their activations",
            hint="leave out training.activation_checkpointing",
        )
    for stack in stacks:
        for layer in stack.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)  # type: ignore[method-assign]
