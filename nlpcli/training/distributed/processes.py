"""The processes that train one model together, and what they exchange.

The first one (rank 0) evaluates, writes and reports. Each step's batches are divided among all
(`nlpcli.training.distributed.division`). Whatever decides how a run continues is either the same in all of them or
taken from the first. Numbers go as tensors, other values as JSON: nothing is pickled.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from nlpcli.errors import RunFailed
from nlpcli.training.distributed.environment import mark_connected, process_count, process_rank, restarts
from nlpcli.training.interrupts import Interrupted

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=7)  # while the first process prepares data or evaluates, the others wait


class ProcessLost(RunFailed):
    """Another process of the run has ended, so that this one can't continue."""


class Processes:
    """The group of `count` processes; this one has the number `rank`; alone where count is 1.

    control: the group over which they agree on numbers in main memory.
    """

    def __init__(self, count: int = 1, rank: int = 0, control: Any = None) -> None:
        self.count = count
        self.rank = rank
        self._control = control

    @property
    def first(self) -> bool:
        """Whether this is the process that evaluates, writes and reports."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def sums(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes, in double precision."""
        if not self.several:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        with peers():
            distributed.all_reduce(total, group=self._control)
        return total.tolist()

    def from_first(self, compute: Callable[[], T]) -> T:
        """The result of compute() in the first process: numbers, strings, lists and dictionaries of such.

        Raises: Interrupted in all processes where the first is interrupted in `compute`.
        """
        if not self.several:
            return compute()
        if not self.first:
            received: list[T] = self._received()
            if not received:
                raise Interrupted
            return received[0]
        try:
            value = compute()
        except Interrupted:
            self._send([])
            raise
        self._send([value])
        return value

    def rows(self, tensors: Sequence[Tensor] | None) -> list[Tensor] | None:
        """The rows of all processes for each tensor (rows, …), one after the other; None where there are none."""
        if not self.several or tensors is None:
            return None if tensors is None else list(tensors)
        return [self._joined(tensor.detach().cpu()) for tensor in tensors]

    def own_rows(self, tensors: Sequence[Tensor] | None, device: torch.device) -> list[Tensor] | None:
        """This process's part of the rows of each tensor (rows, …), as `part_of` divides them, on its device."""
        if tensors is None:
            return None
        parts = (slice(*part_of(tensor.size(0), self.rank, self.count)) for tensor in tensors)
        return [tensor[part].contiguous().to(device) for tensor, part in zip(tensors, parts, strict=True)]

    def seed_step(self, seed: int, step: int) -> None:
        """Makes chance in this process a function of the step, so that it need not be saved; not in the first one,
        whose random state is that of a run with one process."""
        if not self.first:
            torch.manual_seed(int(np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)[0]))

    def wait(self) -> None:
        """Until all processes have come here."""
        self.sums(0.0)

    def _joined(self, own: Tensor) -> Tensor:
        sizes = torch.zeros(self.count, dtype=torch.int64)
        sizes[self.rank] = own.size(0)
        with peers():
            distributed.all_reduce(sizes, group=self._control)
            padded = own.new_zeros(int(sizes.max()), *own.shape[1:])
            padded[: own.size(0)] = own
            found = [torch.empty_like(padded) for _ in range(self.count)]
            distributed.all_gather(found, padded, group=self._control)
        return torch.cat([part[:size] for part, size in zip(found, sizes.tolist(), strict=True)])

    def _send(self, value: Any) -> None:
        data = torch.tensor(list(json.dumps(value, default=float).encode()), dtype=torch.uint8)
        with peers():
            distributed.broadcast(torch.tensor([len(data)]), 0, group=self._control)
            distributed.broadcast(data, 0, group=self._control)

    def _received(self) -> Any:
        length = torch.zeros(1, dtype=torch.int64)
        with peers():
            distributed.broadcast(length, 0, group=self._control)
            data = torch.zeros(int(length), dtype=torch.uint8)
            distributed.broadcast(data, 0, group=self._control)
        return json.loads(bytes(data.tolist()))


ALONE = Processes()


def processes() -> Processes:
    """The processes of this command, as the environment names them; they meet at the first call."""
    return _connected() if process_count() > 1 else ALONE


@cache
def _connected() -> Processes:
    """Raises: ProcessLost when the processes can't be connected."""
    count, rank = process_count(), process_rank()
    with peers():
        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, store=_agent_store(count), rank=rank, world_size=count)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    mark_connected()
    return Processes(count, rank, control)


def _agent_store(count: int) -> Any:
    """The store of torchrun's agent, with keys of this start of the processes; None without an agent.

    The agent keeps its store when it starts the processes again, and with it the addresses of those that have ended.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    start = f"nlpcli/{restarts()}/{count}"
    return distributed.PrefixStore(f"{start}/{(store.add(start, 1) - 1) // count}", store)


def part_of(rows: int, rank: int, count: int) -> tuple[int, int]:
    """Where the rows of process `rank` of `count` begin and end; their numbers differ by at most one."""
    return rows * rank // count, rows * (rank + 1) // count


_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "connection", "TCPStore", "Broken pipe")


@contextmanager
def peers() -> Iterator[None]:
    """Raises: ProcessLost where the connection to another process is lost inside."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError is one
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise ProcessLost(
            "the connection to another process of the run was lost",
            hint="its own message has the reason; --resume resumes the run from its last checkpoint",
        ) from error
