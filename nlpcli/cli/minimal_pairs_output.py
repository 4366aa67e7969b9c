"""Scores minimal pairs and writes the result, for `nlpcli score minimal-pairs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlpcli.cli import terminal

if TYPE_CHECKING:
    from nlpcli.commands.score.score_minimal_pairs import PairsRequest
    from nlpcli.evaluation import Score
    from nlpcli.evaluation.minimal_pair_accuracy import MinimalPairScores


@dataclass(frozen=True)
class Form:
    """The form of the output, by the options of the command."""

    json: bool
    score_only: bool
    sentence: bool
    decimals: int


def write_pairs(files: Sequence[str], given: Mapping[str, Any], form: Form) -> None:
    """Scores the pairs in files. given: the parameters of the command."""
    from nlpcli.commands.score.score_minimal_pairs import PairsRequest, score_minimal_pairs
    from nlpcli.evaluation import Resampling

    if "-" in files:
        terminal.announce_stdin()
    request = PairsRequest(
        tuple(files),
        given["model"],
        given["pll"],
        Resampling(given["samples"], given["seed"]) if given["confidence"] else None,
        device=given["device"] or "auto",
        threads=given["threads"],
    )
    if form.sentence:
        _write_each(request, form)
        return
    with terminal.evaluation("score"):
        report = score_minimal_pairs(request, notify=terminal.notify)
    if form.json:
        terminal.write_json(report.as_dict())
    elif form.score_only:
        terminal.write_line(f"{report.scores.mean.value:.{form.decimals}f}")
        terminal.notify(report.scores.mean.signature)
    else:
        _write_tables(report.scores, form.decimals)


def _write_each(request: PairsRequest, form: Form) -> None:
    """A line for each pair: the log-probability of the acceptable sentence, a tab, that of the other one."""
    from nlpcli.commands.score.score_minimal_pairs import scored_pairs

    for scored in scored_pairs(request, notify=terminal.notify):
        if form.json:
            terminal.write_json(scored.as_dict())
        else:
            terminal.write_line(f"{scored.good:.{form.decimals}f}\t{scored.bad:.{form.decimals}f}")


def _write_tables(scores: MinimalPairScores, decimals: int) -> None:
    """A table for each level, the mean last, and the signature; numbers of pairs only where they differ."""
    levels = scores.levels()
    mean = levels.pop("mean")["mean"]
    for level, found in levels.items():
        _write_table(level, found, decimals)
        terminal.write_line()
    count = f"mean of {len(scores.paradigms)} paradigms" if len(scores.paradigms) > 1 else "1 paradigm"
    terminal.write_report(
        " ".join(part for part in (f"{count}:", f"{mean.value:.{decimals}f}", mean.interval(decimals)) if part)
        + f" ({scores.pairs:,} pairs, {scores.ties:,} ties)"
    )
    terminal.write_report(mean.signature)


def _write_table(level: str, scores: Mapping[str, Score], decimals: int) -> None:
    pairs = [score.details["pairs"] for score in scores.values()]
    columns = {
        level: list(scores),
        "pairs": [str(count) for count in pairs] if len(set(pairs)) > 1 else [],
        "accuracy": [f"{score.value:.{decimals}f}" for score in scores.values()],
        "95 % interval": [score.interval(decimals) for score in scores.values()],
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    terminal.write_table(list(columns), zip(*columns.values(), strict=True))
