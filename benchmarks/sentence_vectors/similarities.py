"""How well do the cosines of sentence vectors rank pairs of sentences as people do?

    python benchmarks/sentence_vectors/similarities.py --sts sts-dev.csv --sick SICK_test_annotated.txt \
        NAME=MODEL[:POOLING] …

MODEL is a run, a Hugging Face folder or a file of word vectors, POOLING as in `nlpcli embed` (the model's own, if none
is named). Prints a row for each: the correlations of Spearman and Pearson with the scores of STS-B and SICK, times 100,
with the 95 % interval of the first. The pooling sif leaves out the first principal component of all sentences of one
data set, as Arora et al. 2017 do.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import nlpcli

Pair = tuple[str, str, float]


def rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        yield from (line.rstrip("\r\n").split("\t") for line in file)


def sts(path: Path) -> list[Pair]:
    """genre, file, year, number, score, two sentences"""
    return [(row[5], row[6], float(row[4])) for row in rows(path)]


def sick(path: Path) -> list[Pair]:
    """number, two sentences, relatedness, entailment; with a header"""
    return [(row[1], row[2], float(row[3])) for row in list(rows(path))[1:]]


def cosines(model: nlpcli.Model, pooling: str | None, pairs: list[Pair]) -> list[float]:
    texts = list(dict.fromkeys(text for pair in pairs for text in pair[:2]))
    place = {text: number for number, text in enumerate(texts)}
    vectors = model.embed(texts, pooling=pooling).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return [float(vectors[place[first]] @ vectors[place[second]]) for first, second, _ in pairs]


def row(name: str, source: str, data: list[list[Pair]]) -> str:
    folder, _, pooling = source.partition(":")
    model = nlpcli.load(folder, device="cpu", threads=1)
    cells = [name]
    for pairs in data:
        found, references = cosines(model, pooling or None, pairs), [score for *_, score in pairs]
        rank = nlpcli.score("spearman", found, references, confidence=True)
        cells.append(f"{rank.value:.1f} ({rank.low:.1f} to {rank.high:.1f})")
        cells.append(f"{nlpcli.score('pearson', found, references).value:.1f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--sick", type=Path, required=True)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL[:POOLING]")
    options = parser.parse_args()
    data = [sts(options.sts), sick(options.sick)]
    print(
        "| vectors | STS-B dev, Spearman | Pearson | SICK test, Spearman | Pearson |\n|---|---|---|---|---|", flush=True
    )
    for entry in options.models:
        name, _, source = entry.partition("=")
        print(row(name, source, data), flush=True)


if __name__ == "__main__":
    main()
