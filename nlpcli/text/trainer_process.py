"""The trainers of other libraries in a process of their own.

They don't look for Ctrl-C while they compute, and an interrupt that meets them ends in an abort. A process can be ended
at any time. It is started by `sys.executable`, not by a fork, so that it shares no locks with threads of this process
and a script that calls it needs no `if __name__ == "__main__"`. Texts and the result go through pipes as bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO

from nlpcli.errors import RunFailed

Work = Callable[[Iterator[str], Mapping[str, Any]], bytes]
"""A trainer: texts and settings to the bytes of a tokenizer. Raises: RuntimeError in the words of its library."""

_AT_ONCE = 65_536  # characters; a trainer needs less time for them than a process to start
_LENGTH = struct.Struct("<I")
_END = 0xFFFFFFFF
_FAILED = 3  # the exit status of a process that wrote the words of an error instead of a result
_PDEATHSIG = 1  # of prctl(2)
_CODE = "import sys; sys.path[:] = sys.argv[2:]; from nlpcli.text.trainer_process import main; main(int(sys.argv[1]))"


def train(work: Work, texts: Iterable[str], settings: Mapping[str, Any]) -> bytes:
    """The result of `work`, a function at the top of its module, for texts and settings that JSON can hold.

    Ctrl-C, an error in `texts` and the end of this process, however it comes, end the work at once.
    Raises: RuntimeError in the words of the trainer; RunFailed when its process was killed.
    """
    stream = iter(texts)
    first, size = [], 0
    for text in stream:
        first.append(text)
        size += len(text)
        if size > _AT_ONCE:
            return _in_process(work, itertools.chain(first, stream), settings)
    return work(iter(first), settings)


def _in_process(work: Work, texts: Iterable[str], settings: Mapping[str, Any]) -> bytes:
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(os.getpid()), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for this process alone
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        job = {"module": work.__module__, "work": work.__qualname__, "settings": dict(settings)}
        with contextlib.suppress(BrokenPipeError):  # it has already ended; it reports the reason itself
            _send(child.stdin, [json.dumps(job)])
            _send(child.stdin, texts)
            child.stdin.write(_LENGTH.pack(_END))
            child.stdin.flush()
        result = child.stdout.read()
        status = child.wait()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(OSError):
            child.stdin.close()
    if status == _FAILED:
        raise RuntimeError(result.decode("utf-8", "replace"))
    if status != 0:
        how = f"was stopped by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise RunFailed(
            f"the process that trains the tokenizer {how}", hint="if memory ran out, train on fewer lines of text"
        )
    return result


def _send(pipe: IO[bytes], texts: Iterable[str]) -> None:
    for text in texts:
        data = text.encode("utf-8")
        pipe.write(_LENGTH.pack(len(data)))
        pipe.write(data)


# --- in the other process ----------------------------------------------------------------------------------------


def main(parent: int) -> None:
    """Does the work that standard input describes, and ends the process. parent: the process to end with."""
    _end_with(parent)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not a result
    pipe = os.fdopen(os.dup(0), "rb")
    try:
        described = _receive(pipe)
        assert described is not None  # the job is sent before the end
        job = json.loads(described)
        work = getattr(importlib.import_module(job["module"]), job["work"])
        texts = iter(lambda: _receive(pipe), None)
        status, result = 0, work(texts, job["settings"])
    except BaseException as error:  # some libraries raise it too
        status, result = _FAILED, (str(error) or type(error).__name__).encode("utf-8", "replace")
    os.close(0)
    pipe.close()
    with contextlib.suppress(BrokenPipeError):
        results.write(result)
        results.close()
    os._exit(status)


def _receive(pipe: BinaryIO) -> str | None:
    """The next text, None at the end. A pipe that ends before has lost its writer: the process ends, too."""
    head = pipe.read(_LENGTH.size)
    if len(head) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if length == _END:
            return None
        data = pipe.read(length)
        if len(data) == length:
            return data.decode("utf-8")
    os._exit(1)


def _end_with(parent: int) -> None:
    """Ends this process when its parent ends, even by a signal that none can catch."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def _watch(parent: int) -> None:
    """Ends this process when it has another parent."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1.0)
    os._exit(1)
