"""Learning rates over time."""

from __future__ import annotations

import math

from nlpcli.config.schema import TrainingConfig


def learning_rate(settings: TrainingConfig, step: int, progress: float, *, d_model: int) -> float:
    """The rate for optimiser step `step` (from 1), when the share `progress` (0 … 1) of the run is done.

    All rise linearly for `warmup_steps`. Then: constant; inverse-sqrt lr · √(warmup / step) (Vaswani et al. 2017,
    eq. 3, scaled to a peak of lr); noam lr · d_model^-½ · step^-½, the same with the paper's own peak; linear and
    cosine fall to min_lr at the end of the run; wsd stays at lr and falls linearly over the last `decay_fraction` of
    the run (Hu et al. 2024).
    """
    peak, warmup = settings.lr, settings.warmup_steps
    if settings.schedule == "noam":
        peak = settings.lr * (d_model * max(warmup, 1)) ** -0.5
    if step < warmup:
        return peak * step / warmup
    if settings.schedule in ("inverse-sqrt", "noam"):
        return peak * math.sqrt(max(warmup, 1) / step)
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "wsd":
        start = 1.0 - settings.decay_fraction
        share = 0.0 if progress <= start else (progress - start) / settings.decay_fraction
        return settings.min_lr + (peak - settings.min_lr) * (1.0 - min(share, 1.0))
    if settings.schedule == "linear":
        return settings.min_lr + (peak - settings.min_lr) * (1.0 - min(progress, 1.0))
    return settings.min_lr + (peak - settings.min_lr) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
