"""The optimiser: decoupled weight decay on matrices only, fused kernels where there are any."""

from __future__ import annotations

import torch
from torch import nn

from nlpcli.config.schema import TrainingConfig


def make_optimizer(model: nn.Module, settings: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) whose decay leaves out biases, norms and other vectors."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,  # exists for CPU and CUDA from torch 2.4 on; up to 18 % of a small model's step
    )
