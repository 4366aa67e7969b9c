"""Hostile input: calls every command with generated files, models and options, and counts what must not happen.

    python benchmarks/reliability/hostile_input.py --cases 20000 --seed 1
    python benchmarks/reliability/hostile_input.py --command inspect --case 1234   # one case again

Each case is a function of its command and its number. Some cases share a process, which is forked from one that has
everything imported. A failure is a traceback, an internal error or a warning of a library, a crash, a hang (seconds of
processor time, or of waiting), more memory than the bound, another exit status than 0, 1, 2, 130 and 143, an error of
more than a sentence and a hint, a control character on standard error (and on standard output, where that is a terminal
or written for people), a file, thread or process that is left behind, and an input that was changed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import os
import pkgutil
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parent))

from hostile import models  # noqa: E402
from hostile.calls import COMMANDS, make_call  # noqa: E402
from hostile.forked_calls import Call, Limits, outcomes  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Runs the campaign. Returns 1 when a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="cases in all commands together")
    parser.add_argument("--seed", type=int, default=1, help="number of the first case of each command, in millions")
    parser.add_argument("--command", choices=COMMANDS, action="append", help="only this command (repeatable)")
    parser.add_argument("--case", type=int, help="only the case with this number, and show it")
    parser.add_argument("--cpu", type=int, default=Limits.cpu, help="seconds of processor time of a case")
    parser.add_argument("--memory", type=int, default=Limits.memory // 2**20, help="MiB of a case")
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--models", type=Path, help="folder in which the models to damage stay for the next call")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell turns off in the background
    limits = Limits(cpu=options.cpu, memory=options.memory * 2**20)
    with tempfile.TemporaryDirectory(dir=options.work or _memory_disk()) as root:
        zoo = options.models or Path(root) / "zoo"
        warm_up()
        if not zoo.exists():
            build_zoo(zoo)
        if options.case is not None:
            return show_case((options.command[0], options.case), zoo, Path(root) / "case", limits)
        cases = list(numbered(options.command or list(COMMANDS), options.cases, options.seed))
        return campaign(cases, zoo, Path(root), limits)


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def numbered(commands: list[str], cases: int, seed: int) -> Iterator[tuple[str, int]]:
    """Commands with the numbers of their cases, in turns, in proportion to their shares."""
    shares = {command: COMMANDS[command][2] for command in commands}
    total = sum(shares.values())
    credit = dict.fromkeys(commands, 0.0)
    number = dict.fromkeys(commands, seed * 1_000_000)
    for _ in range(cases):
        for command in commands:
            credit[command] += shares[command] / total
        command = max(commands, key=credit.__getitem__)
        credit[command] -= 1
        yield command, number[command]
        number[command] += 1


def warm_up() -> None:
    """Imports everything, so that a forked process need not."""
    import nlpcli

    for module in pkgutil.walk_packages(nlpcli.__path__, "nlpcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("sentencepiece", "tokenizers", "safetensors.torch", "sacrebleu", "jiwer", "zstandard",
                 "sklearn.cluster",
                 "matplotlib.figure", "matplotlib.backends.backend_agg", "torch._dynamo", "faiss",
                 "torch.nn.modules.transformer"):  # fmt: skip
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def build_zoo(zoo: Path) -> None:
    """Makes the models to damage, in a process of its own. Raises: SystemExit when one of them can't be made."""
    zoo.mkdir()
    zoo = zoo.absolute()
    process = os.fork()
    if process == 0:
        try:
            os.chdir(zoo)
            os.environ["NLPCLI_CACHE"] = str(zoo / "cache")
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
                failed = models.build(zoo)
            if failed:
                print(*failed, stderr.getvalue()[-3000:], sep="\n", file=sys.stderr, flush=True)
        except BaseException:
            import traceback

            traceback.print_exc()
            failed = ["x"]
        os._exit(bool(failed))
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        raise SystemExit("the models could not be made")


def campaign(cases: list[tuple[str, int]], zoo: Path, root: Path, limits: Limits) -> int:
    """Runs all cases. Prints each failure as it comes, then a table. Returns 1 when there was one."""
    gc.collect()
    gc.freeze()
    tried, failed, seconds = Counter[str](), Counter[str](), Counter[str]()
    statuses: dict[str, Counter[int | None]] = {command: Counter() for command in COMMANDS}
    most, slowest, began = 0, 0.0, time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):  # what was tried until then is reported
        for (command, number), outcome in zip(cases, outcomes(cases, maker(zoo), root / "case", limits), strict=True):
            tried[command] += 1
            seconds[command] += outcome.seconds
            statuses[command][outcome.status] += 1
            most, slowest = max(most, outcome.growth), max(slowest, outcome.seconds)
            if outcome.faults:
                failed[command] += 1
                print(f"FAILED --command {command!r} --case {number}", *outcome.faults, sep="\n    ", flush=True)
            if tried.total() % 500 == 0:
                print(
                    f"{tried.total():,} cases, {failed.total():,} failures, {time.monotonic() - began:,.0f} s",
                    flush=True,
                )
    print(f"{'command':<20} {'cases':>7} {'failures':>8} {'ms/case':>8}  statuses")
    for command in tried:
        ended = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses[command].items(), key=str))
        mean = 1000 * seconds[command] / tried[command]
        print(f"{command:<20} {tried[command]:>7,} {failed[command]:>8,} {mean:>8.0f}  {ended}")
    print(
        f"{tried.total():,} cases, {failed.total():,} failures, {time.monotonic() - began:,.0f} s; slowest case "
        f"{slowest:.1f} s; most memory of a case {most / 2**20:,.0f} MiB (bound {limits.memory / 2**20:,.0f} MiB)"
    )
    return bool(failed)


def maker(zoo: Path, *, show: bool = False) -> Callable[[tuple[str, int], Path], Call]:
    """The function that makes the call of a case and its files. show: print them."""

    def make(case: tuple[str, int], work: Path) -> Call:
        call = make_call(*case, zoo, work)
        if show:
            print("nlpcli", shlex.join(call.argv), "<", call.stdin, "terminal" if call.terminal else "")
            for path in sorted(work.glob("*")):
                regular = path.is_file() and not path.is_symlink()
                print(" ", ascii(path.name), path.read_bytes()[:300] if regular else "", flush=True)
        return call

    return make


def show_case(case: tuple[str, int], zoo: Path, folder: Path, limits: Limits) -> int:
    """Runs one case and prints its files and what it wrote. Returns 1 when it failed."""
    [outcome] = outcomes([case], maker(zoo, show=True), folder, limits, keep=True)
    for name in ("out", "err"):
        print(f"{name}: {(folder / name).read_text('utf-8', 'replace')[-3000:]!a}")
    print(f"status {outcome.status}, {outcome.seconds:.2f} s, {outcome.growth / 2**20:,.0f} MiB")
    print(*outcome.faults or ["no fault"], sep="\n")
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
