"""`--batch-tokens auto`: the batch is as large as memory holds and as is useful, and a step at least what it was.

A step of the preset or task has S tokens (batch_tokens · accumulate). The batch is the largest that fits, but at most
4·S, at most a fiftieth of an epoch where that is more than S, and at most 65,536 tokens. Where it is less than S, the
gradients of several batches are summed, so that a step has S again. A task whose batches are counted in examples keeps
its S examples.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.runs.training_request import Listener, PreparedRun, Request
from nlpcli.training.distributed.environment import process_count

if TYPE_CHECKING:
    from nlpcli.config.schema import RunConfig
    from nlpcli.training.batch_size_search import BatchSizeSearch
    from nlpcli.training.checkpoint import Progress
    from nlpcli.training.memory_use import MemoryUse

MOST_RECIPES = 4
"""How many times the tokens of a preset's step a batch has at most: larger ones take more tokens to the same loss."""
LEAST_STEPS = 50
"""Steps that an epoch keeps, where the preset's step leaves it so many."""
MOST_TOKENS = 65_536
"""Tokens of a batch at most: larger ones are computed no faster, and several can be summed for a step."""
_FIRST_TOKENS, _FIRST_EXAMPLES = 2048, 8


@dataclass(frozen=True)
class _Unit:
    """The unit of a batch's size: the setting, its word, and the size of a step as configured."""

    setting: str
    word: str
    step: int
    first: int
    least: int
    most: int


def fit_batch(
    request: Request, config: RunConfig, listener: Listener, train: Callable[[Request, Listener], Any]
) -> Request:
    """The request with the size of its batches. config: as the request has it; train: what trains it.

    Raises: NlpcliError for several processes and for devices whose memory can't be measured; RunFailed where not even
    the smallest batch fits.
    """
    if process_count() > 1:
        raise NlpcliError(
            "--batch-tokens auto can't be used with several processes", hint="give a number, or leave out --processes"
        )
    from nlpcli.training.batch_size_search import BatchSizeSearch, Sizes

    unit = _unit(config)

    def measure(size: int) -> MemoryUse:
        return _measured(request, {unit.setting: size}, train)

    search = BatchSizeSearch(measure, Sizes(unit.first, unit.least, unit.most))
    size = search.find()
    if unit.most > unit.step:
        size = min(size, max(unit.step, _of_an_epoch(search) // unit.least * unit.least))
    accumulate = -(-unit.step // size)
    if accumulate > 1:  # equal parts of the step
        size = -(-unit.step // accumulate // unit.least) * unit.least
    _report(listener, unit, size, accumulate, search)
    chosen = {unit.setting: size, "accumulate": accumulate, "fit_memory": "found"}
    return replace(request, overrides=(*request.overrides, *_overrides(chosen)))


def _unit(config: RunConfig) -> _Unit:
    training = config.training
    if config.task is not None and training.batch_size is not None:
        step = training.batch_size * training.accumulate
        return _Unit("batch_size", "example", step, min(_FIRST_EXAMPLES, step), 1, step)
    step = training.batch_tokens * training.accumulate
    least = min(config.data.context if config.task is None else config.data.max_length, step)
    first = max(least, min(_FIRST_TOKENS, step))
    return _Unit("batch_tokens", "token", step, first, least, max(least, min(MOST_RECIPES * step, MOST_TOKENS)))


def _measured(request: Request, sizes: Mapping[str, int], train: Callable[[Request, Listener], Any]) -> MemoryUse:
    from nlpcli.training.memory_use import MemoryProbe

    found: list[MemoryUse] = []

    def probe(run: PreparedRun) -> None:
        rehearsal = run.trainer(MemoryProbe)
        if rehearsal.machine.device.type not in ("cpu", "cuda"):
            raise NlpcliError(
                f"--batch-tokens auto can't measure the memory of the device '{rehearsal.machine.device}'",
                hint="give a number",
            )
        found.append(rehearsal.measure())

    overrides = (*request.overrides, *_overrides({**sizes, "accumulate": 1, "fit_memory": "null"}))
    try:
        train(replace(request, overrides=overrides, in_place_of_training=probe), _Quiet())
    finally:
        gc.collect()  # the model of the rehearsal
    return found[0]


def _of_an_epoch(search: BatchSizeSearch) -> int:
    """The largest batch that leaves an epoch LEAST_STEPS of them."""
    size, use = next(iter(search.fitting.items()))
    return size * use.batches // LEAST_STEPS


def _overrides(training: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"training.{name}={value}" for name, value in training.items())


def _report(listener: Listener, unit: _Unit, size: int, accumulate: int, search: BatchSizeSearch) -> None:
    """Reports the size of batches, and what was measured."""
    largest, use = max(search.fitting.items())
    message = f"batch: {counted(size, unit.word)}, configured: {unit.step:,} ({counted(largest, unit.word)} took "
    message += f"{use.peak / 1e9:.2g} GB of the {use.limit / 1e9:.2g} GB that may be used)"
    if accumulate > 1:
        message += f"; the gradients of {accumulate:,} batches are summed for each step"
    listener.note(message)


class _Quiet:
    """Hears nothing of rehearsals."""

    def note(self, text: str) -> None: ...

    def opened(self, run: object) -> None: ...

    def started(self, progress: Progress, share: float) -> None: ...

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Progress, reason: str) -> None: ...
