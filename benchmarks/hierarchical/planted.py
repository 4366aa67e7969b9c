"""One sentence tells the label, nine don't: does attention find it, and is it better than the mean of the sentences?

    python benchmarks/hierarchical/planted.py CHNSENTICORP THUCNEWS_TITLES --out FOLDER

Each document is a short review of ChnSentiCorp, as one sentence, among nine titles of THUCNews, which are no opinions.
Of ChnSentiCorp train.tsv.gz and dev.tsv are read (a header; label, text), of THUCNews test.txt.gz for training and
dev.txt.gz (text, label).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import nlpcli

SENTENCES, SHORTEST, LONGEST = 10, 10, 50  # sentences of a document, characters of a sentence
_ENDS = "。！？!?.｡"


def sentences(path: Path, *, text: int) -> Iterator[tuple[str, str]]:
    """Label and text of each line that is no longer than a sentence, as one sentence. text: its column, 0 or 1."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip("\n").split("\t")
            written = "".join("，" if character in _ENDS else character for character in "".join(fields[text].split()))
            bare = written.strip("，")
            if SHORTEST <= len(bare) <= LONGEST:
                yield fields[1 - text], f"{bare}。"


def documents(opinions: Path, news: Path, part: str, count: int, seed: int) -> Iterator[tuple[str, int, str]]:
    """Label, place of the planted sentence, and text."""
    draw = random.Random(seed)
    files = {"train": ("train.tsv.gz", "test.txt.gz"), "dev": ("dev.tsv", "dev.txt.gz")}[part]
    planted = list(sentences(opinions / files[0], text=1))
    others = [title for _, title in sentences(news / files[1], text=0)]
    for _ in range(count):
        label, text = draw.choice(planted)
        texts = draw.sample(others, SENTENCES - 1)
        place = draw.randrange(SENTENCES)
        yield label, place, "".join([*texts[:place], text, *texts[place:]])


def write(path: Path, rows: list[tuple[str, int, str]]) -> Path:
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, _, text in rows), encoding="utf-8")
    return path


def attention_on(run: Path, rows: list[tuple[str, int, str]]) -> float:
    """The mean weight of the planted sentence."""
    from nlpcli.commands.visualize_attention.collect_maps import collect_attention
    from nlpcli.commands.visualize_attention.request import AttentionInput, AttentionRequest

    texts = (AttentionInput(text) for _, _, text in rows)
    seen = collect_attention(AttentionRequest(model=run, device="cpu", threads=1), texts, notify=print, warn=print)
    pairs = zip(rows, seen, strict=True)
    return float(np.mean([found.site("sentences").weights[0][0, 0, place] for (_, place, _), found in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("opinions", type=Path, metavar="CHNSENTICORP")
    parser.add_argument("news", type=Path, metavar="THUCNEWS_TITLES")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--epochs", type=float, default=6)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = {
        part: list(documents(given.opinions, given.news, part, count, seed))
        for part, count, seed in (("train", given.documents, 1), ("dev", 1000, 2))
    }
    files = {name: write(given.out / f"{name}.tsv", found) for name, found in rows.items()}
    for aggregation in ("attention", "mean", "max"):
        began = time.perf_counter()
        run = nlpcli.finetune(
            "classify", preset="han", train=files["train"], dev=files["dev"], out=given.out / aggregation,
            max_epochs=given.epochs, overwrite=True, device="cpu", threads=1,
            settings={
                "model.aggregation": aggregation, "model.d_embedding": 64, "model.d_model": 64, "model.d_attention": 64,
                "tokenizer.type": "chars", "tokenizer.vocab_size": 3000, "data.max_length": 400, "training.lr": 4e-3,
                "training.batch_size": 32, "training.precision": "float32",
            },
        )  # fmt: skip
        found = {"aggregation": aggregation, "accuracy": run.metrics["accuracy"]}
        if aggregation == "attention":
            found["attention on the planted sentence"] = round(attention_on(given.out / aggregation, rows["dev"]), 3)
        print(json.dumps({**found, "seconds": round(time.perf_counter() - began)}), flush=True)


if __name__ == "__main__":
    main()
