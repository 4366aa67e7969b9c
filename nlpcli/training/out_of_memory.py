"""Handles out-of-memory errors in training: divides batches, or ends the run with a hint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from nlpcli.config.counting import counted
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import RunFailed
from nlpcli.objectives.objective import Batch
from nlpcli.training.distributed.division import DivisibleBatch
from nlpcli.training.distributed.processes import part_of

Carry = Sequence[Tensor] | None


def out_of_memory(settings: TrainingConfig, step: int, saved_at: int) -> RunFailed:
    """The error of a run that needs more memory after `step` than there is, for a step or an evaluation.

    saved_at: the step of the last checkpoint, -1 for none.
    """
    if settings.batch_size is not None:
        lower = f"training.batch_size (it is {settings.batch_size:,})"
    else:
        lower = f"training.batch_tokens (it is {settings.batch_tokens:,})"
    ways = [f"lower {lower}", "shorten the texts (data.context or data.max_length)"]
    if not settings.activation_checkpointing:
        ways.append("set training.activation_checkpointing=true")
    if settings.fit_memory is None:
        ways.append("use --batch-tokens auto in a new run")
    resume = f"; --resume resumes the run from step {saved_at:,}" if saved_at >= 0 else ""
    return RunFailed(f"memory ran out after step {step:,}", hint=f"{', '.join(ways[:-1])}, or {ways[-1]}{resume}")


def most_parts(batches: Sequence[Batch]) -> int:
    """Into how many parts the batches of a step can be divided; 1: not at all."""
    return max((cast("DivisibleBatch", batch).size for batch in batches if hasattr(batch, "part")), default=1)


def divided(batch: Batch, carry: Carry, parts: int) -> Iterator[tuple[Batch, Carry]]:
    """The rows of a batch in up to `parts` parts, each with its rows of the carry, whose tensors are (rows, …)."""
    if parts == 1 or not hasattr(batch, "part"):
        yield batch, carry
        return
    rows = cast("DivisibleBatch", batch)
    fits = carry is not None and all(tensor.size(0) == rows.size for tensor in carry)
    for number in range(parts):
        start, stop = part_of(rows.size, number, parts)
        if start < stop:
            own = [tensor[start:stop] for tensor in carry] if carry is not None and fits else None
            yield rows.part(start, stop), own


def joined(carries: Sequence[Any]) -> Any:
    """The carry of a batch from those of its parts."""
    if len(carries) == 1 or carries[0] is None:
        return carries[0]
    return [torch.cat(tensors) for tensors in zip(*carries, strict=True)]


def division_note(step: int, parts: int) -> str:
    """The sentence about batches that are divided from `step` on."""
    return (
        f"warning: memory ran out in step {step:,}; from here on the rows of each batch are computed in "
        f"{counted(parts, 'part')}, whose gradients are summed, so that the loss stays that of the whole batch"
    )
