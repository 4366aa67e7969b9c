"""Runs the cells of a grid one after another: finished ones are kept, interrupted ones are resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nlpcli.commands.compare import cell_record as records
from nlpcli.commands.compare.cell_record import FAILED, FINISHED, INTERRUPTED, NEW, STARTED
from nlpcli.commands.compare.cells import Cell, Plan, parameters
from nlpcli.commands.compare.score_test_sets import OUTPUT, p_values, score_test
from nlpcli.config.grid import flat, nested
from nlpcli.errors import NlpcliError, RunFailed, is_out_of_memory
from nlpcli.runs.run_folder import CONFIG
from nlpcli.runs.training_request import Listener
from nlpcli.training.interrupts import InterruptsBetweenRuns


@dataclass
class CellStatus:
    """How a cell stands: its state, the requested settings, what was recorded, and what keeps it from being shown."""

    cell: Cell
    state: str
    requested: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    reason: str = ""  # why it failed, or why what is there does not count
    refused: NlpcliError | None = None  # what kept it from beginning

    @property
    def finished(self) -> bool:
        return self.state == FINISHED

    @property
    def failed(self) -> bool:
        return self.state == FAILED


def cell_statuses(plan: Plan, *, strict: bool = True) -> list[CellStatus]:
    """How all cells stand now.

    Raises: NlpcliError when a chosen cell's folder holds another run than the requested one, not to be repeated;
    unless strict is off: then it is reported as the reason why the run does not count.
    """
    return [_status(plan, cell, strict and cell.variant.name in plan.chosen) for cell in plan.cells]


def _status(plan: Plan, cell: Cell, strict: bool) -> CellStatus:
    requested = records.requested_of(cell)
    if cell.variant.name in plan.repeated:
        return CellStatus(cell, NEW, requested)
    try:
        state = records.state_of(cell.folder)
    except NlpcliError as error:
        if strict:
            raise
        return CellStatus(cell, NEW, requested, reason=error.message)
    record = records.read_record(cell.folder) or {}
    changed = records.differences(cell.folder, requested, record) if record and state != STARTED else []
    if changed and strict:
        more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
        raise NlpcliError(
            f"{cell.folder} was trained with other settings: {changed[0]}{more}",
            hint=f"train it again with --rerun {cell.variant.name}, or choose another --out",
        )
    if changed:
        return CellStatus(cell, NEW, requested, reason=f"it was trained with other settings: {changed[0]}")
    return CellStatus(cell, state, requested, record, record.get("failed", ""))


def run(plan: Plan, statuses: list[CellStatus], listener: Listener) -> None:
    """Trains what is chosen and not finished; `statuses` are brought up to date meanwhile.

    A cell that fails is reported, and the others continue. A cell that failed while it trained is not tried again
    unless it is to be repeated.
    """
    open_ = [item for item in statuses if _is_open(plan, item)]
    for status in open_:
        parameters(status.cell)
    clock = _Clock(plan, len(open_))
    with InterruptsBetweenRuns() as interrupts:
        for number, status in enumerate(open_, start=1):
            listener.note(f"cell {number} of {len(open_)}: {status.cell.name}{clock.remaining()}")
            before = time.perf_counter()
            _run_cell(plan, status, statuses, listener)
            interrupts.check()
            clock.took(time.perf_counter() - before)
    _refuse_if_none_began(statuses, open_)
    for status in statuses:
        _complete(plan, status, listener)
    _test_differences(plan, statuses, listener)


def _refuse_if_none_began(statuses: list[CellStatus], tried: list[CellStatus]) -> None:
    """Raises: the first cell's NlpcliError, when all were refused before they began and there is nothing to show."""
    refused = [item.refused for item in tried if item.refused is not None]
    if tried and len(refused) == len(tried) and not any(item.finished for item in statuses):
        raise refused[0]


def _is_open(plan: Plan, status: CellStatus) -> bool:
    return status.cell.variant.name in plan.chosen and status.state in (NEW, STARTED, INTERRUPTED)


def _run_cell(plan: Plan, status: CellStatus, statuses: list[CellStatus], listener: Listener) -> None:
    cell = status.cell
    recording = _Recording(listener, cell, {"requested": status.requested, "tokenizer": records.tokenizer_key(cell)})
    shared = [item.cell for item in statuses if item.cell is not cell and item.state in (INTERRUPTED, FINISHED)]
    try:
        _train(cell, status.state, shared, recording)
    except (NlpcliError, MemoryError, RuntimeError) as error:
        if not isinstance(error, NlpcliError) and not is_out_of_memory(error):
            raise
        message = error.message if isinstance(error, NlpcliError) else "there is not enough memory"
        hint = f" ({error.hint})" if isinstance(error, NlpcliError) and error.hint else ""
        status.state, status.reason = FAILED, message
        if isinstance(error, NlpcliError) and not recording.opened_now:
            status.refused = error
        listener.note(f"{cell.name} failed: {message}{hint}")
        if recording.opened_now:
            _note_failure(cell.folder, message)
        return
    status.state, status.record = FINISHED, records.read_record(cell.folder) or {}
    _complete(plan, status, listener)


