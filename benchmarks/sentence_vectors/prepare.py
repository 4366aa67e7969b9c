"""The text that all word and sentence vectors are trained on, and the pairs of InferSent.

    python benchmarks/sentence_vectors/prepare.py OUT --wiki train.txt valid.txt --captions train.en \
        --sts sts-train.csv --snli validation.tsv --sick SICK_train.txt

OUT gets text.txt and dev.txt (WikiText-2: one sentence a line, a blank line between paragraphs; text.txt ends with the
captions and the sentences of the pairs, each a paragraph of its own, in random order, none twice), and nli.tsv (pairs
with entailment, neutral or contradiction). Files that end in .gz are read, too.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

SHORTEST = 3  # words of a sentence
NLI = ("entailment", "neutral", "contradiction")
_END = re.compile(r"(?<= [.?!]) (?:(?=[^a-z])|(?<=[?!] ))|(?<= [.?!] \") ")


def lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        yield from (line.rstrip("\r\n") for line in file)


def paragraphs(path: Path) -> Iterator[list[str]]:
    """The paragraphs of WikiText as sentences, without headings, without what stands for unknown words."""
    for line in lines(path):
        if line.strip() and not line.startswith(" ="):
            text = re.sub(r" @(.)@ ", r"\1", line.strip()).replace("<unk>", " ")
            found = [" ".join(sentence.split()) for sentence in _END.split(text)]
            yield [sentence for sentence in found if len(sentence.split()) >= SHORTEST]


def sentences(options: argparse.Namespace) -> list[str]:
    """Captions and sentences of pairs, none twice, in random order."""
    found = [line.strip() for path in options.captions for line in lines(path)]
    found += [text for line in lines(options.sts) for text in line.split("\t")[5:7]]
    found += [text for line in list(lines(options.snli))[1:] for text in line.split("\t")[:2]]
    once = sorted({" ".join(text.split()) for text in found if len(text.split()) >= SHORTEST})
    random.Random(1).shuffle(once)
    return once


def write(path: Path, parts: list[list[str]]) -> None:
    path.write_text("\n".join("\n".join(part) + "\n" for part in parts if part), encoding="utf-8")
    count, words = sum(map(len, parts)), sum(len(line.split()) for part in parts for line in part)
    print(f"{path}: {count:,} sentences, {words:,} words")


def entailment_pairs(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    for line in list(lines(options.snli))[1:]:
        premise, hypothesis, label = line.split("\t")
        yield premise, hypothesis, NLI[int(label)]
    for line in list(lines(options.sick))[1:]:
        _, first, second, _, label = line.split("\t")
        yield first, second, label.lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wiki", type=Path, nargs=2, required=True)
    parser.add_argument("--captions", type=Path, nargs="*", default=[])
    for name in ("--sts", "--snli", "--sick"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train, dev = (list(paragraphs(path)) for path in options.wiki)
    write(options.out / "text.txt", train + [[sentence] for sentence in sentences(options)])
    write(options.out / "dev.txt", dev)
    with open(options.out / "nli.tsv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar=None, quotechar=None)
        table.writerow(("premise", "hypothesis", "label"))
        table.writerows(entailment_pairs(options))


if __name__ == "__main__":
    main()
