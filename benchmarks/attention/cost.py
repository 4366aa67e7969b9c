"""What attention costs: processor time and memory of forward and backward, a pattern against full attention.

    python benchmarks/attention/cost.py                                     # the table of README.md
    python benchmarks/attention/cost.py --pattern "window:64" --length 2048

One text, 4 heads of width 64, float32, one thread. A causal pattern is compared with full causal attention, another one
with full attention, both through the layer's own core, that is PyTorch's fused kernel. Runs alternate; times are
medians of the processor time of this process, so that other programs count little. Memory is the most that a process of
its own holds while it computes, above what it held before (Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

PATTERNS = ["window:128", "causal & window:256", "window:128+global:16"]
HEADS, WIDTH = 4, 64


def work(pattern: str, length: int):
    """A function that computes attention in this pattern, forward and backward."""
    import torch

    from nlpcli.attention.masks import AttentionMask
    from nlpcli.attention.pattern_parser import parse
    from nlpcli.attention.softmax import SoftmaxAttention

    torch.set_num_threads(1)
    leaves = [torch.randn(1, HEADS, length, WIDTH, requires_grad=True) for _ in range(3)]
    direction = torch.randn(1, HEADS, length, WIDTH)
    mask, core = AttentionMask(parse(pattern)), SoftmaxAttention()

    def once() -> None:
        for leaf in leaves:
            leaf.grad = None
        core.forward(*leaves, mask).backward(direction)

    return once


def full(pattern: str) -> str:
    return "causal" if pattern.startswith("causal") else "full"


def times(pattern: str, length: int, repeat: int) -> tuple[float, float]:
    """Seconds of processor time of full attention and of the pattern: medians of alternating runs."""
    plain, own = work(full(pattern), length), work(pattern, length)
    work(pattern, 512)()  # first calls set things up
    own()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for call, seconds in zip((plain, own), found, strict=True):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return statistics.median(found[0]), statistics.median(found[1])


def memory(pattern: str, length: int) -> float:
    """Bytes that one computation takes at most, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak", "--pattern", pattern, "--length", str(length)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak(pattern: str, length: int) -> float:
    work(pattern, 512)()  # what is set up once does not count
    call = work(pattern, length)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    call()
    return 1024.0 * (status("VmHWM") - before)


def status(name: str) -> int:
    """Of this process, in KiB, as Linux tells it."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pattern", action="append", help=f"default: {', '.join(PATTERNS)}")
    parser.add_argument("--length", type=int, action="append", help="default: 4096 and 16384")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(given.pattern[0], given.length[0]))
        return
    for pattern in given.pattern or PATTERNS:
        for length in given.length or [4096, 16384]:
            plain, own = times(pattern, length, given.repeat)
            most, ours = memory(full(pattern), length), memory(pattern, length)
            row = {
                "pattern": pattern, "length": length, "full_seconds": round(plain, 4), "seconds": round(own, 4),
                "ratio": round(plain / own, 2), "full_bytes": round(most), "bytes": round(ours),
                "memory_ratio": round(ours / most, 2), "machine": platform.machine(),
            }  # fmt: skip
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
