"""Copying and reversing random symbols, up to twice as many as in training: what does each attention carry over?

    python benchmarks/attention/copy_reversal.py OUT [--steps 500] [--only bahdanau …] [--tasks copy reversal]

Training: strings of 5 to 20 of 20 symbols, drawn anew for each task. Test: 200 strings of each of the lengths 10, 20,
30 and 40. Every preset has the same sizes, text, steps and batches; translations are found greedily. Prints, of each
length, the share of strings without an error, and the share of places whose symbol is right, in percent.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping
from pathlib import Path

import nlpcli

PRESETS = (
    "rnn-seq2seq", "bahdanau", "luong-global", "luong-local-m", "luong-local-p", "luong-location", "hard-attention",
    "transformer-tiny",
)  # fmt: skip
TASKS = {"copy": lambda symbols: symbols, "reversal": lambda symbols: symbols[::-1]}
SYMBOLS = "abcdefghijklmnopqrst"
SHORTEST, LONGEST, TESTED = 5, 20, (10, 20, 30, 40)
TRAINED, DEV, TEST = 20_000, 200, 200
SETTINGS = {
    "model.dropout": 0.0, "model.d_model": 128, "data.max_length": 64,
    "tokenizer.type": "words", "tokenizer.vocab_size": 28,
    "training.batch_tokens": 1024, "training.lr": 3e-3, "training.schedule": "linear", "training.warmup_steps": 100,
    "training.label_smoothing": 0.0, "training.average_last": 0, "training.metric": "loss",
    "training.bleu_sentences": 0, "training.evaluate_every": 100_000, "training.precision": "float32",
}  # fmt: skip


def strings(count: int, lengths: tuple[int, ...], seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [draw.choices(SYMBOLS, k=draw.choice(lengths)) for _ in range(count)]


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def files(out: Path, task: str, part: str, rows: list[list[str]]) -> list[Path]:
    found = {"source": rows, "target": [list(TASKS[task](row)) for row in rows]}
    return [write(out / f"{task}-{part}.{side}", side_rows) for side, side_rows in found.items()]


def sizes(preset: str) -> Mapping[str, object]:
    """Settings that not every family has."""
    if preset == "transformer-tiny":
        return {"model.d_ff": 256, "training.optimizer": "adamw", "training.lr": 1e-3}
    return {"model.d_embedding": 64} | ({"model.max_length": 64} if preset == "luong-location" else {})


def accuracy(run: nlpcli.Run, task: str, length: int) -> tuple[float, float]:
    """Strings without an error, and places with the right symbol, in percent."""
    rows = strings(TEST, (length,), 1000 + length)
    found = nlpcli.translate([" ".join(row) for row in rows], model=run, beam_size=1, max_length=2 * length, threads=1)
    pairs = [(list(TASKS[task](row)), one.text.split()) for row, one in zip(rows, found, strict=True)]
    whole = sum(wanted == got for wanted, got in pairs) / TEST
    right = sum(a == b for wanted, got in pairs for a, b in zip(wanted, got, strict=False)) / (TEST * length)
    return 100 * whole, 100 * right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--only", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| task | preset | " + " | ".join(f"{length} symbols" for length in TESTED) + " | seconds |")
    print("|---|---|" + "---|" * len(TESTED) + "---|", flush=True)
    for number, task in enumerate(options.tasks):
        lengths = tuple(range(SHORTEST, LONGEST + 1))
        train = files(options.out, task, "train", strings(TRAINED, lengths, 1 + number))
        dev = files(options.out, task, "dev", strings(DEV, lengths, 11 + number))
        for preset in options.only:
            began = time.perf_counter()
            run = nlpcli.finetune(
                "translation", preset=preset, train=train, dev=dev, out=options.out / f"{task}-{preset}",
                max_steps=options.steps, overwrite=True, device="cpu", threads=1,
                settings={**SETTINGS, **sizes(preset)},
            )  # fmt: skip
            seconds = time.perf_counter() - began
            cells = [f"{whole:.1f} / {right:.1f}" for whole, right in (accuracy(run, task, n) for n in TESTED)]
            print(f"| {task} | `{preset}` | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
