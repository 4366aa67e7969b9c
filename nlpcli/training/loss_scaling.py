"""Training in float16: the loss is multiplied with a large number, so that small gradients do not become 0.

Micikevicius et al. 2018, section 3.2, with the dynamic scale of torch.amp.GradScaler: it is halved after a step whose
gradients overflow, which does not change the weights, and doubled after 2,000 steps that do not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nlpcli.training.optimizer import OptimizerGroup

if TYPE_CHECKING:
    from nlpcli.training.checkpoint import Progress

LEAST_SCALE = 1.0
"""A gradient that overflows with this scale is not due to it."""


class LossScaling:
    """The scale of a run on `device`."""

    def __init__(self, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type)

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer | OptimizerGroup) -> None:
        """Divides the gradients by the scale."""
        for part in optimizer.parts if isinstance(optimizer, OptimizerGroup) else [optimizer]:
            self.scaler.unscale_(part)

    def overflows(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether a step must be left out because of the scale, which is set for the next step. Once a step.

        loss: of the step, (); norm: of its unscaled gradient, ().
        """
        scale = self.scaler.get_scale()
        self.scaler.update()
        return math.isfinite(float(loss)) and not math.isfinite(float(norm)) and scale > LEAST_SCALE

    def store(self, progress: Progress) -> None:
        """Puts the scale into what a checkpoint keeps."""
        state = self.scaler.state_dict()
        progress.loss_scale, progress.loss_scale_steps = float(state["scale"]), int(state["_growth_tracker"])

    def restore(self, progress: Progress) -> None:
        """Takes the scale from a checkpoint, where it has one."""
        if progress.loss_scale > 0:
            new = {"scale": progress.loss_scale, "_growth_tracker": progress.loss_scale_steps}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **new})
