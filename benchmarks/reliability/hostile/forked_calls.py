"""Calls of the command line in forked processes with limits, and what each left behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

_MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GOOD_STATUSES = {0, 1, 2, 130, 143}
_LONGEST_MESSAGE = 2000  # characters of a sentence and its hint together
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
_SOURCE_LINE = re.compile(r"\.py:\d+|^Traceback|internal error|Exception ignored in", re.MULTILINE)
_OUTPUT = 64 * _MIB  # bytes of an output that are looked at
_BATCH = 25  # calls in one forked process
_BUSY = 0.1  # seconds of processor time, of a process that does not only wait
_GROWN = 256 * _MIB  # a process that has used more than this for a call makes no further one


@dataclass(frozen=True)
class Limits:
    """What a call may take.

    cpu: seconds of processor time. wall: seconds without any. memory, file: bytes, beyond those before the call, and of
    a file.
    """

    cpu: int = 20
    wall: float = 60.0
    memory: int = 1024 * _MIB
    file: int = 512 * _MIB


@dataclass(frozen=True)
class Call:
    """A call of the command line.

    text_out: whether its standard output repeats text for the next program, and so may hold anything.
    stdin: a file in the working folder; None: nothing is on standard input. terminal: standard output and standard
    error are a terminal. outputs: names in the working folder that the call may create or change.
    """

    argv: Sequence[str]
    text_out: bool = False
    stdin: str | None = None
    terminal: bool = False
    outputs: Sequence[str] = ()
    changes_inputs: bool = False
    prepare: Callable[[], None] | None = None


@dataclass
class Outcome:
    """status: None for a process that was killed. growth: bytes. faults: what must not happen, in words."""

    status: int | None
    seconds: float = 0.0
    growth: int = 0
    faults: list[str] = field(default_factory=list)


class _Terminal(io.TextIOWrapper):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def outcomes(
    cases: Sequence[Any], make: Callable[[Any, Path], Call], folder: Path, limits: Limits, *, keep: bool = False
) -> Iterator[Outcome]:
    """The outcome of each case, in order. make: fills a working folder for a case, inside the forked process.

    keep: leave the files of the last case in `folder`.
    """
    done = 0
    while done < len(cases):
        for outcome in _forked(cases[done : done + _BATCH], make, folder, limits):
            yield outcome
            done += 1
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def _forked(cases: Sequence[Any], make: Callable[[Any, Path], Call], folder: Path, limits: Limits) -> Iterator[Outcome]:
    """One process for some cases; it may end before the last."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(cases, make, folder, limits, writing)
    os.close(writing)
    ended = False
    used = 0.0
    for line in _lines(reading, limits.wall):
        if line is None:
            before, used = used, _processor_time(process)
            if used - before > _BUSY:
                continue  # it waits for nothing; the limit of processor time ends it
            os.kill(process, signal.SIGKILL)
            yield Outcome(None, limits.wall, faults=[f"hang: it has waited for {limits.wall:.0f} s"])
        elif line != b"end":
            yield Outcome(**json.loads(line))
            continue
        ended = True
        break
    os.close(reading)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    if not ended:
        late = code in (-signal.SIGXCPU, -signal.SIGKILL)
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        yield Outcome(None, faults=[f"hang: more than {limits.cpu} s of processor time" if late else f"crash: {how}"])


def _lines(pipe: int, patience: float) -> Iterator[bytes | None]:
    """The lines that come out of a pipe; None when none has come for `patience` seconds."""
    waiting = b""
    while True:
        while b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            yield line
        if not select.select([pipe], [], [], patience)[0]:
            yield None
            continue
        part = os.read(pipe, 65536)
        if not part:
            return
        waiting += part


def _child(cases: Sequence[Any], make: Callable[[Any, Path], Call], folder: Path, limits: Limits, results: int) -> None:
    """The forked process; does not return."""
    status = 97
    talk = os.dup(2)
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file, limits.file))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(results, "w", buffering=1) as pipe:
            for case in cases:
                outcome = in_this_process(case, make, folder, limits)
                pipe.write(json.dumps(asdict(outcome)) + "\n")
                if outcome.growth > _GROWN:
                    break
            pipe.write("end\n")
        status = 0
    except BaseException:  # a fault of the campaign itself
        import traceback

        os.write(talk, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def in_this_process(case: Any, make: Callable[[Any, Path], Call], folder: Path, limits: Limits) -> Outcome:
    """Makes the files of a case, calls the command line, checks what it did and removes the files."""
    shutil.rmtree(folder, ignore_errors=True)
    work, temporary = folder / "work", folder / "tmp"
    work.mkdir(parents=True)
    temporary.mkdir()
    os.environ |= {"TMPDIR": str(temporary), "NLPCLI_CACHE": str(folder / "cache")}
    tempfile.tempdir = None
    call = make(case, work)
    os.chdir(work)
    if call.prepare is not None:
        call.prepare()
    before = _entries(work)
    _open_streams(call, folder)
    _limit(limits)
    resident = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.monotonic()
    status = _status(call.argv)
    outcome = Outcome(status, time.monotonic() - began, _memory("VmHWM") - resident)
    os.chdir("/")
    _check(call, outcome, _text(folder / "out"), _text(folder / "err"), limits)
    _check_left(call, outcome, before, folder)
    return outcome


def _open_streams(call: Call, folder: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    places = [os.open(call.stdin or os.devnull, os.O_RDONLY | os.O_NONBLOCK)]
    places += [os.open(folder / name, flags, 0o600) for name in ("out", "err")]
    for number, place in enumerate(places):
        os.dup2(place, number)
        os.close(place)
    kind = _Terminal if call.terminal else io.TextIOWrapper
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = kind(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8")
    sys.stderr = kind(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), encoding="utf-8", line_buffering=True)


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + 4 * limits.memory, resource.RLIM_INFINITY))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + limits.cpu + 1, resource.RLIM_INFINITY))


