"""The training text of the alignment benchmark: pairs of several sources, lower-cased and cut as the gold text is.

    python benchmarks/alignment/prepare.py OUT --gold test.de test.en --dev val.de val.en \\
        --tabbed deu.txt.gz --pairs train.de.gz train.en.gz [--pairs …]

--tabbed: English TAB German, Tatoeba's form; --pairs: two files, German first. The gold sentences' own text is part of
what is trained on, as it is for FastAlign and Mgiza. OUT receives `train`, `dev` and `gold`, each in .de and .en.
"""

from __future__ import annotations

import argparse
import html
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nlpcli.data.readers import read_lines, read_parallel

Pair = tuple[str, str]  # German, English


def words(text: str) -> str:
    """Lower-cased, with spaces around everything that is neither letter nor digit."""
    text = html.unescape(text).lower().replace("\u00a0", " ").replace("\u200b", "")
    return " ".join(re.sub(r"([^\w\s])", r" \1 ", text).split())


def tabbed(path: str) -> Iterator[Pair]:
    for line in read_lines(path):
        english, german, *_ = line.split("\t")
        yield german, english


def write(out: Path, name: str, pairs: Iterable[Pair]) -> None:
    pairs = list(pairs)
    for side, language in enumerate(("de", "en")):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (out / f"{name}.{language}").write_text(text, encoding="utf-8", newline="\n")
    print(f"{name}: {len(pairs)} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name in ("gold", "dev"):
        parser.add_argument(f"--{name}", nargs=2, metavar=("DE", "EN"), required=True)
    parser.add_argument("--tabbed", action="append", default=[], metavar="FILE")
    parser.add_argument("--pairs", action="append", nargs=2, default=[], metavar=("DE", "EN"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    raw = [pair for path in given.tabbed for pair in tabbed(path)]
    raw += [pair for files in given.pairs for pair in read_parallel(*files)]
    gold = [(german.lower(), english.lower()) for german, english in read_parallel(*given.gold)]
    pairs = [(words(german), words(english)) for german, english in raw] + gold
    random.Random(1).shuffle(pairs)
    write(given.out, "train", (pair for pair in pairs if all(pair)))
    write(given.out, "dev", ((words(german), words(english)) for german, english in read_parallel(*given.dev)))
    write(given.out, "gold", gold)


if __name__ == "__main__":
    main()
