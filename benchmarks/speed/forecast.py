"""Time and memory that `--dry-run` expects, beside what five different runs then need.

    python benchmarks/speed/forecast.py [--minutes 2]

Each command is run with --dry-run, then for real, on the sample data of nlpcli; both times its wall clock and the most
memory of its process are measured. The real run ends by steps, as many as fit into `--minutes` by a first forecast.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
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
    """stdout, seconds and the most bytes of memory of one command."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "nlpcli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    )
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return output, time.perf_counter() - begun, usage.ru_maxrss * 1024


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
            found, _, memory = call([*common, *limit, "--out", "run"], folder)
            seconds = json.loads(found)["seconds"]
            print(
                f"| {name} | {steps:,} | {expected['seconds']:.0f} s | {seconds:.0f} s "
                f"| {expected['seconds'] / seconds:.2f} | {expected['peak_memory'] / 1e6:.0f} MB "
                f"| {memory / 1e6:.0f} MB | {expected['peak_memory'] / memory:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