def _train(cell: Cell, state: str, shared: list[Cell], listener: Listener) -> None:
    from nlpcli.runs.finetuning.finetune import finetune
    from nlpcli.runs.pretraining.pretrain import pretrain

    request = cell.request
    if state == INTERRUPTED:  # the run's own folder holds all of it but what may differ, such as where the text is now
        wanted = flat(cell.config.model_dump())
        free = nested({name: wanted[name] for name in records.OF_NO_MATTER})
        request = replace(
            request, preset=None, config=None, base=None, tokenizer=None, settings=free, overrides=(), resume=True
        )
    else:
        key = records.tokenizer_key(cell)
        same = records.with_tokenizer(shared, key) if key else None
        request = replace(request, tokenizer=same or request.tokenizer, overwrite=cell.folder.exists())
    (finetune if cell.command == "finetune" else pretrain)(request, listener)


def _note_failure(run: Path, message: str) -> None:
    with suppress(RunFailed):  # a full disk; then it is tried again next time
        records.write_record(run, (records.read_record(run) or {}) | {"failed": message})


def _complete(plan: Plan, status: CellStatus, listener: Listener) -> None:
    """Records the results of a finished cell, and scores it on the test set, unless that was done."""
    if not status.finished:
        return
    run, record = status.cell.folder, status.record
    if "results" not in record:
        record |= {"weights": records.weights_of(run), "results": records.measure(run)}
        records.write_record(run, record)
    if plan.test is None:
        record.pop("test", None)
        return
    text = records.digest((plan.test.source, plan.test.target))
    if record.get("test", {}).get("text") == text:
        if "output" not in record["test"] and (run / OUTPUT).exists():
            record["test"]["output"] = records.digest((str(run / OUTPUT),))
        return
    try:
        scores = score_test(status.cell, plan.test, listener)
        record["test"] = {"text": text, "output": records.digest((str(run / OUTPUT),)), **scores}
    except NlpcliError as error:
        listener.note(f"{status.cell.name} was not scored on {plan.test.source}: {error.message}")
        return
    records.write_record(run, record)


def _test_differences(plan: Plan, statuses: list[CellStatus], listener: Listener) -> None:
    """Records how probable it is by chance that a cell's test score differs from the base's as much.

    Of a base with several seeds the largest probability counts: one of its runs may be low or high by luck.
    """
    tested = [item for item in statuses if item.finished and "test" in item.record]
    bases = [item for item in tested if not item.cell.variant.change]
    mark = [[item.record["test"]["text"], item.record["test"]["output"]] for item in bases]
    new = [item for item in tested if item in bases or item.record["test"].get("base") != mark]
    for item in new:  # what is known belongs to another base
        item.record["test"].pop("base", None), item.record["test"].pop("p_value", None)
    new = [item for item in new if item not in bases]
    if not bases or not new or plan.test is None:
        return
    try:
        found = [p_values(base.cell, [item.cell for item in new], plan.test) for base in bases]
    except NlpcliError as error:
        listener.note(f"differences from {bases[0].cell.variant.name} were not tested: {error.message}")
        return
    for item, values in zip(new, zip(*found, strict=True), strict=True):
        item.record["test"] |= {"base": mark, "p_value": max(values)}
        records.write_record(item.cell.folder, item.record)


class _Recording:
    """A listener that records the requested settings of a cell as soon as its run has a folder."""

    def __init__(self, listener: Listener, cell: Cell, record: Mapping[str, Any]) -> None:
        self._listener, self._cell, self._record = listener, cell, record
        self.opened_now = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def opened(self, run: Path) -> None:
        records.write_record(run, {**self._record, "config": records.digest((str(run / CONFIG),))})
        self.opened_now = True
        self._listener.opened(run)


class _Clock:
    """How long the cells took, and how long the others may take."""

    def __init__(self, plan: Plan, count: int) -> None:
        self._minutes = plan.grid.equal.minutes
        self._left = count
        self._times: list[float] = []

    def took(self, seconds: float) -> None:
        self._times.append(seconds)
        self._left -= 1

    def remaining(self) -> str:
        if self._times:
            each = sum(self._times) / len(self._times)
        elif self._minutes:
            each = 60 * self._minutes
        else:
            return ""
        so_far = f"{_duration(sum(self._times))} so far, " if self._times else ""
        return f" ({so_far}about {_duration(each * self._left)} left)"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
