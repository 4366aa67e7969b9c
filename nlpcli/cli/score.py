"""`nlpcli score`: hypotheses against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import option_conventions, score_options, shared_options, terminal
from nlpcli.cli.minimal_pairs_output import Form, write_pairs
from nlpcli.cli.option_conventions import OUT_FILE
from nlpcli.cli.score_output import alignment_width, write_numbers, write_report, write_sentences
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.score.perplexity import PerplexitySettings


_SYNONYMS = ("blimp", "minimal-pair", "minimal_pairs")
_NOUNS = {"perplexity": "the perplexity", "minimal-pairs": "the accuracy on minimal pairs"}


class Command(option_conventions.Command):
    """The options that choose the form of the output can't be used together."""

    exclusive: ClassVar = (
        ("json", "score_only"),
        ("json", "decimals"),
        ("alignment", "score_only"),
        ("alignment", "sentence"),
        ("sentence", "score_only"),
        ("sentence", "confidence"),
        ("sentence", "baseline"),
        ("alignment", "processes"),
    )
    needed: ClassVar = {"samples": ("confidence", "baseline"), "seed": ("confidence", "baseline")}


def command(
    context: typer.Context,
    arguments: list[str] = score_options.ARGUMENTS,
    references: list[str] = score_options.REFERENCES,
    metrics: list[str] = score_options.METRICS,
    baseline: str = score_options.BASELINE,
    confidence: bool = score_options.CONFIDENCE,
    samples: int = score_options.SAMPLES,
    seed: int = shared_options.BOOTSTRAP_SEED,
    sentence: bool = score_options.SENTENCE,
    alignment: bool = score_options.ALIGNMENT,
    json: bool = score_options.JSON,
    results: Path = OUT_FILE,
    score_only: bool = score_options.SCORE_ONLY,
    decimals: int = score_options.DECIMALS,
    format: str = score_options.FORMAT,
    lowercase: bool = score_options.LOWERCASE,
    tokenize: str = score_options.TOKENIZE,
    smooth: str = score_options.SMOOTH,
    smooth_value: float = score_options.SMOOTH_VALUE,
    max_ngram_order: int = score_options.MAX_NGRAM_ORDER,
    effective_order: bool = score_options.EFFECTIVE_ORDER,
    chrf_char_order: int = score_options.CHRF_CHAR_ORDER,
    chrf_word_order: int = score_options.CHRF_WORD_ORDER,
    chrf_beta: int = score_options.CHRF_BETA,
    chrf_whitespace: bool = score_options.CHRF_WHITESPACE,
    chrf_eps_smoothing: bool = score_options.CHRF_EPS_SMOOTHING,
    ter_case_sensitive: bool = score_options.TER_CASE_SENSITIVE,
    ter_normalized: bool = score_options.TER_NORMALIZED,
    ter_no_punct: bool = score_options.TER_NO_PUNCT,
    ter_asian_support: bool = score_options.TER_ASIAN_SUPPORT,
    remove_punctuation: bool = score_options.REMOVE_PUNCTUATION,
    collapse_whitespace: bool = score_options.COLLAPSE_WHITESPACE,
    alternatives: bool = score_options.ALTERNATIVES,
    rouge_stemmer: str = score_options.ROUGE_STEMMER,
    rouge_irregular: str = score_options.ROUGE_IRREGULAR,
    rouge_tokenize: str = score_options.ROUGE_TOKENIZE,
    rouge_references: str = score_options.ROUGE_REFERENCES,
    rouge_sentences: str = score_options.ROUGE_SENTENCES,
    average: str = score_options.AVERAGE,
    positive: str = score_options.POSITIVE,
    labels: list[str] = score_options.LABELS,
    strict: bool = score_options.STRICT,
    scheme: str = score_options.SCHEME,
    normalize_answers: str = score_options.NORMALIZE_ANSWERS,
    one_based: str = score_options.ONE_BASED,
    reverse: str = score_options.REVERSE,
    model: Path = score_options.MODEL,
    window: int = score_options.CONTEXT,
    stride: int = score_options.STRIDE,
    memory_length: int = score_options.MEMORY_LENGTH,
    streams: int = score_options.STREAMS,
    dynamic_evaluation: float = score_options.DYNAMIC_EVALUATION,
    dynamic_decay: float = score_options.DYNAMIC_DECAY,
    documents: str = score_options.DOCUMENTS,
    field: str = score_options.FIELD,
    pll: str = score_options.PLL,
    device: str = score_options.DEVICE,
    threads: int = score_options.THREADS,
    processes: int = score_options.PROCESSES,
) -> None:
    """Score the output of a system (hypotheses) against references.

    Line n of a hypothesis file is compared with line n of each reference file. A blank line is an empty text.

    The metric is the first argument (nlpcli score bleu hyp.txt --ref ref.txt) or the value of --metric. If a file has
    the name of a metric, write ./bleu for the file.

    \b
    Metrics, grouped by what each line of a file contains:
      a text
        bleu          BLEU
        chrf          chrF: F-score of character n-grams
        chrf++        chrF++: F-score of character and word n-grams
        ter           TER: translation edit rate
        wer           WER: word error rate
        cer           CER: character error rate
        mer           MER: match error rate
        wil           WIL: word information lost
        rouge1        ROUGE-1
        rouge2        ROUGE-2
        rougeL        ROUGE-L
        rougeLsum     ROUGE-L for summaries of several sentences
        rouge         rouge1, rouge2 and rougeL
      a label
        accuracy      accuracy
        f1            F1
        mcc           Matthews correlation coefficient
      a number
        pearson       Pearson correlation
        spearman      Spearman correlation
      the tags of one sentence, separated by spaces (or use CoNLL files)
        entity-f1     F1 of whole entities
        tag-accuracy  accuracy of the tags
      an answer to a question (or use a SQuAD data set)
        exact-match   exact match
        answer-f1     F1 of the words in the answer
        squad         exact-match and answer-f1
      a word alignment such as 0-0 1-2 3p4 (1-2 means source word 1 and target word 2; p means a possible alignment)
        aer           AER: alignment error rate

    The metric perplexity measures how well a language model predicts a text. It uses a model and a text, and no
    references. The perplexity is printed per token, per word and per byte, with the number of bits per byte.

    The metric minimal-pairs measures how often a language model gives an acceptable sentence a higher probability than
    an unacceptable one, in percent. It uses a model and files of sentence pairs, such as the folder data/ of BLiMP, and
    no references. Two equally probable sentences count as a wrong answer.

    For each score, the output contains the name, the value, the confidence interval (with --confidence), details and
    the signature. The signature lists the settings and versions with which the score was computed. Compare only scores
    with the same signature.

    Values are from 0 to 100 (correlations: from -100 to 100), and higher is better. TER, WER, CER, MER, WIL and AER are
    error rates in percent: lower is better, and TER, WER and CER can be above 100. Lower is also better for perplexity.

    With --baseline, p is the p-value of a paired bootstrap test: the probability of a difference at least as large as
    the observed one if both systems were equally good.

    If there are several --ref files, a blank line in one of them means that this reference is missing.

    \b
    Examples:
      nlpcli score --metric bleu,chrf hyp.txt --ref ref.txt --confidence
      nlpcli score bleu ours.txt --ref ref.txt --baseline theirs.txt
      nlpcli score wer hyp.txt --ref ref.txt --lowercase --alignment
      nlpcli score f1,accuracy predicted.txt --ref ref.txt --average micro
      nlpcli score entity-f1 predicted.conll --ref dev.conll
      nlpcli score squad predictions.json --ref dev-v1.1.json
      nlpcli score rouge hyp.txt --ref ref.txt --rouge-stemmer porter
      nlpcli score aer alignments.txt --ref ref.talp --one-based ref
      nlpcli score perplexity --model runs/lm text.txt --stride 32
      nlpcli score perplexity --model runs/lstm text.txt --context 5 --dynamic-evaluation 0.01
      nlpcli score minimal-pairs --model runs/lm blimp/data/ --confidence
    """
    given = dict(locals())
    from nlpcli.commands.score import score as recipe

    with_model, texts = _metric_of_model(metrics, arguments or [])
    _check_given(context, with_model)
    if with_model == "minimal-pairs":
        form = Form(json=json, score_only=score_only, sentence=sentence, decimals=decimals)
        write_pairs(texts, given, form)
        return
    if with_model is not None:
        from nlpcli.commands.score.perplexity import PerplexitySettings

        reading = PerplexitySettings(
            window, stride, memory_length, streams, dynamic_evaluation, dynamic_decay or 0.0,
            documents=documents, field=field or "text", device=device or "auto", threads=threads,
        )  # fmt: skip
        _write_perplexity(texts, model, reading, json=json, score_only=score_only, decimals=decimals)
        return
    names, files = recipe.parse_metrics(metrics), tuple(arguments or ())
    if not names:
        names, files = recipe.split_metric(files)
    if not names:
        names = ("bleu",)
        terminal.notify("the metric is bleu, which is the default; --metric chooses another one (chrf, ter, wer, …)")
    request = recipe.ScoreRequest(
        hypotheses=files or ("-",),
        references=tuple(references),
        metrics=names,
        baseline=baseline,
        format=format,
        resampling=recipe.Resampling(samples, seed) if confidence or baseline is not None else None,
        options={name: given[name] for name in score_options.OF_METRICS if _is_set(given[name])},
    )
    if "-" in request.hypotheses:
        terminal.announce_stdin()
    if sentence:
        found = recipe.sentence_scores(request, processes, warn=terminal.warn)
        write_sentences(found, request.metrics, json=json, decimals=decimals)
        return
    if alignment:
        scoring = recipe.Scoring(request)
        aligned, report = scoring.alignments(), scoring.report()
    else:
        aligned, report = {}, recipe.score(request, processes)
    for warning in report.warnings:
        terminal.warn(warning)
    if json:
        terminal.write_json({**report.as_dict(), **recipe.alignment_data(aligned)})
    elif score_only:
        write_numbers(report, decimals)
    else:
        for text in filter(
            None, (recipe.alignment_text(output, width=alignment_width()) for output in aligned.values())
        ):
            for line in text.split("\n"):
                terminal.write_report(line)
        write_report(report, decimals)


