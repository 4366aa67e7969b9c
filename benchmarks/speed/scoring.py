"""Time and memory of `nlpcli score` beside the commands of sacreBLEU and jiwer, each in a fresh process, in turn.

    python benchmarks/speed/scoring.py [--lines 100000] [--rounds 5] [--processes 1 2] [--metrics bleu chrf wer]

The references are lines of --text (by default the English sample data), three sentences each, repeated with numbers in
them until there are enough. The hypotheses are these with every eighth word changed, left out or exchanged with its
neighbour. Printed are medians over the rounds: the elapsed time of ours by theirs, and the most memory of a process.
Both must find the same value.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "tatoeba-en-de" / "train.en.gz"
JIWER = """
import sys, jiwer
texts = [open(name, encoding="utf-8").read().split("\\n")[:-1] for name in sys.argv[1:]]
print(100 * jiwer.{}(*texts))
"""
SACREBLEU = [sys.executable, "-m", "sacrebleu", "reference", "-i", "hypothesis", "-b", "-w", "4", "-m"]
THEIRS = {
    "bleu": [*SACREBLEU, "bleu"],
    "chrf": [*SACREBLEU, "chrf"],
    "chrf++": [*SACREBLEU, "chrf", "--chrf-word-order", "2"],
    "ter": [*SACREBLEU, "ter"],
    "wer": [sys.executable, "-c", JIWER.format("wer"), "reference", "hypothesis"],
    "cer": [sys.executable, "-c", JIWER.format("cer"), "reference", "hypothesis"],
}


def write_texts(text: Path, folder: Path, lines: int) -> None:
    """The files `reference` and `hypothesis`."""
    rng = random.Random(1)
    with gzip.open(text, "rt", encoding="utf-8") if text.suffix == ".gz" else open(text, encoding="utf-8") as file:
        sentences = [line.strip() for line in file if line.strip()]
    with (
        open(folder / "reference", "w", encoding="utf-8") as reference,
        open(folder / "hypothesis", "w", encoding="utf-8") as hypothesis,
    ):
        for number in range(lines):
            words = " ".join(sentences[(3 * number + i) % len(sentences)] for i in range(3)).split()
            if 3 * number >= len(sentences):
                words.insert(rng.randrange(len(words)), f"{number:,}")
            reference.write(" ".join(words) + "\n")
            for place in range(rng.randrange(8), len(words), 8):
                kind = rng.randrange(3)
                if kind == 0:
                    words[place] = rng.choice(words)
                elif kind == 1:
                    words[place] = ""
                elif place:
                    words[place - 1 : place + 1] = words[place], words[place - 1]
            hypothesis.write(" ".join(word for word in words if word) + "\n")


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, the most MiB of a process, and the value."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    value = float(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} has failed")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--metrics", nargs="+", choices=THEIRS, default=["bleu", "chrf", "wer"])
    parser.add_argument("--text", type=Path, default=SAMPLE)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    print("| metric | processes | time, ratio | smallest | greatest | MiB, theirs | MiB, ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(given.text, folder, given.lines)
        for metric in given.metrics:
            ours = [sys.executable, "-m", "nlpcli", "score", metric, "hypothesis", "--ref", "reference"]
            ours += ["--score-only", "--decimals", "4"]
            ratios: dict[int, list[float]] = {count: [] for count in given.processes}
            memory: dict[int, list[float]] = {count: [] for count in (0, *given.processes)}
            for _ in range(given.rounds):
                seconds, size, expected = measured(THEIRS[metric], folder)
                memory[0].append(size)
                for count in given.processes:
                    own, size, value = measured([*ours, f"--processes={count}"], folder)
                    if abs(value - expected) > 1e-4:
                        sys.exit(f"{metric} is {value} with nlpcli, and {expected} with the other program")
                    ratios[count].append(own / seconds)
                    memory[count].append(size)
            for count in given.processes:
                middle, least, most = statistics.median(ratios[count]), min(ratios[count]), max(ratios[count])
                sizes = (statistics.median(memory[number]) for number in (0, count))
                print(f"| {metric} | {count} | {middle:.2f} | {least:.2f} | {most:.2f} | "
                      + " | ".join(f"{size:,.0f}" for size in sizes) + " |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
