"""How the time of attention grows with the text: 512 to 32,768 tokens, forward and backward.

    python benchmarks/attention/scaling.py --out scaling          # scaling.md, scaling.png and scaling.jsonl
    python benchmarks/attention/scaling.py --out one --attention "window:64" --longest 8192

One text, 4 heads of width 64, float32, one thread, as in cost.py: full attention is PyTorch's fused kernel, the causal
one for causal entries. For each length the kinds and both full ones take turns; times are medians of the processor time
of this process. The exponent e is that of n^e, fitted by least squares to the logarithms from 4,096 tokens on. An entry
is faster than full attention from the length on at which the lines between its measured points cross for good.
A line that is there already is not measured again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from pathlib import Path

from cost import full, work

ENTRIES = [
    "window:128", "causal & window:256", "window:128+global:16", "dilated:128:4", "bigbird:64",
    "causal & (window:64+strided:64)",
    "linear", "linear & causal", "performer:256", "performer:256 & causal", "gated-delta & causal", "linformer:256",
    "lsh:32:1:64", "lsh:32:1:64 & causal", "lsh:32:4:64", "routing:32:64", "synthesizer-dense",
]  # fmt: skip
FITTED_FROM = 4096


def lengths(longest: int) -> list[int]:
    return [512 * 2**i for i in range(20) if 512 * 2**i <= longest]


def measure(entries: list[str], length: int, repeat: int) -> dict[str, float]:
    """Seconds of processor time of each entry."""
    calls = {text: work(text, length) for text in entries}
    found: dict[str, list[float]] = {text: [] for text in entries}
    for number in range(repeat + 1):
        for text, call in calls.items():
            if number == 0 and length > 4096:
                continue  # what is set up at the first call weighs little
            start = time.process_time()
            call()
            if number:
                found[text].append(time.process_time() - start)
    return {text: statistics.median(seconds) for text, seconds in found.items()}


def exponent(points: dict[int, float]) -> float:
    """e of the least squares line log t = e log n + c."""
    pairs = [(math.log(n), math.log(t)) for n, t in points.items() if n >= FITTED_FROM]
    x, y = (statistics.fmean(pair[i] for pair in pairs) for i in (0, 1))
    return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)


def crossing(own: dict[int, float], plain: dict[int, float]) -> float | None:
    """The length from which on it is faster; 0 where it always is, None where it never is."""
    ratios = [(n, math.log(own[n] / plain[n])) for n in sorted(own)]
    if ratios[-1][1] >= 0:
        return None
    for (n, a), (m, b) in reversed(list(itertools.pairwise(ratios))):
        if a >= 0:
            return n * (m / n) ** (a / (a - b))
    return 0.0


def table(times: dict[str, dict[int, float]]) -> str:
    shown = [n for n in (1024, 4096, 16384, 32768) if n in times["full"]]
    lines = [f"| attention | exponent | {' | '.join(f'full / it at {n:,}' for n in shown)} | faster from |",
             "| --- " * (len(shown) + 3) + "|"]  # fmt: skip
    for text, own in times.items():
        plain = times[full(text)]
        cross = crossing(own, plain) if own is not plain else None
        faster = "" if own is plain else "never" if cross is None else f"{round(cross, -1):,.0f}" if cross else "always"
        ratios = [f"{plain[n] / own[n]:.1f}" if n in own and n in plain else "" for n in shown]
        lines.append(f"| `{text}` | {exponent(own):.2f} | {' | '.join(ratios)} | {faster} |")
    return "\n".join(lines) + "\n"


def picture(times: dict[str, dict[int, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    for axis, causal in zip(axes, (False, True), strict=True):
        chosen = [text for text in times if (full(text) == "causal") == causal]
        for number, text in enumerate(chosen):
            plain = text in ("full", "causal")
            colour = "black" if plain else f"C{number % 10}"
            label = text.replace(" & causal", "").replace("causal & ", "")
            style = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 2.2 if plain else 1.2}
            axis.plot(times[text].keys(), times[text].values(), label=label, **style)
        axis.set(xscale="log", yscale="log", xlabel="tokens", title="causal" if causal else "both ways")
        axis.set_xticks(list(times["full"]), [f"{n:,}" for n in times["full"]], rotation=45)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("seconds, forward and backward")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the names of the files, without what follows the dot")
    parser.add_argument("--attention", action="append", help="default: one or two of each kind")
    parser.add_argument("--longest", type=int, default=32768)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    entries = ["full", "causal", *(given.attention or ENTRIES)]
    record = given.out.with_suffix(".jsonl")
    known: dict[str, dict[int, float]] = {text: {} for text in entries}
    for line in record.read_text().splitlines() if record.exists() else []:
        row = json.loads(line)
        known.setdefault(row["attention"], {})[row["length"]] = row["seconds"]
    for length in lengths(given.longest):
        missing = [text for text in entries if length not in known[text]]
        repeat = given.repeat if length <= 8192 else 1
        for text, seconds in measure(missing, length, repeat).items() if missing else []:
            known[text][length] = seconds
            with record.open("a") as file:
                file.write(json.dumps({"attention": text, "length": length, "seconds": round(seconds, 5)}) + "\n")
    times = {text: known[text] for text in entries}
    given.out.with_suffix(".md").write_text(table(times))
    print(table(times), end="")
    picture(times, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
