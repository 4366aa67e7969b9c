"""Learning rates over time."""

from __future__ import annotations

import math

from nlpcli.config.schema import TrainingConfig


def learning_rate(settings: TrainingConfig, step: int, progress: float, *, d_model: int) -> float:
    """The rate for optimiser step `step` (from 1), when the share `progress` (0 … 1) of the run is done.

    All rise linearly for `warmup_steps` steps, and never above what follows: constant; inverse-sqrt
    lr · √(warmup / step) (Vaswani et al. 2017, eq. 3, scaled to a peak of lr); noam lr · d_model^-½ · step^-½, the same
    with the paper's own peak; linear and cosine fall to min_lr at the end of the run; wsd stays at lr and falls
    linearly over the last `decay_fraction` of the run (Hu et al. 2024). With a `warmup_fraction` the first share of the
    run rises instead, to the peak, and what follows begins there, as in BERT's code.
    """
    peak, warmup = settings.lr, settings.warmup_steps
    if settings.schedule == "noam":
        peak = settings.lr * (d_model * max(warmup, 1)) ** -0.5
    rise = step / warmup if step < warmup else 1.0
    if share := settings.warmup_fraction:
        rise = min(1.0, progress / share)
        progress = max(0.0, (progress - share) / (1.0 - share))
    if settings.schedule in ("inverse-sqrt", "noam"):
        return peak * min(rise, math.sqrt(max(warmup, 1) / step))
    low = settings.min_lr / peak
    return peak * min(rise, low + (1.0 - low) * _remaining(settings, min(progress, 1.0)))


def is_rising(settings: TrainingConfig, step: int) -> bool:
    """Whether the rate has not been at its peak up to this step."""
    return not settings.warmup_fraction and step < settings.warmup_steps


def _remaining(settings: TrainingConfig, progress: float) -> float:
    """The remaining share of the decay from the peak to min_lr, 1 … 0."""
    if settings.schedule == "linear":
        return 1.0 - progress
    if settings.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if settings.schedule == "wsd":
        return min(1.0, (1.0 - progress) / max(settings.decay_fraction, 1e-12))
    return 1.0
