"""Scores of real systems against the numbers that others published for the same files.

    python benchmarks/scoring/published.py DATA_DIR

DATA_DIR holds the folders `wmt22-systems`, `asr-sctk` and `asr-earnings21`; README.md beside this file says where they
come from. Prints what was expected and what was measured; exits 1 if any two differ.
"""

from __future__ import annotations

import csv
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nlpcli.recipes.score import ScoreRequest, score

# chrF takes the first of the references that fit a segment equally well, so their order counts: Chinese was B, A.
REFERENCES = {"A": ("A",), "B": ("B",), "all": ("B", "A")}


@dataclass(frozen=True)
class Claim:
    """A published number and the request that must give it again."""

    what: str
    expected: float
    request: ScoreRequest
    key: str = "value"
    digits: int = 6


def translation(folder: Path) -> Iterator[Claim]:
    """Every BLEU and chrF of the WMT22 metrics task for the systems at hand."""
    with (folder / "automatic-scores.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            metric, _, which = row["metric"].partition("-")
            if metric not in ("bleu", "chrf"):
                continue
            target = row["pair"].split("-")[1]
            pair = folder / row["pair"]
            references = [pair / f"ref.{name}.{target}" for name in REFERENCES[which]]
            options = {"tokenize": "zh"} if metric == "bleu" and target == "zh" else {}
            yield Claim(
                f"{row['pair']} {row['system']} {row['metric']}",
                float(row["score"]),
                ScoreRequest(
                    hypotheses=(str(pair / f"hyp.{row['system']}.{target}"),),
                    references=tuple(str(path) for path in references if path.exists()),
                    metrics=(metric,),
                    options=options,
                ),
            )


def sclite(folder: Path) -> Iterator[Claim]:
    """The NIST tool's own example; it folds case and ids and counts the alternatives nearest to the hypothesis."""
    english = ScoreRequest(
        hypotheses=(str(folder / "csrnab.hyp"),),
        references=(str(folder / "csrnab.ref"),),
        metrics=("wer",),
        format="trn",
        options={"lowercase": True, "alternatives": True},
    )
    yield Claim("csrnab errors", 169, english, key="errors")
    yield Claim("csrnab words", 1406, english, key="reference_length")
    yield Claim("csrnab WER (sclite prints 12.0)", 12.0, english, digits=1)
    ukrainian = ScoreRequest(
        hypotheses=(str(folder / "test.ukranian.hyp"),),
        references=(str(folder / "test.ukranian.ref"),),
        metrics=("wer",),
        format="trn",
        options={"lowercase": True},
    )
    yield Claim("ukranian words", 66, ukrainian, key="reference_length")
    yield Claim("ukranian WER (sclite prints 13.6)", 13.6, ukrainian, digits=1)
    yield Claim("ukranian substitutions (10.6 %)", 7, ukrainian, key="substitutions")
    yield Claim("ukranian insertions (3.0 %)", 2, ukrainian, key="insertions")


def earnings(folder: Path, scratch: Path) -> Iterator[Claim]:
    """Two telephone conferences, each one utterance of about 4,000 words, lowercased tokens."""
    for call, errors, rate in (("4366522", 760, 18.2429), ("4387332", 748, 18.8461)):
        _, *rows = (folder / "ref" / f"{call}.nlp").read_text(encoding="utf-8").splitlines()
        reference = scratch / f"{call}.ref"
        reference.write_text(" ".join(row.split("|")[0] for row in rows) + "\n", encoding="utf-8")
        request = ScoreRequest(
            hypotheses=(str(folder / "hyp-rev-espnet" / f"{call}.txt"),),
            references=(str(reference),),
            metrics=("wer",),
            options={"lowercase": True},
        )
        yield Claim(f"earnings21 {call} errors", errors, request, key="errors")
        yield Claim(f"earnings21 {call} WER", rate, request, digits=4)


def main(data: Path) -> int:
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        claims = [
            *translation(data / "wmt22-systems"),
            *sclite(data / "asr-sctk"),
            *earnings(data / "asr-earnings21", Path(scratch)),
        ]
        for claim in claims:
            start = time.perf_counter()
            [row] = score(claim.request).scores
            seconds = time.perf_counter() - start
            got = row.score.as_dict()[claim.key]
            same = round(got, claim.digits) == round(claim.expected, claim.digits)
            differing += not same
            verdict = "same" if same else "DIFFERENT"
            expected, measured = (
                f"{value:12.{claim.digits}f}".rstrip("0").rstrip(".") for value in (claim.expected, got)
            )
            print(f"{claim.what:40} expected {expected:>12}  got {measured:>12}  {verdict}  {seconds:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(claims) - differing} of {len(claims)} the same; peak memory {peak:.0f} MiB")
    return 1 if differing else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DATA_DIR")
    sys.exit(main(Path(sys.argv[1])))
