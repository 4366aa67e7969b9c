"""Divides a step among processes, so that together they compute the same step as one process.

A step has `training.accumulate` batches. Where their number is a multiple of the number of processes, each process
takes whole batches, and makes no others. Otherwise each batch is divided by rows: all processes make it, because the
noise of its rows is sampled in order, and each computes some of its rows. A process that is left without rows computes
one with weight 0, because the gradients of all are summed together.

A loss that is not the sum of the losses of the rows, such as one that contrasts the examples of a batch with each
other, can't be divided: its batches stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Batch, Objective
from nlpcli.training.distributed.processes import Processes, part_of


class DivisibleBatch(Batch, Protocol):
    """A batch whose loss, where the objective allows it, is the sum of the losses of its parts."""

    @property
    def size(self) -> int:
        """Rows, or examples, that `part` divides."""
        ...

    def part(self, start: int, stop: int) -> Batch:
        """The rows from `start` up to `stop`, padded as before."""
        ...


@dataclass(frozen=True)
class Share:
    """This process's part of a step: batches with their weights; weight 0 for one that only keeps the processes in
    step.

    size: of the step in entries of the plan. count, tokens: what this process adds to those of the step. whole: whether
    batches are whole, so that measures of a batch differ between processes.
    """

    batches: list[tuple[Batch, float]]
    size: int
    count: int
    tokens: int
    whole: bool


def share_of(
    task: Objective[Any, Any], places: Sequence[int], make: Callable[[int], Batch], processes: Processes
) -> Share:
    """The share of this process in the step whose batches are at `places` of the plan; make(place) gives one of them.

    Raises: NlpcliError where the loss can't be divided among so many processes.
    """
    rank, count = processes.rank, processes.count
    if count == 1:
        return _whole([(make(place), 1.0) for place in places], len(places))
    stateful = getattr(task, "stateful", False)
    divisible = getattr(task, "divisible", True)
    if len(places) % count == 0 and not stateful:
        return _whole([(make(place), 1.0) for place in places[rank::count]], len(places))
    batches: Iterable[Batch] = map(make, places)
    if not divisible:
        return _share_of_whole_batches(places, make, processes)
    made = list(batches)
    if not all(hasattr(batch, "part") for batch in made):
        return _share_of_whole_batches(places, make, processes)
    parts = [_rows_of(cast("DivisibleBatch", batch), processes, stateful=stateful) for batch in made]
    first = processes.first  # counts each batch once
    return Share(
        parts,
        len(places),
        sum(batch.count for batch in made) if first else 0,
        sum(batch.tokens for batch in made) if first else 0,
        whole=False,
    )


def check_divisible(task: Objective[Any, Any], accumulate: int, processes: Processes) -> None:
    """Raises: NlpcliError, before any training, for a loss that can't be divided among so many processes."""
    if processes.several and not getattr(task, "divisible", True) and accumulate < processes.count:
        raise _indivisible(accumulate, processes.count)


def _share_of_whole_batches(places: Sequence[int], make: Callable[[int], Batch], processes: Processes) -> Share:
    """Whole batches, in unequal numbers."""
    own = [(make(place), 1.0) for place in places[processes.rank :: processes.count]]
    return _whole(own or [(make(places[0]), 0.0)], len(places))


def _whole(batches: list[tuple[Batch, float]], size: int) -> Share:
    counted = [batch for batch, weight in batches if weight]
    return Share(
        batches, size, sum(batch.count for batch in counted), sum(batch.tokens for batch in counted), whole=True
    )


def _rows_of(batch: DivisibleBatch, processes: Processes, *, stateful: bool) -> tuple[Batch, float]:
    start, stop = part_of(batch.size, processes.rank, processes.count)
    if start < stop:
        return batch.part(start, stop), 1.0
    if stateful:
        raise NlpcliError(
            f"a model with memory reads {batch.size} texts side by side, "
            f"which can't be divided among {processes.count} processes",
            hint="use fewer processes, or a larger training.batch_tokens",
        )
    return batch.part(0, 1), 0.0


def _indivisible(accumulate: int, count: int) -> NlpcliError:
    return NlpcliError(
        f"this loss compares the examples of a whole batch, so {count} processes need at least {count} batches for "
        f"each step, not {accumulate}",
        hint=f"set training.accumulate={count}",
    )
