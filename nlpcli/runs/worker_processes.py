"""Work on windows of input in several processes, whose results come in the order of the input, in constant memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.training.distributed.launcher import cores, end_with_parent

Window = TypeVar("Window", contravariant=True)
Result = TypeVar("Result", covariant=True)
W = TypeVar("W")
R = TypeVar("R")

_AHEAD = 2  # windows for each process that are read and not yet given


class Work(Protocol[Window, Result]):
    """The work of each process; it is sent there."""

    def open(self, number: int, threads: int) -> Callable[[Window], Result]:
        """A function that computes the result of a window in process `number`, from 0, with so many threads."""
        ...


def in_processes(windows: Iterator[W], work: Work[W, R], count: int) -> Iterator[R]:
    """The result of each window, in their order, computed in `count` processes.

    Raises: NlpcliError as `windows` and `work`, after the results of all windows before; RunFailed when a process ends.
    """
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    pool = ProcessPoolExecutor(count, context, _begin, (numbers, max(1, cores() // count)))
    try:
        yield from _in_order(windows, lambda window: pool.submit(_compute, work, window), _AHEAD * count)
    except BrokenProcessPool:
        raise RunFailed(
            "a worker process has ended, perhaps because there is not enough memory", hint="use fewer --processes"
        ) from None
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends the processes of a pool, whatever is on its way to them and back.

    Windows and results that are larger than a pipe are sent in parts. The threads of the pool, for which Python waits
    when it ends, would wait for the other part.
    """
    calls, results = vars(pool)["_call_queue"], vars(pool)["_result_queue"]
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.terminate()
    calls.cancel_join_thread()
    results._writer.close()  # those of the ended processes are closed: what reads sees the end


def _in_order(windows: Iterator[W], submit: Callable[[W], Future[R]], ahead: int) -> Iterator[R]:
    pending: deque[Future[R]] = deque()
    error: NlpcliError | None = None
    more = True
    while more or pending:
        while more and len(pending) < ahead:
            try:
                pending.append(submit(next(windows)))
            except StopIteration:
                more = False
            except NlpcliError as raised:
                error, more = raised, False
        if pending:
            yield pending.popleft().result()
    if error is not None:
        raise error


_own: dict[str, Any] = {}  # of a worker process: its number and threads, and what computes its results


def _begin(numbers: Any, threads: int) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    _own.update(number=numbers.get(), threads=threads)


def _compute(work: Work[W, R], window: W) -> R:
    if "function" not in _own:
        _own["function"] = work.open(_own["number"], _own["threads"])
    result: R = _own["function"](window)
    return result


def device_of(name: str, number: int) -> str:
    """The device of process `number`: where any GPU may be used, they take turns."""
    if name not in ("auto", "cuda"):
        return name
    import torch

    there = torch.cuda.device_count()
    return f"cuda:{number % there}" if there else name