def _status(argv: Sequence[str]) -> int:
    from nlpcli.cli.main import main

    try:
        status = int(main(list(argv)))
    except BaseException:
        import traceback

        status = 96
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _check(call: Call, outcome: Outcome, out: str, err: str, limits: Limits) -> None:
    if outcome.status not in _GOOD_STATUSES:
        outcome.faults.append(f"status: {outcome.status}")
    if outcome.growth > limits.memory:
        outcome.faults.append(f"memory: {outcome.growth / _MIB:,.0f} MiB")
    if found := _SOURCE_LINE.search(err):
        outcome.faults.append(f"traceback: {err[max(0, found.start() - 200) : found.start() + 400]!r}")
    lines = err.split("\n")
    sentences = [number for number, line in enumerate(lines) if line.startswith("nlpcli: ")]
    if (
        outcome.status in (1, 2)
        and not {"--strict", "--verify"} & {*call.argv}
        and not sentences
        and "Usage: " not in err
    ):
        outcome.faults.append("message: none")
    if outcome.status == 0 and sentences:
        outcome.faults.append("message: an error, but the status is 0")
    if sentences:
        last = [line for line in lines[sentences[0] :] if line]
        if len(last) > 2 or (len(last) == 2 and not last[1].startswith("  hint: ")):
            outcome.faults.append(f"message: more than a sentence and a hint: {last[:4]!r}")
        if sum(map(len, last)) > _LONGEST_MESSAGE:
            outcome.faults.append(f"message: {sum(map(len, last)):,} characters")
    if found := _CONTROLS.search(err):
        outcome.faults.append(f"control on stderr: {err[max(0, found.start() - 80) : found.start() + 80]!r}")
    if (call.terminal or not call.text_out) and (found := _CONTROLS.search(out)):
        outcome.faults.append(f"control on stdout: {out[max(0, found.start() - 80) : found.start() + 80]!r}")


_CONVERTED = {"ctranslate2", "onnx-cache"}
"""Folders inside a run that keep what a model was converted to."""


def _check_left(call: Call, outcome: Outcome, before: dict[str, tuple[int, int]], folder: Path) -> None:
    """Files, threads and processes that nobody asked for."""
    resource_tracker._resource_tracker._stop()  # of the standard library: it ends with its process
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        outcome.faults.append("left: a process")
    if threading.active_count() > 1:
        outcome.faults.append(f"left: threads {[thread.name for thread in threading.enumerate()][1:3]}")
    if left := sorted(os.listdir(folder / "tmp")):
        outcome.faults.append(f"left in the temporary folder: {left[:3]}")
    if (folder / "cache").exists():
        left = [name for name in _entries(folder / "cache") if ".tmp" in name or ".part" in name]
        if left:
            outcome.faults.append(f"left in the cache: {left[:3]}")
    after = _entries(folder / "work")
    names = {name for name in {*before, *after} if not _CONVERTED & set(name.split("/"))}
    asked_for = [*call.outputs, *_text(folder / "out").splitlines()]  # commands print what they have written
    altered = [one for one in names if after.get(one) != before.get(one) and not _below(one, asked_for)]
    if new := sorted(name for name in altered if name not in before):
        outcome.faults.append(f"left in the working folder: {new[:3]}")
    if not call.changes_inputs and (changed := sorted(name for name in altered if name in before)):
        outcome.faults.append(f"changed: {changed[:3]}")


def _below(name: str, allowed: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}/") for one in allowed)


def _entries(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files below a folder, by their paths in it."""
    found: dict[str, tuple[int, int]] = {}
    for root, folders, files in os.walk(folder):
        for name in files:
            path = os.path.join(root, name)
            about = os.lstat(path)
            found[os.path.relpath(path, folder)] = (about.st_size, about.st_mtime_ns)
        for name in folders:
            found[os.path.relpath(os.path.join(root, name), folder)] = (0, 0)
    return found


def _processor_time(process: int) -> float:
    """Seconds of processor time that a process has used."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _memory(kind: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(_OUTPUT).decode("utf-8", "replace")