def _metric_of_model(metrics: list[str], arguments: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """The metric that uses a model, and its files; None when it is another metric."""
    names = [name.strip().lower() for group in metrics or arguments[:1] for name in group.split(",")]
    names = ["minimal-pairs" if name in _SYNONYMS else name for name in names]
    chosen = next((name for name in names if name in score_options.OF_MODEL_METRICS), None)
    if chosen is None:
        return None, ()
    if len(names) > 1:
        raise NlpcliError(
            f"the metric {chosen} can't be combined with other metrics",
            hint=f"compute {_NOUNS[chosen]} in a separate call of 'nlpcli score'",
        )
    return chosen, tuple(arguments if metrics else arguments[1:]) or ("-",)


def _check_given(context: typer.Context, metric: str | None) -> None:
    """Raises: NlpcliError for options that belong to the other kind of call, and for references that are missing."""
    given = {name for name in context.params if _given(context, name)}
    owners = score_options.OF_MODEL_METRICS
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in given:
            continue
        with_models = [owner for owner, names in owners.items() if name in names]
        if metric is None and with_models:
            raise NlpcliError(
                f"{option_conventions.long_name(parameter)} has an effect only on the metric "
                f"{' and '.join(with_models)}"
            )
        if metric is not None and name not in score_options.WITH_MODEL_METRICS[metric]:
            raise NlpcliError(f"{option_conventions.long_name(parameter)} has no effect on the metric {metric}")
    if metric is None and "references" not in given:
        raise NlpcliError("the references are missing", hint="name the file with the references: --ref FILE")


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value != []


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _write_perplexity(
    files: tuple[str, ...],
    model: Path | None,
    reading: PerplexitySettings,
    *,
    json: bool,
    score_only: bool,
    decimals: int,
) -> None:
    from nlpcli.commands.score.perplexity import perplexity_of
    from nlpcli.commands.score.score import ScoreReport, SystemScore

    if "-" in files:
        terminal.announce_stdin()
    with terminal.evaluation("score"):
        found = perplexity_of(model, files, reading, notify=terminal.notify)
    rows = [SystemScore(file, score.name, score) for file, scores in found.items() for score in scores]
    if json:
        terminal.write_json({"scores": [{"file": row.system, **row.score.as_dict()} for row in rows]})
    elif score_only:
        write_numbers(ScoreReport(0, (), rows, []), decimals)
    else:
        write_report(ScoreReport(0, (), rows, []), decimals)
