"""`nlpcli score`: hypotheses against references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nlpcli.cli import complete, terminal
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.recipes.score import ScoreReport, Scoring

_BLEU, _CHRF, _TER, _RATES = "BLEU", "chrF", "TER", "WER, CER, MER, WIL"


def command(
    arguments: list[str] = typer.Argument(
        None,
        metavar="METRIC|FILE",
        help="Hypotheses, a file for each system; standard input when there is none.",
    ),
    references: list[str] = typer.Option(
        ..., "--ref", "-r", metavar="FILE", help="References (may be repeated: several references for each line)."
    ),
    metrics: list[str] = typer.Option(
        [],
        "--metric",
        "-m",
        metavar="NAME[,NAME]",
        autocompletion=complete.metrics,
        help="bleu, chrf, chrf++, ter, wer, cer, mer, wil (may be repeated).",
    ),
    baseline: str = typer.Option(
        None, "--baseline", metavar="FILE", help="Another system: is the difference from it more than chance?"
    ),
    confidence: bool = typer.Option(False, "--confidence", help="95 % interval by bootstrap resampling."),
    samples: int = typer.Option(1000, "--bootstrap-samples", help="Resamples for --confidence and --baseline."),
    seed: int = typer.Option(12345, "--seed", help="Seed of the resampling."),
    sentence: bool = typer.Option(False, "--sentence", help="A score for each line; one line out for each line in."),
    alignment: bool = typer.Option(False, "--alignment", help="Show which words or characters differ (wer, cer ...)."),
    json: bool = typer.Option(False, "--json", help="As JSON, in full precision."),
    score_only: bool = typer.Option(False, "--score-only", "-b", help="The bare number, one line for each score."),
    precision: int = typer.Option(2, "--precision", "--width", "-w", min=0, max=15, help="Digits after the point."),
    format: str = typer.Option("lines", "--format", help="lines, or trn: sclite transcripts matched by their (id)."),
    lowercase: bool = typer.Option(False, "--lowercase", "-lc", help="Lowercase both sides first."),
    tokenize: str = typer.Option(
        None, "--tokenize", help=f"{_BLEU}: 13a (default), none, intl, char, zh, ja-mecab, ko-mecab, flores200."
    ),
    smooth: str = typer.Option(None, "--smooth", help=f"{_BLEU}: exp (default), floor, add-k, none."),
    smooth_value: float = typer.Option(None, "--smooth-value", help=f"{_BLEU}: the value of floor and add-k."),
    max_ngram_order: int = typer.Option(None, "--max-ngram-order", help=f"{_BLEU}: longest n-gram (default 4)."),
    effective_order: bool = typer.Option(
        False, "--effective-order", help=f"{_BLEU}: leave out orders longer than the text (always with --sentence)."
    ),
    chrf_char_order: int = typer.Option(None, "--chrf-char-order", help=f"{_CHRF}: longest n-gram (default 6)."),
    chrf_word_order: int = typer.Option(
        None, "--chrf-word-order", help=f"{_CHRF}: longest word n-gram (default 0; 2 is chrF++)."
    ),
    chrf_beta: int = typer.Option(None, "--chrf-beta", help=f"{_CHRF}: weight of recall (default 2)."),
    chrf_whitespace: bool = typer.Option(False, "--chrf-whitespace", help=f"{_CHRF}: spaces count."),
    chrf_eps_smoothing: bool = typer.Option(False, "--chrf-eps-smoothing", help=f"{_CHRF}: smooth as chrF++.py does."),
    ter_case_sensitive: bool = typer.Option(False, "--ter-case-sensitive", help=f"{_TER}: case counts."),
    ter_normalized: bool = typer.Option(False, "--ter-normalized", help=f"{_TER}: Tercom's tokenisation."),
    ter_no_punct: bool = typer.Option(False, "--ter-no-punct", help=f"{_TER}: without punctuation."),
    ter_asian_support: bool = typer.Option(False, "--ter-asian-support", help=f"{_TER}: cut CJK into characters."),
    remove_punctuation: bool = typer.Option(False, "--remove-punctuation", help=f"{_RATES}: drop punctuation."),
    collapse_whitespace: bool = typer.Option(
        False, "--collapse-whitespace", help=f"{_RATES}: any white space is one space."
    ),
    alternatives: bool = typer.Option(
        False, "--alternatives", help=f"{_RATES}: '{{ A / B }}' in a reference accepts either; '@' is no word."
    ),
) -> None:
    """Measure hypotheses against references: line n against line n, blank lines included.

    The first argument may name the metric: nlpcli score bleu hyp.txt --ref ref.txt. It is taken for the metric even if
    there is a file of that name; write ./bleu for the file.

    \b
    For each score: name, value, interval, account and signature. The value is 0 to 100 for BLEU and chrF
    (higher is better), percent for TER and the error rates (lower is better). Error rates are normalised in
    this order: lowercase, punctuation, white space. p is the probability of a difference from the baseline
    as large as this one by chance alone (paired bootstrap).

    \b
    Examples:
      nlpcli score --metric bleu,chrf hyp.txt --ref ref.txt --confidence
      nlpcli score bleu ours.txt --ref ref.txt --baseline theirs.txt
      nlpcli score wer transcript.txt --ref ref.txt --lowercase --remove-punctuation --alignment
    """
    from nlpcli.recipes import score as recipe

    options = {
        "lowercase": lowercase,
        "tokenize": tokenize,
        "smooth": smooth,
        "smooth_value": smooth_value,
        "max_ngram_order": max_ngram_order,
        "effective_order": effective_order,
        "chrf_char_order": chrf_char_order,
        "chrf_word_order": chrf_word_order,
        "chrf_beta": chrf_beta,
        "chrf_whitespace": chrf_whitespace,
        "chrf_eps_smoothing": chrf_eps_smoothing,
        "ter_case_sensitive": ter_case_sensitive,
        "ter_normalized": ter_normalized,
        "ter_no_punct": ter_no_punct,
        "ter_asian_support": ter_asian_support,
        "remove_punctuation": remove_punctuation,
        "collapse_whitespace": collapse_whitespace,
        "alternatives": alternatives,
    }
    names, files = recipe.parse_metrics(metrics), tuple(arguments or ())
    if not names:
        names, files = recipe.split_metric(files)
    if not names:
        names = ("bleu",)
        terminal.say("metric: bleu (the default; --metric names others: chrf, ter, wer ...)")
    request = recipe.ScoreRequest(
        hypotheses=files or ("-",),
        references=tuple(references),
        metrics=names,
        baseline=baseline,
        format=format,
        resampling=recipe.Resampling(samples, seed) if confidence or baseline is not None else None,
        options={name: value for name, value in options.items() if value is not None and value is not False},
    )
    _check_outputs(sentence=sentence, alignment=alignment, score_only=score_only, json=json)
    if "-" in request.hypotheses:
        terminal.announce_stdin()
    scoring = recipe.Scoring(request)
    if sentence:
        _write_sentences(scoring, json=json, precision=precision)
        return
    aligned = scoring.alignments() if alignment else {}
    report = scoring.report()
    for warning in report.warnings:
        terminal.warn(warning)
    if json:
        terminal.write_json({**report.as_dict(), **recipe.alignment_data(aligned)})
    elif score_only:
        _write_numbers(report, precision)
    else:
        for text in filter(None, (recipe.alignment_text(output, width=_width()) for output in aligned.values())):
            terminal.write_line(text)
        _write_report(report, precision)


def _check_outputs(*, sentence: bool, alignment: bool, score_only: bool, json: bool) -> None:
    forms = {"--json": json, "--score-only": score_only, "--alignment": alignment, "--sentence": sentence}
    for first, second in (
        ("--json", "--score-only"),
        ("--alignment", "--score-only"),
        ("--alignment", "--sentence"),
        ("--sentence", "--score-only"),
    ):
        if forms[first] and forms[second]:
            raise NlpcliError(f"{first} and {second} do not go together")


def _write_sentences(scoring: Scoring, *, json: bool, precision: int) -> None:
    """One line for each segment, a column or key for each metric; the signatures go to stderr."""
    names = list(scoring.metrics)
    rows = scoring.sentences()
    for score in rows[0]:
        terminal.say(score.signature)
    for row in rows:
        if json:
            terminal.write_json({name: score.value for name, score in zip(names, row, strict=True)})
        else:
            terminal.write_line("\t".join(f"{score.value:.{precision}f}" for score in row))


def _write_numbers(report: ScoreReport, precision: int) -> None:
    for row in report.scores:
        terminal.write_line(f"{row.score.value:.{precision}f}")
    for signature in dict.fromkeys(row.score.signature for row in report.scores):
        terminal.say(signature)


def _write_report(report: ScoreReport, precision: int) -> None:
    """A line for each score of one system; a table and its signature for each metric of several."""
    if len({(row.system, row.baseline) for row in report.scores}) == 1:
        for row in report.scores:
            terminal.write_line(row.score.line(precision))
        return
    for metric in dict.fromkeys(row.metric for row in report.scores):
        rows = [row for row in report.scores if row.metric == metric]
        columns = {
            "system": [f"{row.system} (baseline)" if row.baseline else row.system for row in rows],
            rows[0].score.name: [f"{row.score.value:.{precision}f}" for row in rows],
            "95 % interval": [row.score.interval(precision) for row in rows],
            "p": ["" if row.score.p_value is None else f"{row.score.p_value:.4f}" for row in rows],
        }
        columns = {heading: cells for heading, cells in columns.items() if any(cells)}
        terminal.write_table(list(columns), zip(*columns.values(), strict=True))
        terminal.write_line(rows[0].score.signature)


def _width() -> int | None:
    """Columns to keep an alignment within on a terminal; elsewhere a segment stays on its line."""
    if not terminal.stdout().isatty():
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)
