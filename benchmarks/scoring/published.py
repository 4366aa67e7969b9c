"""Scores of real systems against the numbers that others published for the same files.

    python benchmarks/scoring/published.py DATA_DIR [WORDNET_DIR]

DATA_DIR holds the folders `wmt22-systems`, `asr-sctk`, `asr-earnings21`, `squad`, `align-de-en` and `xsum-scoring`,
WORDNET_DIR the lists of irregular forms that ROUGE-1.5.5 needs; README.md beside this file says where they come from.
Prints what was expected and what was measured; exits 1 if any two differ.
"""

from __future__ import annotations

import csv
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nlpcli.commands.score.score import ScoreRequest, score

# chrF takes the first of the references that fit a segment equally well, so their order counts: Chinese was B, A.
REFERENCES = {"A": ("A",), "B": ("B",), "all": ("B", "A")}


@dataclass(frozen=True)
class Claim:
    """A published number and the request that must give it again, to these digits or within this distance."""

    what: str
    expected: float
    request: ScoreRequest
    key: str = "value"
    digits: int = 6
    within: float = 0.0


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


def answers(folder: Path) -> Iterator[Claim]:
    """Predictions of SQuAD 1.1's development set that its authors keep, by their script."""
    for name, exact, f1 in (
        ("bert-ensemble", 86.2062, 92.1956),
        ("logistic-regression-baseline", 40.1419, 50.9815),
    ):
        request = ScoreRequest(
            hypotheses=(str(folder / "predictions" / f"{name}.json.gz"),),
            references=(str(folder / "dev-v1.1.json.gz"),),
            metrics=("exact-match",),
        )
        yield Claim(f"squad {name} EM", exact, request, digits=4)
        yield Claim(f"squad {name} F1", f1, replace(request, metrics=("answer-f1",)), digits=4)


def alignments(folder: Path) -> Iterator[Claim]:
    """The stored word alignments of two aligners, with the numbers that stand beside them."""
    for name, numbers in (
        ("fastalign/test.deen", (28.5, 71.3, 71.8)),
        ("fastalign/test.deen.grow-diagonal", (27.0, 84.5, 64.1)),
        ("fastalign/test.deen.grow-diagonal-final", (27.7, 80.6, 65.4)),
        ("giza/test.deen", (21.0, 86.2, 72.8)),
        ("giza/test.deen.grow-diagonal", (21.4, 94.3, 67.2)),
        ("giza/test.deen.grow-diagonal-final", (20.6, 91.3, 70.2)),
    ):
        request = ScoreRequest(
            hypotheses=(str(folder / f"{name}.talp"),),
            references=(str(folder / "gold.talp"),),
            metrics=("aer",),
            options={"one_based": "ref"},
        )
        for key, expected in zip(("value", "precision", "recall"), numbers, strict=True):
            yield Claim(
                f"{name.replace('test.deen', '')} {'AER' if key == 'value' else key}", expected, request, key, 1
            )


def summaries(folder: Path, wordnet: Path) -> Iterator[Claim]:
    """ConvS2S on XSum by ROUGE-1.5.5 with stemming; that script prints the means of 1,000 resamples, so within 0.01."""
    request = ScoreRequest(
        hypotheses=(str(folder / "convs2s-test-output.txt.gz"),),
        references=(str(folder / "gold-test-sentences.txt.gz"),),
        options={"rouge_stemmer": "rouge-1.5.5", "rouge_irregular": str(wordnet)},
    )
    for metric, f1, precision, recall in (
        ("rouge1", 31.27, 34.39, 29.71),
        ("rouge2", 11.07, 12.17, 10.52),
        ("rougel", 25.23, 27.71, 24.01),
    ):
        for key, expected in (("value", f1), ("precision", precision), ("recall", recall)):
            shown = "F" if key == "value" else key
            asked = replace(request, metrics=(metric,))
            yield Claim(f"xsum convs2s {metric} {shown}", expected, asked, key, digits=4, within=0.01)


def main(data: Path, wordnet: Path | None) -> int:
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        claims = [
            *translation(data / "wmt22-systems"),
            *sclite(data / "asr-sctk"),
            *earnings(data / "asr-earnings21", Path(scratch)),
            *answers(data / "squad"),
            *alignments(data / "align-de-en"),
            *(summaries(data / "xsum-scoring", wordnet) if wordnet else ()),
        ]
        for claim in claims:
            start = time.perf_counter()
            [row] = score(claim.request).scores
            seconds = time.perf_counter() - start
            got = row.score.as_dict()[claim.key]
            same = round(abs(got - claim.expected), claim.digits) <= claim.within
            if not claim.within:
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
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} DATA_DIR [WORDNET_DIR]")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else None))
