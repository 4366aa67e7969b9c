"""`nlpcli score`: hypotheses against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import convention, shell_completion, terminal
from nlpcli.cli.convention import OUT_FILE
from nlpcli.cli.score_output import alignment_width, write_numbers, write_report, write_sentences
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.score.perplexity import Reading

_TEXT, _BLEU, _CHRF, _TER = "Both sides", "BLEU", "chrF", "TER"
_RATES, _ROUGE = "WER, CER, MER, WIL", "ROUGE"
_LABELS, _TAGS, _ANSWERS = "F1 of labels", "Entity F1", "Exact match and F1 of answers"
_LINKS = "Alignment error rate"
_PERPLEXITY = "Perplexity"
_OF_PERPLEXITY = ("model", "window", "stride", "memory", "documents", "field", "device", "threads")
_WITH_PERPLEXITY = ("arguments", "metrics", "json", "results", "score_only", "precision", *_OF_PERPLEXITY)


class Command(convention.Command):
    """Scores have one form of output."""

    exclusive: ClassVar = (
        ("json", "score_only"),
        ("json", "precision"),
        ("alignment", "score_only"),
        ("alignment", "sentence"),
        ("sentence", "score_only"),
        ("sentence", "confidence"),
        ("sentence", "baseline"),
    )
    needed: ClassVar = {"samples": ("confidence", "baseline"), "seed": ("confidence", "baseline")}


def command(
    context: typer.Context,
    arguments: list[str] = typer.Argument(
        None,
        metavar="METRIC|FILE",
        help="Hypotheses, one file for each system. Default: standard input.",
    ),
    references: list[str] = typer.Option(
        [], "--ref", metavar="FILE", help="References (repeatable, for several references per line)."
    ),
    metrics: list[str] = typer.Option(
        [],
        "--metric",
        metavar="NAME[,NAME]",
        autocompletion=shell_completion.metrics,
        help="One of the metrics above (repeatable).",
    ),
    baseline: str = typer.Option(
        None,
        "--baseline",
        metavar="FILE",
        help="A baseline system; the significance of the difference is tested.",
    ),
    confidence: bool = typer.Option(False, "--confidence", help="95 % confidence interval by bootstrap resampling."),
    samples: int = typer.Option(
        1000, "--bootstrap-samples", help="Number of resamples for --confidence and --baseline."
    ),
    seed: int = typer.Option(12345, "--seed", help="Seed of the resampling."),
    sentence: bool = typer.Option(False, "--sentence", help="Print one score for each example."),
    alignment: bool = typer.Option(
        False, "--alignment", help="Show the words or characters that differ (wer, cer, …)."
    ),
    json: bool = typer.Option(False, "--json", help="Write JSON, in full precision."),
    results: Path = OUT_FILE,
    score_only: bool = typer.Option(False, "--score-only", help="Print only the number, one line for each score."),
    precision: int = typer.Option(2, "--precision", "--width", min=0, max=15, help="Number of decimal places."),
    format: str = typer.Option(
        "auto",
        "--format",
        help="lines; trn: sclite transcripts matched by their (id); conll, conllu: tags in columns; squad: a SQuAD "
        "data set and answers {id: text}. auto goes by the reference's name: .conll, .conllu, .iob, .bio, .json.",
    ),
    lowercase: bool = typer.Option(
        False, "--lowercase", help="BLEU, error rates: lowercase both sides first.", rich_help_panel=_TEXT
    ),
    tokenize: str = typer.Option(
        None,
        "--tokenize",
        help="13a (default), none, intl, char, zh, ja-mecab, ko-mecab, flores101, flores200, spBLEU-1K.",
        rich_help_panel=_BLEU,
    ),
    smooth: str = typer.Option(None, "--smooth", help="exp (default), floor, add-k, none.", rich_help_panel=_BLEU),
    smooth_value: float = typer.Option(
        None, "--smooth-value", help="Value for floor and add-k (default 0.1 and 1).", rich_help_panel=_BLEU
    ),
    max_ngram_order: int = typer.Option(
        None, "--max-ngram-order", help="Longest n-gram (default 4).", rich_help_panel=_BLEU
    ),
    effective_order: bool = typer.Option(
        False,
        "--effective-order",
        help="Leave out orders longer than the text (always with --sentence).",
        rich_help_panel=_BLEU,
    ),
    chrf_char_order: int = typer.Option(
        None, "--chrf-char-order", help="Longest n-gram (default 6).", rich_help_panel=_CHRF
    ),
    chrf_word_order: int = typer.Option(
        None, "--chrf-word-order", help="Longest word n-gram (default 0; 2 is chrF++).", rich_help_panel=_CHRF
    ),
    chrf_beta: int = typer.Option(None, "--chrf-beta", help="Weight of recall (default 2).", rich_help_panel=_CHRF),
    chrf_whitespace: bool = typer.Option(False, "--chrf-whitespace", help="Count spaces.", rich_help_panel=_CHRF),
    chrf_eps_smoothing: bool = typer.Option(
        False, "--chrf-eps-smoothing", help="Use the smoothing of chrF++.py.", rich_help_panel=_CHRF
    ),
    ter_case_sensitive: bool = typer.Option(
        False, "--ter-case-sensitive", help="Case-sensitive.", rich_help_panel=_TER
    ),
    ter_normalized: bool = typer.Option(
        False, "--ter-normalized", help="Use Tercom's tokenization.", rich_help_panel=_TER
    ),
    ter_no_punct: bool = typer.Option(False, "--ter-no-punct", help="Remove punctuation.", rich_help_panel=_TER),
    ter_asian_support: bool = typer.Option(
        False, "--ter-asian-support", help="Apply the two above to Chinese and Japanese, too.", rich_help_panel=_TER
    ),
    remove_punctuation: bool = typer.Option(
        False, "--remove-punctuation", help="Drop punctuation.", rich_help_panel=_RATES
    ),
    collapse_whitespace: bool = typer.Option(
        False, "--collapse-whitespace", help="Replace any white space by one space.", rich_help_panel=_RATES
    ),
    alternatives: bool = typer.Option(
        False,
        "--alternatives",
        help="'{ A / B }' in a reference accepts either; '@' stands for no word.",
        rich_help_panel=_RATES,
    ),
    rouge_stemmer: str = typer.Option(
        None,
        "--rouge-stemmer",
        help="none (default), porter (rouge-score's), rouge-1.5.5 (its option -m).",
        rich_help_panel=_ROUGE,
    ),
    rouge_irregular: str = typer.Option(
        None,
        "--rouge-irregular",
        metavar="DIR",
        help="For rouge-1.5.5: WordNet's noun.exc, verb.exc, adj.exc, adv.exc.",
        rich_help_panel=_ROUGE,
    ),
    rouge_tokenize: str = typer.Option(
        None, "--rouge-tokenize", help="ascii (default), unicode (any script).", rich_help_panel=_ROUGE
    ),
    rouge_references: str = typer.Option(
        None, "--rouge-references", help="With several references: best (default), mean.", rich_help_panel=_ROUGE
    ),
    rouge_sentences: str = typer.Option(
        None,
        "--rouge-sentences",
        help="For rougeLsum: lines (default), split (into sentences).",
        rich_help_panel=_ROUGE,
    ),
    average: str = typer.Option(
        None, "--average", help="macro (default), micro, weighted, binary.", rich_help_panel=_LABELS
    ),
    positive: str = typer.Option(
        None, "--positive", metavar="LABEL", help="The positive label of binary (default 1).", rich_help_panel=_LABELS
    ),
    labels: list[str] = typer.Option(
        None,
        "--labels",
        metavar="LABEL[,LABEL]",
        help="Count only these labels (default: all; repeatable). "
        "A value that is a label itself is not split at commas.",
        rich_help_panel=_LABELS,
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Count only entities that are well-formed.", rich_help_panel=_TAGS
    ),
    scheme: str = typer.Option(
        None,
        "--scheme",
        help="For --strict: BIO, IOBES, BILOU, IOE2, IOB1, IOE1 (default: the scheme of the reference).",
        rich_help_panel=_TAGS,
    ),
    normalize: str = typer.Option(
        None,
        "--normalize",
        help="squad (default: ignore case, punctuation and articles), none.",
        rich_help_panel=_ANSWERS,
    ),
    one_based: str = typer.Option(
        None,
        "--one-based",
        metavar="ref|hyp|both",
        help="Files whose words are numbered from 1 (default: from 0).",
        rich_help_panel=_LINKS,
    ),
    reverse: str = typer.Option(
        None, "--reverse", metavar="ref|hyp", help="Files whose links are target-source.", rich_help_panel=_LINKS
    ),
    model: Path = typer.Option(
        None, "--model", help="The model. Default: the newest language model below runs/.", rich_help_panel=_PERPLEXITY
    ),
    window: int = typer.Option(
        None, "--context", help="Context length in tokens. Default: as in training.", rich_help_panel=_PERPLEXITY
    ),
    stride: int = typer.Option(
        None, "--stride", help="Tokens from one window to the next. Default: the context.", rich_help_panel=_PERPLEXITY
    ),
    memory: int = typer.Option(
        None, "--memory", help="Length of the memory in tokens (Transformer-XL, XLNet).", rich_help_panel=_PERPLEXITY
    ),
    documents: str = typer.Option(
        None, "--documents", help="auto, lines, paragraphs, file, jsonl or tsv.", rich_help_panel=_PERPLEXITY
    ),
    field: str = typer.Option(
        None, "--field", help="Field of the text in JSON lines. Default: text.", rich_help_panel=_PERPLEXITY
    ),
    device: str = typer.Option(None, "--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=_PERPLEXITY),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads.", rich_help_panel=_PERPLEXITY),
) -> None:
    """Compare hypotheses with references, line by line, blank lines included.

    The first argument may name the metric: nlpcli score bleu hyp.txt --ref ref.txt. For a file with
    the name of a metric write ./bleu.

    \b
    Metrics, and what a line holds:
      text       bleu, chrf, chrf++, ter
                 wer, cer, mer, wil
                 rouge1, rouge2, rougeL, rougeLsum (rouge: the first three)
      a label    accuracy, f1, mcc
      a number   pearson, spearman
      tags       entity-f1, tag-accuracy
                 the tags of a sentence with spaces between, or CoNLL files
      an answer  exact-match, answer-f1 (squad: both)
                 also a SQuAD data set and answers {id: text}
      links      aer: word alignments, 0-0 1-2, and 3p4 for a possible link
                 (source word, target word)

    perplexity is that of a model on a text, without references: per token, word and byte, and bits per byte.

    For each score: name, value, interval, details and signature. Values are 0 to 100 (correlations -100 to 100) and
    higher is better; TER, AER and the error rates are percent and lower is better. WER and its like are normalized in
    this order: lowercase, punctuation, white space. p is the probability of a difference from the baseline as large as
    this one by chance alone (paired bootstrap).

    Several --ref files are several references for each line. A blank line in one of them is a missing reference.

    \b
    Examples:
      nlpcli score --metric bleu,chrf hyp.txt --ref ref.txt --confidence
      nlpcli score bleu ours.txt --ref ref.txt --baseline theirs.txt
      nlpcli score wer hyp.txt --ref ref.txt --lowercase --alignment
      nlpcli score f1,accuracy predicted.txt --ref ref.txt --average micro
      nlpcli score entity-f1 predicted.conll --ref dev.conll
      nlpcli score squad predictions.json --ref dev-v1.1.json
      nlpcli score rouge hyp.txt --ref ref.txt --rouge-stemmer porter
      nlpcli score aer links.txt --ref ref.talp --one-based ref
      nlpcli score perplexity --model runs/lm text.txt --stride 32
    """
    from nlpcli.commands.score import score as recipe

    texts = _texts_of_perplexity(metrics, arguments or [])
    _check_given(context, perplexity=texts is not None)
    if texts is not None:
        from nlpcli.commands.score.perplexity import Reading

        reading = Reading(window, stride, memory, documents, field or "text", device=device or "auto", threads=threads)
        _write_perplexity(texts, model, reading, json=json, score_only=score_only, precision=precision)
        return
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
        "rouge_stemmer": rouge_stemmer,
        "rouge_irregular": rouge_irregular,
        "rouge_tokenize": rouge_tokenize,
        "rouge_references": rouge_references,
        "rouge_sentences": rouge_sentences,
        "average": average,
        "positive": positive,
        "labels": labels or None,
        "strict": strict,
        "scheme": scheme,
        "normalize": normalize,
        "one_based": one_based,
        "reverse": reverse,
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
    if "-" in request.hypotheses:
        terminal.announce_stdin()
    scoring = recipe.Scoring(request)
    if sentence:
        for warning in scoring.warnings(sentence=True):
            terminal.warn(warning)
        write_sentences(scoring, json=json, precision=precision)
        return
    aligned = scoring.alignments() if alignment else {}
    report = scoring.report()
    for warning in report.warnings:
        terminal.warn(warning)
    if json:
        terminal.write_json({**report.as_dict(), **recipe.alignment_data(aligned)})
    elif score_only:
        write_numbers(report, precision)
    else:
        for text in filter(
            None, (recipe.alignment_text(output, width=alignment_width()) for output in aligned.values())
        ):
            for line in text.split("\n"):
                terminal.write_report(line)
        write_report(report, precision)


def _texts_of_perplexity(metrics: list[str], arguments: list[str]) -> tuple[str, ...] | None:
    """The files whose perplexity is asked for; None when it is another metric."""
    names = [name.strip().lower() for group in metrics or arguments[:1] for name in group.split(",")]
    if "perplexity" not in names:
        return None
    if len(names) > 1:
        raise NlpcliError("perplexity needs no references and can't be combined with other metrics")
    return tuple(arguments if metrics else arguments[1:]) or ("-",)


def _check_given(context: typer.Context, *, perplexity: bool) -> None:
    """Raises: NlpcliError for options that belong to the other kind of call, and for references that are missing."""
    given = {name for name in context.params if _given(context, name)}
    wrong = given.difference(_WITH_PERPLEXITY) if perplexity else given.intersection(_OF_PERPLEXITY)
    for parameter in context.command.params:
        if parameter.name in wrong:
            why = "has no effect on perplexity" if perplexity else "applies to perplexity only"
            raise NlpcliError(f"{convention.long_name(parameter)} {why}")
    if not perplexity and "references" not in given:
        raise NlpcliError("no references are given", hint="name the references with --ref FILE")


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _write_perplexity(
    files: tuple[str, ...], model: Path | None, reading: Reading, *, json: bool, score_only: bool, precision: int
) -> None:
    from nlpcli.commands.score.perplexity import perplexity_of
    from nlpcli.commands.score.score import ScoreReport, SystemScore

    if "-" in files:
        terminal.announce_stdin()
    with terminal.evaluation("score"):
        found = perplexity_of(model, files, reading, say=terminal.say)
    rows = [SystemScore(file, score.name, score) for file, scores in found.items() for score in scores]
    if json:
        terminal.write_json({"scores": [{"file": row.system, **row.score.as_dict()} for row in rows]})
    elif score_only:
        write_numbers(ScoreReport(0, (), rows, []), precision)
    else:
        write_report(ScoreReport(0, (), rows, []), precision)
