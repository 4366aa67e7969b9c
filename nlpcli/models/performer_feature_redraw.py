"""New random features for Performer's attention from time to time in training."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nlpcli.attention.performer import PerformerAttention
from nlpcli.errors import NlpcliError


def redraws(model: nn.Module, every: int) -> Callable[[int], None]:
    """A function to call before each step with the number of steps done: every `every` steps all layers resample.

    The features are a function of the step, so that a resumed run continues with the same ones.
    Raises: NlpcliError for a model without random features.
    """
    cores = [module for module in model.modules() if isinstance(module, PerformerAttention)]
    if not cores:
        raise NlpcliError(
            "training.redraw_features needs random features, which this model does not have",
            hint="leave out training.redraw_features, or set model.attention to performer:256",
        )

    def before_step(step: int) -> None:
        for core in cores:
            core.redraw(step // every)

    return before_step
