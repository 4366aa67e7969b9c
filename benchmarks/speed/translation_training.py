"""Training a Transformer for translation beside JoeyNMT's: the same shape, subwords, text and tokens a batch, in turn.

    python benchmarks/speed/translation_training.py TRAIN.en TRAIN.de OUT --joeynmt PYTHON [--joey-path FOLDER]

The first lines are passed over once. The shape is the preset transformer-tiny; JoeyNMT reads text that is cut into our
subwords already, shuffled (its default) and by length. One thread, float32 on both sides and bfloat16 of ours besides.
Target tokens a second of the clock, as the programs report them without their start; the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "attention"))
from speed_joeynmt import command, cut, nlp  # noqa: E402  # how JoeyNMT is run there

RATE, DROPOUT, BATCH_TOKENS = 0.002, 0.3, 4096


def settings(out: Path, name: str) -> dict[str, Any]:
    side = {"level": "word", "max_length": 500, "voc_file": str(out / "vocabulary.txt"), "tokenizer_cfg": {}}
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    part = {
        "type": "transformer", "num_layers": 4, "num_heads": 4, "hidden_size": 128, "ff_size": 256, "dropout": DROPOUT,
        "embeddings": {"embedding_dim": 128, "scale": True}, "layer_norm": "pre",
    }  # fmt: skip
    return {
        "name": "speed", "model_dir": str(out / f"joey-{name}"), "use_cuda": False, "fp16": False,
        "data": {
            "train": str(out / name), "dev": str(out / "dev"), "dataset_type": "plain",
            "src": {"lang": "en", **side}, "trg": {"lang": "de", **side},
            "special_symbols": special | {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3},
        },
        "testing": {"beam_size": 1},
        "training": {
            "optimizer": "adam", "learning_rate": RATE, "clip_grad_norm": 1.0, "label_smoothing": 0.1, "epochs": 1,
            "batch_size": BATCH_TOKENS, "batch_type": "token", "normalization": "tokens", "scheduling": "exponential",
            "decrease_factor": 1.0, "validation_freq": 100000, "logging_freq": 100000, "overwrite": True,
            "shuffle": name == "shuffled",
        },
        "model": {
            "initializer": "xavier_uniform", "tied_embeddings": True, "tied_softmax": True,
            "encoder": part, "decoder": part,
        },
    }  # fmt: skip


class Comparison:
    def __init__(self, given: argparse.Namespace) -> None:
        self.out, self.python, self.joey = given.out, given.joeynmt, given.joey_path
        self.out.mkdir(parents=True, exist_ok=True)
        for path, language in ((given.source, "en"), (given.target, "de")):
            lines = path.read_text(encoding="utf-8").split("\n")[: given.lines]
            (self.out / f"raw.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
            (self.out / f"raw-dev.{language}").write_text("\n".join(lines[:50]) + "\n", encoding="utf-8")
        self.files = [self.out / f"raw.{language}" for language in ("en", "de")]
        self.dev = [self.out / f"raw-dev.{language}" for language in ("en", "de")]
        tokenize = ("tokenize", "train", "--vocab-size", 8000, "--out", self.out / "tokenizer", "--overwrite")
        nlp(*tokenize, given.source, given.target)
        self.prepare()

    def prepare(self) -> None:
        """JoeyNMT's text, vocabulary and settings."""
        from nlpcli.runs.open_tokenizer import open_tokenizer

        tokenizer = open_tokenizer(self.out / "tokenizer")
        sides = [cut(tokenizer, path) for path in self.files]
        self.target_tokens = sum(len(line.split()) + 1 for line in sides[1])
        by_length = sorted(zip(*sides, strict=True), key=lambda pair: (len(pair[1].split()), len(pair[0].split())))
        texts = {"shuffled": sides, "sorted": list(zip(*by_length, strict=True)), "dev": [side[:50] for side in sides]}
        for name, both in texts.items():
            for lines, language in zip(both, ("en", "de"), strict=True):
                (self.out / f"{name}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        special = tokenizer.special
        first = [special.unk, special.pad, special.bos, special.eos]
        rest = (tokenizer.id_to_piece(id_) for id_ in range(tokenizer.vocab_size) if id_ not in first)
        names = ["<unk>", "<pad>", "<s>", "</s>", *rest]
        (self.out / "vocabulary.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for name in ("shuffled", "sorted"):
            (self.out / f"{name}.yaml").write_text(yaml.safe_dump(settings(self.out, name)), encoding="utf-8")

    def ours(self, precision: str) -> float:
        run = self.out / f"ours-{precision}"
        nlp(
            "finetune", "--task=translation", "--model=transformer-tiny", f"--tokenizer={self.out / 'tokenizer'}",
            "--train", *self.files, "--dev", *self.dev, "--max-epochs=1", f"--batch-tokens={BATCH_TOKENS}",
            f"--lr={RATE}", f"--precision={precision}", "--threads=1", "--overwrite", f"--out={run}",
            *(f"--set=training.{name}" for name in (
                "optimizer=adamw", "schedule=constant", "warmup_steps=0", "evaluate_every=1000000", "average_last=0",
                "metric=loss", "bleu_sentences=0",
            )),
        )  # fmt: skip
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return self.target_tokens / [row for row in rows if row["kind"] == "train"][-1]["seconds"]

    def theirs(self, name: str) -> float:
        more = {"PYTHONPATH": self.joey} if self.joey else {}
        log = command(self.python, "-m", "joeynmt", "train", self.out / f"{name}.yaml", "--skip-test", **more)
        found = re.search(r"num. of tokens: (\d+), ([\d.]+)\[sec\]", log)
        assert found is not None, log
        return self.target_tokens / float(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("source", "target", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--joeynmt", required=True, help="an interpreter that has JoeyNMT")
    parser.add_argument("--joey-path", default="", help="its PYTHONPATH, for JoeyNMT that is not installed")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    this = Comparison(given)
    programs = {
        "JoeyNMT, shuffled": lambda: this.theirs("shuffled"),
        "JoeyNMT, by length": lambda: this.theirs("sorted"),
        "float32": lambda: this.ours("float32"),
        "bfloat16": lambda: this.ours("bfloat16"),
    }
    speeds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(given.rounds):
        for name, program in programs.items():
            speeds[name].append(program())
    print("| program | target tokens/s | times JoeyNMT shuffled | lowest, highest | times JoeyNMT by length |")
    print("|---|---|---|---|---|")
    shuffled, by_length, *_ = speeds.values()
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(found, shuffled, strict=True)]
        other = statistics.median(a / b for a, b in zip(found, by_length, strict=True))
        print(
            f"| {name} | {statistics.median(found):,.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {other:.2f} |"
        )


if __name__ == "__main__":
    main()
