"""`--dry-run` of `pretrain` and `finetune`: what a run will need, as lines or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nlpcli.cli import terminal

if TYPE_CHECKING:
    from nlpcli.training.forecast import Forecast

DRY_RUN = typer.Option(
    False,
    "--dry-run",
    help="Train nothing. Build the model, measure a few steps, a checkpoint and an evaluation, and print the "
    "parameters, tokens, FLOPs, time, memory and disk space that the run will need.",
)

_WAITING = 0.1  # share of the time from which on other programs are worth a line


def write(forecast: Forecast, *, json: bool) -> None:
    if json:
        terminal.write_json(forecast.as_dict())
        return
    for name, value in _lines(forecast):
        terminal.write_styled([(f"{name:<17}", "bold"), (value, "")])


def _lines(forecast: Forecast) -> list[tuple[str, str]]:
    from nlpcli.commands.inspect.findings import amount, size
    from nlpcli.config.counting import counted

    f = forecast
    steps = f"{f.steps_per_epoch:,} steps" if f.steps_per_epoch != 1 else "1 step"
    lines = [("parameters", f"{f.parameters:,}"), ("an epoch", f"{f.tokens_per_epoch:,} tokens in {steps}")]
    if f.steps is not None and f.tokens is not None and f.flops is not None:
        lines.append(("training", f"{counted(f.steps, 'step')}, {f.tokens:,} tokens, {f.epochs:.3g} epochs"))
        lines.append(("FLOPs", f"{amount(f.flops)} ({amount(f.flops_per_token)} for each token)"))
    else:
        lines.append(("training", "no limit; it ends when the metric has not improved for training.patience"))
        lines.append(("FLOPs", f"{amount(f.flops_per_token)} for each token"))
    lines.append(("speed", f"{f.tokens_per_second:,.0f} tokens/s"))
    if f.seconds is not None and f.training_seconds is not None and f.evaluation_seconds is not None:
        parts = f"{terminal.duration(f.training_seconds)} for training"
        parts += f", {terminal.duration(f.evaluation_seconds)} for {counted(f.evaluations or 0, 'evaluation')}"
        lines.append(("time", f"{terminal.duration(f.seconds)}: {parts}"))
    if f.waiting > _WAITING:
        lines.append(
            ("other programs", f"had the processor {100 * f.waiting:.0f} % of the time just now, which does not count")
        )
    lines.append(("memory at most", size(f.peak_memory)))
    lines.append(("disk at most", size(f.disk)))
    return lines
