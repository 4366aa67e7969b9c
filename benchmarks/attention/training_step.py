"""Speed and memory of a training step of the models of a grid, and what `nlpcli compare` has measured of them.

    python benchmarks/attention/training_step.py RUNS                  # the folder that `nlpcli compare --out` filled

Each model is made anew with its settings and reads 4 texts of 1,024 tokens, forward and backward, without an optimizer,
in float32 on one thread. Models take turns; tokens per second of processor time, median of `--repeat` rounds. Memory is
the most that a process of its own holds while it does so, above what it held before (Linux only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cost import status

ROWS, LENGTH = 4, 1024


def step(run: Path):
    """A function that does forward and backward of one batch."""
    import torch
    import yaml

    from nlpcli.models.build import build_model

    torch.set_num_threads(1)
    torch.manual_seed(1)
    settings = yaml.safe_load((run / "model.yaml").read_text())
    model = build_model(settings["model"], settings["vocab_size"]).train()
    ids = torch.randint(settings["vocab_size"], (ROWS, LENGTH))

    def once() -> None:
        model.zero_grad(set_to_none=True)
        model.trained_example(ids).square().mean().backward()

    return once


def peak(run: Path) -> float:
    call = step(run)
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak begins anew
    call()
    return 1024.0 * (status("VmHWM") - before)


def memory(run: Path) -> float:
    command = [sys.executable, __file__, "--peak", str(run)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measured(run: Path) -> dict[str, float]:
    """What the run's last evaluation gave."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "dev"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(given.runs))
        return
    runs = sorted(path.parent for path in given.runs.glob("*/model.yaml"))
    calls = {run: step(run) for run in runs}
    seconds: dict[Path, list[float]] = {run: [] for run in runs}
    for number in range(given.repeat + 1):
        for run, call in calls.items():
            start = time.process_time()
            call()
            if number:
                seconds[run].append(time.process_time() - start)
    print("| run | dev metrics | tokens/s | peak memory, MB |\n| --- | --- | --- | --- |")
    for run in runs:
        shown = {name: value for name, value in measured(run).items() if name in ("perplexity", "accuracy", "loss")}
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        speed = ROWS * LENGTH / statistics.median(seconds[run])
        print(f"| `{run.name}` | {text} | {speed:,.0f} | {memory(run) / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
