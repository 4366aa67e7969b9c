"""The limits of a run: its progress towards them, and the limit that it has reached."""

from __future__ import annotations

from nlpcli.config.counting import counted
from nlpcli.config.schema import TrainingConfig
from nlpcli.training.checkpoint import Progress


def share_done(progress: Progress, settings: TrainingConfig, plan_length: int) -> float:
    """How much of the run is done, by the limit that is nearest. plan_length: batches of the current epoch, 0: none."""
    shares = [0.0]
    if settings.max_steps:
        shares.append(progress.step / settings.max_steps)
    if settings.max_minutes:
        shares.append(progress.seconds / (60 * settings.max_minutes))
    if settings.max_tokens:
        shares.append(progress.tokens / settings.max_tokens)
    if settings.max_flops:
        shares.append(progress.flops / settings.max_flops)
    if settings.max_epochs:
        done = progress.epoch + (progress.position / plan_length if plan_length else 0.0)
        shares.append(done / settings.max_epochs)
    return max(shares)


def limit_reached(progress: Progress, settings: TrainingConfig, plan_length: int) -> str | None:
    """The reason why the run stops here, as a sentence; None if it continues."""
    if settings.max_steps and progress.step >= settings.max_steps:
        return _reached(counted(settings.max_steps, "step"))
    if settings.max_minutes and progress.seconds >= 60 * settings.max_minutes:
        return _reached(counted(settings.max_minutes, "minute"))
    if settings.max_tokens and progress.tokens >= settings.max_tokens:
        return _reached(counted(settings.max_tokens, "token"))
    if settings.max_flops and progress.flops >= settings.max_flops:
        return _reached(f"{settings.max_flops:.3g} FLOPs")
    if settings.max_epochs and share_done(progress, settings, plan_length) >= 1.0:
        return _reached(counted(settings.max_epochs, "epoch"))
    if settings.patience and progress.stale >= settings.patience:
        return f"'{settings.metric}' has not improved for {counted(progress.stale, 'evaluation')}"
    return None


def _reached(limit: str) -> str:
    return f"the limit of {limit} was reached"
