"""What attention costs: processor time and memory of forward and backward, against full attention.

    python benchmarks/attention/cost.py                                     # the table of README.md
    python benchmarks/attention/cost.py --attention "window:64" --attention "linear & causal" --length 2048

One text, 4 heads of width 64, float32, one thread. Entries are those of `model.attention`. A causal one is compared
with full causal attention, another one with full attention, both through the layer's own core, that is PyTorch's
fused kernel. Runs alternate; times are medians of the processor time of this process, so that other programs count
little. Memory is the most that a process of its own holds while it computes, above what it held before (Linux only).
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

ENTRIES = ["window:128", "causal & window:256", "window:128+global:16", "dilated:128:4", "linear", "linear & causal",
           "performer:256", "performer:256 & causal", "gated-delta & causal", "linformer:256",
           "lsh:32:1:64", "lsh:32:1:64 & causal", "lsh:32:4:64 & causal", "routing:32:64 & causal"]  # fmt: skip
HEADS, WIDTH = 4, 64


def work(text: str, length: int):
    """A function that computes attention of this entry, forward and backward."""
    import torch

    from nlpcli.attention.kinds import parse_attention
    from nlpcli.attention.masks import AttentionMask

    torch.set_num_threads(1)
    entry = parse_attention(text)
    widths = (WIDTH, WIDTH + entry.kind.gates, WIDTH)
    leaves = [torch.randn(1, HEADS, length, width, requires_grad=True) for width in widths]
    direction = torch.randn(1, HEADS, length, WIDTH)
    mask, core = AttentionMask(entry.pattern), entry.core(length=length, heads=HEADS, d_key=WIDTH)

    def once() -> None:
        for leaf in leaves:
            leaf.grad = None
        core.forward(*leaves, mask).backward(direction)

    return once


def full(text: str) -> str:
    return "causal" if "causal" in text else "full"


def times(text: str, length: int, repeat: int) -> tuple[float, float]:
    """Seconds of processor time of full attention and of the entry: medians of alternating runs."""
    plain, own = work(full(text), length), work(text, length)
    work(text, 512)()  # first calls set things up
    own()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for call, seconds in zip((plain, own), found, strict=True):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return statistics.median(found[0]), statistics.median(found[1])


def memory(text: str, length: int) -> float:
    """Bytes that one computation takes at most, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak", "--attention", text, "--length", str(length)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak(text: str, length: int) -> float:
    work(text, 512)()  # what is set up once does not count
    call = work(text, length)
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
    parser.add_argument("--attention", action="append", help=f"default: {', '.join(ENTRIES)}")
    parser.add_argument("--length", type=int, action="append", help="default: 4096 and 16384")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(given.attention[0], given.length[0]))
        return
    for text in given.attention or ENTRIES:
        for length in given.length or [4096, 16384]:
            plain, own = times(text, length, given.repeat)
            most, ours = memory(full(text), length), memory(text, length)
            row = {
                "attention": text, "length": length, "full_seconds": round(plain, 4), "seconds": round(own, 4),
                "ratio": round(plain / own, 2), "full_bytes": round(most), "bytes": round(ours),
                "memory_ratio": round(ours / most, 2), "machine": platform.machine(),
            }  # fmt: skip
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
