"""Starts a command in several processes of this machine, as torchrun does, and ends as they end; without torch.

Several machines and restarts are left to torchrun. Here signals reach the processes once, the exit status
is that of the first process, and no process outlives the others.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_GRACE = 10.0  # seconds in which the others notice that one has ended
_SAVING = 60.0  # seconds after SIGTERM until SIGKILL
_INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_SAVING_AFTER_INTERRUPTION = 900.0
"""Seconds that the others have when one has ended because of a signal: the first process may still write a checkpoint,
and a second signal would end it at once."""
_PR_SET_PDEATHSIG = 1


def launch(arguments: Sequence[str], count: int, notify: Callable[[str], None]) -> int:
    """Runs `nlpcli ARGUMENTS` in `count` processes. Returns: the exit status; notify: receives a line for a kill."""
    shared = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    command = [sys.executable, "-m", "nlpcli", *arguments]
    children: list[subprocess.Popen[bytes]] = []
    with _forwarding(children):
        for rank in range(count):
            own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            children.append(
                subprocess.Popen(
                    command, env=own, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent
                )
            )
        failed = _await(children)
    for rank, child in enumerate(children):
        if child.returncode < 0 and child.returncode != -signal.SIGTERM:
            why = ", perhaps because there is not enough memory" if child.returncode == -signal.SIGKILL else ""
            notify(f"process {rank} was ended by the signal {signal.Signals(-child.returncode).name}{why}")
    statuses = [child.returncode for child in children]
    status = statuses[0] or (statuses[failed] if failed is not None else 0)
    return status if status >= 0 else 128 - status


def _await(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits until all have ended. Returns: the rank of the first that failed, None where none did."""
    failed = None
    deadline = 0.0
    terminated = False
    while any(child.poll() is None for child in children):
        if failed is None:
            failed = next((rank for rank, child in enumerate(children) if child.returncode), None)
            interrupted = failed is not None and children[failed].returncode in _INTERRUPTED
            deadline = time.monotonic() + (_SAVING_AFTER_INTERRUPTION if interrupted else _GRACE)
        elif time.monotonic() > deadline:
            _signal(children, signal.SIGKILL if terminated else signal.SIGTERM)
            deadline, terminated = time.monotonic() + _SAVING, True
        time.sleep(0.05)
    return failed if failed is not None else next((r for r, child in enumerate(children) if child.returncode), None)


@contextmanager
def _forwarding(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM go to the children, who end this process by ending themselves."""

    def forward(number: int, _: object) -> None:
        _signal(children, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _signal(children, signal.SIGKILL)  # those that are left when this ends by an error
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def end_with_parent() -> None:
    """In a child: SIGTERM when its parent is killed, where the system offers that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
