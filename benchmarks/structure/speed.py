"""Whether a change of structure costs speed: the same work with two checkouts of this project, in turn.

    python benchmarks/structure/speed.py BEFORE AFTER [--rounds 5]

BEFORE and AFTER are folders of checkouts. Each round trains a language model and a translator with both for some
steps, and translates 200 lines with the translator of each, on one thread, first the one checkout and then the other,
the next time the other way round. Training is measured by the median tokens/s of its log, translation by the
processor time of a second call in one process (reading the model included). Printed for each: the median over the
rounds of AFTER's speed by BEFORE's, with the smallest and the greatest (above 1: AFTER is faster).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TRAINING = {
    "language model, training": ["pretrain", "--preset", "gpt-mini", "--max-steps", "120"],
    "translation, training": ["finetune", "--model", "transformer-tiny", "--max-steps", "30", "--batch-tokens", "1024"],
}
SETTINGS = [
    "training.evaluate_every=100000",
    "training.bleu_sentences=0",
    "training.metric=loss",
    "training.log_every=5",
]
BEAMS = {"translation, greedy": 1, "translation, beam 5": 5}
TRANSLATE = """
import sys, time
from nlpcli.cli.main import main
call = lambda file: main(["translate", "--model", sys.argv[1], "--beam-size", sys.argv[2], "--max-length", "30",
                          "--threads", "1", file])
call(sys.argv[3])
start = time.process_time()
call(sys.argv[3])
print(time.process_time() - start, file=sys.stderr)
"""


def run(checkout: Path, folder: Path, *command: str) -> str:
    """Standard error of a process."""
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "NLPCLI_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | own, cwd=checkout, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stderr


def training(checkout: Path, folder: Path, what: str) -> float:
    """Tokens/s."""
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    out = folder / what.partition(",")[0].replace(" ", "-")
    places = ["--threads", "1", "--precision", "float32", "--out", str(out), "--overwrite"]
    run(checkout, folder, "-m", "nlpcli", *TRAINING[what], *changes, *places)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(row["tokens_per_second"] for row in rows if "tokens_per_second" in row)


def decoding(checkout: Path, folder: Path, what: str) -> float:
    """Lines per second of processor time."""
    source = (checkout / "sample_data" / "tatoeba-en-de" / "dev.en").read_text(encoding="utf-8").splitlines()[:200]
    text = folder / "lines.txt"
    text.write_text("".join(f"{line}\n" for line in source), encoding="utf-8")
    found = run(checkout, folder, "-c", TRANSLATE, str(folder / "translation"), str(BEAMS[what]), str(text))
    return 200 / float(found.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
        folders = {side: Path(name) / side for side in checkouts}
        for folder in folders.values():
            folder.mkdir()
        ratios: dict[str, list[float]] = {what: [] for what in (*TRAINING, *BEAMS)}
        for number in range(options.rounds):
            for what, found in ratios.items():
                speed = {
                    side: (training if what in TRAINING else decoding)(checkouts[side], folders[side], what)
                    for side in sorted(checkouts, reverse=number % 2 == 1)
                }
                found.append(speed["after"] / speed["before"])
                print(f"{number + 1}\t{what}\t{found[-1]:.3f}", file=sys.stderr, flush=True)
        for what, values in ratios.items():
            print(f"{what}\t{statistics.median(values):.3f}\t{min(values):.3f}-{max(values):.3f}")


if __name__ == "__main__":
    main()
