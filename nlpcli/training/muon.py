"""Muon (Jordan et al. 2024): a step along the nearest orthogonal matrix of the momentum, in the run's precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, which always takes bfloat16, with the orthogonal matrix computed in `dtype`.

    With torch.bfloat16 its steps are torch's bit for bit. Where the processor has no products in bfloat16, float32
    takes a twentieth of the time. Steps are scaled by 0.2 √max(rows, columns), to the size of AdamW's (Liu et al. 2025,
    section 2.2).
    """

    def __init__(
        self, parameters: Iterable[dict[str, Any]], *, lr: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every matrix [rows, columns] that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)
        return loss

    def _move(self, matrix: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum, mean = group["momentum"], state["momentum_buffer"]
        mean.lerp_(gradient, 1 - momentum)
        update = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        direction = orthogonal(update.to(self.dtype), group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(direction, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float = 1e-7
) -> torch.Tensor:
    """About the nearest orthogonal matrix of [rows, columns], in its dtype: its singular values become about one.

    A Newton–Schulz iteration: with U S Vᵀ the singular value decomposition of the matrix divided by its Frobenius norm
    (or by eps, where that is larger), each step replaces every value s by a·s + b·s³ + c·s⁵.
    """
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        squares = x @ x.T
        x = torch.addmm(x, torch.addmm(squares, squares, squares, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
