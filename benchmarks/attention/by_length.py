"""BLEU of translations by the length of their sources, and whether the gap between systems grows with it.

    python benchmarks/attention/by_length.py SOURCE REFERENCE BASELINE SYSTEM ... [--groups 4] [--samples 2000]

Each file has a sentence on each line. The sentences are sorted by the number of words of their sources and cut into
groups of equal size. For each system: BLEU of each group (tokenized text, as sacreBLEU's `--tokenize none`), and the
gap to the baseline in the last group minus that in the first, with the interval and the one-sided share of paired
bootstrap samples (sentences are drawn within each group, the same for all systems) in which it is not above 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sacrebleu.metrics.bleu import BLEU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("systems", type=Path, nargs="+")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=12345)
    options = parser.parse_args()
    source, reference = lines(options.source), lines(options.reference)
    words = np.array([len(line.split()) for line in source])
    groups = np.array_split(np.argsort(words, kind="stable"), options.groups)
    bounds = [f"{words[group].min()}-{words[group].max()}" for group in groups]
    tables = [statistics(lines(path), reference) for path in (options.baseline, *options.systems)]
    rng = np.random.default_rng(options.seed)
    draws = [rng.choice(group, size=(options.samples, len(group))) for group in groups]
    print("system", *(f"{bound} words" for bound in bounds), "all", "gap(last) - gap(first)", sep="\t")
    base = scores(tables[0], groups)
    for path, table in zip((options.baseline, *options.systems), tables, strict=True):
        own = scores(table, groups)
        row = [path.name, *(f"{value:.2f}" for value in own), f"{bleu(table.sum(0)):.2f}"]
        if table is not tables[0]:
            growth = (own[-1] - base[-1]) - (own[0] - base[0])
            first, last = (resampled(table, draw) - resampled(tables[0], draw) for draw in (draws[0], draws[-1]))
            low, high = np.quantile(last - first, [0.025, 0.975])
            row.append(f"{growth:+.2f} [{low:+.2f}, {high:+.2f}], p {np.mean(last - first <= 0):.3f}")
        print(*row, sep="\t")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def statistics(hypotheses: list[str], references: list[str]) -> np.ndarray:
    """(sentences, 10): hypothesis and reference length, matches and totals of the four orders."""
    metric = BLEU(tokenize="none", force=True)
    return np.array(metric._extract_corpus_statistics(hypotheses, [references]), dtype=np.float64)


def bleu(sums: np.ndarray) -> float:
    """BLEU with sacreBLEU's smoothing of the summed statistics."""
    whole = [round(value) for value in sums]
    return BLEU.compute_bleu(correct=whole[2:6], total=whole[6:10], sys_len=whole[0], ref_len=whole[1]).score


def scores(table: np.ndarray, groups: list[np.ndarray]) -> list[float]:
    return [bleu(table[group].sum(0)) for group in groups]


def resampled(table: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return np.array([bleu(table[draw].sum(0)) for draw in draws])


if __name__ == "__main__":
    main()
