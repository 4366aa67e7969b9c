"""A CSV file with a header in two: every fifth row (0, 5, 10, …) for the dev set, the others for training.

    python benchmarks/finetuning/pretrained/split.py cedr-main-train.csv.gz train.csv dev.csv

As `benchmarks/pretraining/texts.py` leaves out the rows of the dev set.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path


def main(source: Path, train: Path, dev: Path) -> None:
    text = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    header, *rows = csv.reader(io.StringIO(text.decode("utf-8"), newline=""))
    for path, part in ((train, [row for number, row in enumerate(rows) if number % 5]), (dev, rows[::5])):
        with path.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([header, *part])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
