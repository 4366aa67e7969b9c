"""Long documents whose label stands at their end: news stories behind text of Wikipedia.

    python benchmarks/attention/long_documents.py make AG_NEWS WIKITEXT2 --out FOLDER
    python benchmarks/attention/long_documents.py train FOLDER --minutes 4 --attention longformer:128 --attention full

make: AG_NEWS is a folder with test.csv.gz (class, title, text), WIKITEXT2 one with train.txt.gz. Writes train.jsonl
(1,500 documents), dev.jsonl and test.jsonl (200 each): `--words` consecutive words of WikiText-2, then
`--stories` stories of AG News of one topic, which is the label. The stories of the three files are different ones; a
training story stands in several documents. short-train.jsonl and short-dev.jsonl are the same stories, one by one.
With 4,500 words the first story begins more than 6,000 tokens (of 4,000 wordpieces) after the first token, at which a
classifier of the BERT family looks.

train: a tokenizer, a classifier of single stories (3 minutes, encoder of 2 layers and d_model 64), and from that one,
for each `--attention`, a classifier of the documents, with equal minutes for all. Prints accuracy on dev.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

TOPICS = {"1": "world", "2": "sports", "3": "business", "4": "technology"}


def stories(folder: Path) -> list[tuple[str, str]]:
    with gzip.open(folder / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [(TOPICS[label], f"{title} {text}".replace("\\", " ")) for label, title, text in csv.reader(file)]


def documents_of(
    stories_of: dict[str, list[str]], words: list[str], given: argparse.Namespace, draw: random.Random
) -> Iterator[tuple[str, str]]:
    while True:
        topic = draw.choice(list(stories_of))
        start = draw.randrange(len(words) - given.words)
        yield " ".join([*words[start : start + given.words], *draw.sample(stories_of[topic], given.stories)]), topic


def write(path: Path, examples: Iterable[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for text, label in examples:
            file.write(json.dumps({"text": text, "label": label}) + "\n")


def make(given: argparse.Namespace) -> None:
    draw = random.Random(1)
    found = stories(given.ag_news)
    draw.shuffle(found)
    with gzip.open(given.wikitext2 / "train.txt.gz", "rt", encoding="utf-8") as file:
        words = file.read().split()
    given.out.mkdir(parents=True, exist_ok=True)
    parts = {"train": (found[:6000], 1500), "dev": (found[6000:6800], 200), "test": (found[6800:], 200)}
    for name, (part, documents) in parts.items():
        if name != "test":
            write(given.out / f"short-{name}.jsonl", ((story, topic) for topic, story in part))
        of_topic = {topic: [story for label, story in part if label == topic] for topic in TOPICS.values()}
        write(given.out / f"{name}.jsonl", islice(documents_of(of_topic, words, given, draw), documents))


def nlpcli(*arguments: object, settings: dict[str, object] | None = None) -> None:
    more = [word for name, value in (settings or {}).items() for word in ("--set", f"{name}={value}")]
    subprocess.run([sys.executable, "-m", "nlpcli", *map(str, arguments), *more], check=True)


def train(given: argparse.Namespace) -> None:
    data, runs = given.data, given.data / "runs"
    runs.mkdir(exist_ok=True)
    text, tokenizer, short = runs / "text.txt", runs / "tokenizer", runs / "short"
    if not (short / "README.md").exists():
        with open(text, "w", encoding="utf-8") as file:
            for name, count in (("train", 300), ("short-train", None)):
                with open(data / f"{name}.jsonl", encoding="utf-8") as lines:
                    file.writelines(json.loads(line)["text"] + "\n" for line in islice(lines, count))
        nlpcli("tokenize", "train", "--type", "wordpiece", "--vocab-size", 4000, text, "--out", tokenizer)
        nlpcli(
            "finetune", "--task", "classify", "--model", "bert-nano", "--train", data / "short-train.jsonl",
            "--dev", data / "short-dev.jsonl", "--tokenizer", tokenizer, "--max-minutes", 3, "--out", short,
            settings={**EQUAL, **ENCODER, "data.max_length": 512, "training.batch_tokens": 4096, "training.lr": 2e-3},
        )  # fmt: skip
    for attention in given.attention:
        start, run = (runs / f"{attention.replace(':', '-')}{suffix}" for suffix in ("-start", ""))
        change = ["--attention", attention] if attention != "full" else []
        if change:
            nlpcli("convert", short, start, *change)
        nlpcli(
            "finetune", "--task", "classify", "--model", start if change else short, "--train", data / "train.jsonl",
            "--dev", data / "dev.jsonl", "--max-minutes", given.minutes, "--out", run,
            settings={**EQUAL, "data.max_length": 8192, "training.batch_tokens": 32768, "training.lr": 1e-3,
                      "training.warmup_steps": 10, "training.evaluate_every": 100_000},
        )  # fmt: skip


EQUAL = {"training.batch_size": "null", "training.max_epochs": "null", "training.max_steps": "null",
         "training.threads": 1, "training.precision": "float32"}  # fmt: skip
ENCODER = {"model.d_model": 64, "model.heads": 2, "model.d_ff": 256, "model.encoder_layers": 2,
           "model.max_length": 512, "model.positions": "sinusoidal", "model.norm_position": "pre"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make")
    making.add_argument("ag_news", type=Path)
    making.add_argument("wikitext2", type=Path)
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--words", type=int, default=4500)
    making.add_argument("--stories", type=int, default=4)
    making.set_defaults(command=make)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("--attention", action="append", required=True)
    training.add_argument("--minutes", type=float, default=4.0)
    training.set_defaults(command=train)
    given = parser.parse_args()
    given.command(given)


if __name__ == "__main__":
    main()
