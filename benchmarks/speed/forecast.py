"""Time and memory that `--dry-run` expects, beside what five different runs then need.

    python benchmarks/speed/forecast.py [--minutes 2]

Each command is run with --dry-run, then for real, on the sample data of nlpcli. The real run ends by steps, as many as
fit into `--minutes` by a first forecast. Its time is that on the clock, without the share in which other programs had
its processor: a forecast is of a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RUNS = {
    "causal language model": ["pretrain", "--objective", "clm", "--preset", "gpt-mini"],
    "masked language model": ["pretrain", "--objective", "mlm", "--preset", "roberta-nano"],
    "denoising": ["pretrain", "--objective", "denoise", "--preset", "bart-nano"],
    "classifier": ["finetune", "--task", "classify"],
    "translation": ["finetune", "--task", "translation"],
    "recurrent language model": ["pretrain", "--objective", "clm", "--preset", "lstm-lm"],
}


def call(arguments: list[str], folder: Path) -> tuple[str, float, int]:
    """stdout of one command, its share of the time without waiting for a processor, and its most bytes of memory."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nlpcli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    )
    busy = 1.0
    with ThreadPoolExecutor(1) as pool:
        assert process.stdout is not None
        output = pool.submit(process.stdout.read)
        while not output.done():
            time.sleep(0.2)
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                ran, waited = map(int, Path(f"/proc/{process.pid}/schedstat").read_text().split()[:2])
                busy = ran / (ran + waited)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return output.result().decode(), busy, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", action="append", choices=list(RUNS))
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads\n")
    print("| run | steps | time: forecast | needed | ratio | memory: forecast | needed | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in given.only or RUNS:
        with tempfile.TemporaryDirectory() as place:
            folder, common = Path(place), [*RUNS[name], "--threads", "1", "--json"]
            first = json.loads(call([*common, "--dry-run", "--max-steps", "1000"], folder)[0])
            steps = max(5, round(1000 * 60 * given.minutes / first["seconds"]))
            limit = ["--max-steps", str(steps)]
            expected = json.loads(call([*common, "--dry-run", *limit], folder)[0])
            found, busy, memory = call([*common, *limit, "--out", "run"], folder)
            seconds = busy * json.loads(found)["seconds"]
            print(
                f"| {name} | {steps:,} | {expected['seconds']:.0f} s | {seconds:.0f} s "
                f"| {expected['seconds'] / seconds:.2f} | {expected['peak_memory'] / 1e6:.0f} MB "
                f"| {memory / 1e6:.0f} MB | {expected['peak_memory'] / memory:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
