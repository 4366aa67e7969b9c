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

_TEXT, _BLEU, _CHRF, _TER = "BLEU, WER, CER, MER and WIL", "BLEU", "chrF", "TER"
_RATES, _ROUGE = "WER, CER, MER and WIL", "ROUGE"
_LABELS, _TAGS, _ANSWERS = "F1 of labels", "Entity F1", "Exact match and F1 of answers"
_LINKS = "Alignment error rate (AER)"
_PERPLEXITY = "Perplexity"
_OF_PERPLEXITY = ("model", "window", "stride", "memory_length", "streams", "dynamic_evaluation", "dynamic_decay",
                  "documents", "field", "device", "threads")  # fmt: skip
_WITH_PERPLEXITY = ("arguments", "metrics", "json", "results", "score_only", "decimals", *_OF_PERPLEXITY)


class Command(convention.Command):
    """The options that choose the form of the output can't be used together."""

    exclusive: ClassVar = (
        ("json", "score_only"),
        ("json", "decimals"),
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
        help="The name of a metric, then files with hypotheses, one file for each system. Without files, or if a file "
        "is "
        "'-', standard input is read.",
    ),
    references: list[str] = typer.Option(
        [],
        "--ref",
        metavar="FILE",
        help="File with the references. Give the option several times if each line has several references.",
    ),
    metrics: list[str] = typer.Option(
        [],
        "--metric",
        metavar="NAME[,NAME]",
        autocompletion=shell_completion.metrics,
        help="One or more of the metrics listed above. Can be given several times. Default: bleu.",
    ),
    baseline: str = typer.Option(
        None,
        "--baseline",
        metavar="FILE",
        help="File with the hypotheses of a baseline system. Each system is compared with it by a significance test.",
    ),
    confidence: bool = typer.Option(
        False, "--confidence", help="Print a 95 % confidence interval, estimated by bootstrap resampling."
    ),
    samples: int = typer.Option(
        1000, "--bootstrap-samples", help="Number of bootstrap resamples for --confidence and --baseline."
    ),
    seed: int = typer.Option(12345, "--seed", help="Random seed of the bootstrap."),
    sentence: bool = typer.Option(
        False,
        "--sentence",
        help="Print one score for each example (line, sentence or question) instead of one for the whole file.",
    ),
    alignment: bool = typer.Option(
        False,
        "--alignment",
        help="For wer, cer, mer and wil: print each hypothesis under its reference and mark the words or characters "
        "that differ.",
    ),
    json: bool = typer.Option(False, "--json", help="Write JSON with unrounded values."),
    results: Path = OUT_FILE,
    score_only: bool = typer.Option(False, "--score-only", help="Print only the values, one score in each line."),
    decimals: int = typer.Option(2, "--decimals", min=0, max=15, help="Number of decimal places."),
    format: str = typer.Option(
        "auto",
        "--format",
        help="Format of the files. lines: one text, label, number, tag sequence or answer in each line. trn: "
        "transcripts in the format of the program sclite; lines are matched by the id in parentheses at their end. "
        "conll: one word in each line, in the first column, with its tag in the last column. conllu: one word in each "
        "line, in the column FORM, with its tag in the column UPOS. squad: a SQuAD data set as reference, and the "
        "answers as "
        "a JSON object {id: answer}. auto: conll for reference files named .conll, .iob or .bio, conllu for .conllu, "
        "squad for .json, else lines.",
    ),
    lowercase: bool = typer.Option(
        False,
        "--lowercase",
        help="Convert hypotheses and references to lowercase before they are compared.",
        rich_help_panel=_TEXT,
    ),
    tokenize: str = typer.Option(
        None,
        "--tokenize",
        help="Tokenizer of sacreBLEU: 13a, none, intl, char, zh, ja-mecab, ko-mecab, flores101, flores200 or "
        "spBLEU-1K. Default: 13a.",
        rich_help_panel=_BLEU,
    ),
    smooth: str = typer.Option(
        None,
        "--smooth",
        help="Smoothing method for n-gram lengths without a match: exp, floor, add-k or none. Default: exp.",
        rich_help_panel=_BLEU,
    ),
    smooth_value: float = typer.Option(
        None,
        "--smooth-value",
        help="Value for the smoothing methods floor (default: 0.1) and add-k (default: 1).",
        rich_help_panel=_BLEU,
    ),
    max_ngram_order: int = typer.Option(
        None, "--max-ngram-order", help="Maximum n-gram length in tokens. Default: 4.", rich_help_panel=_BLEU
    ),
    effective_order: bool = typer.Option(
        False,
        "--effective-order",
        help="Do not count n-gram lengths that are greater than the length of the hypothesis. Always on with "
        "--sentence.",
        rich_help_panel=_BLEU,
    ),
    chrf_char_order: int = typer.Option(
        None,
        "--chrf-char-order",
        help="Maximum length of character n-grams. Default: 6.",
        rich_help_panel=_CHRF,
    ),
    chrf_word_order: int = typer.Option(
        None,
        "--chrf-word-order",
        help="Maximum length of word n-grams; 0 means no word n-grams. Default: 0 for chrf, 2 for chrf++.",
        rich_help_panel=_CHRF,
    ),
    chrf_beta: int = typer.Option(
        None,
        "--chrf-beta",
        help="Weight of recall relative to precision in the F-score. Default: 2.",
        rich_help_panel=_CHRF,
    ),
    chrf_whitespace: bool = typer.Option(
        False, "--chrf-whitespace", help="Include spaces in the character n-grams.", rich_help_panel=_CHRF
    ),
    chrf_eps_smoothing: bool = typer.Option(
        False,
        "--chrf-eps-smoothing",
        help="Use epsilon smoothing, as the script chrF++.py does.",
        rich_help_panel=_CHRF,
    ),
    ter_case_sensitive: bool = typer.Option(
        False,
        "--ter-case-sensitive",
        help="Treat uppercase and lowercase letters as different. Default: all text is converted to lowercase.",
        rich_help_panel=_TER,
    ),
    ter_normalized: bool = typer.Option(
        False,
        "--ter-normalized",
        help="Tokenize the text as Tercom does, the original program for TER.",
        rich_help_panel=_TER,
    ),
    ter_no_punct: bool = typer.Option(False, "--ter-no-punct", help="Remove punctuation.", rich_help_panel=_TER),
    ter_asian_support: bool = typer.Option(
        False,
        "--ter-asian-support",
        help="Apply --ter-normalized and --ter-no-punct to Chinese and Japanese characters too.",
        rich_help_panel=_TER,
    ),
    remove_punctuation: bool = typer.Option(
        False, "--remove-punctuation", help="Remove punctuation, after --lowercase.", rich_help_panel=_RATES
    ),
    collapse_whitespace: bool = typer.Option(
        False,
        "--collapse-whitespace",
        help="Replace each sequence of white space by one space, after --remove-punctuation.",
        rich_help_panel=_RATES,
    ),
    alternatives: bool = typer.Option(
        False,
        "--alternatives",
        help="References may contain alternatives. { A / B } means that A and B are both correct; { A / @ } means that "
        "A may be left out.",
        rich_help_panel=_RATES,
    ),
    rouge_stemmer: str = typer.Option(
        None,
        "--rouge-stemmer",
        help="Stemmer: none, porter (that of the package rouge-score) or rouge-1.5.5 (that of the original script "
        "ROUGE-1.5.5 with its option -m). Default: none.",
        rich_help_panel=_ROUGE,
    ),
    rouge_irregular: str = typer.Option(
        None,
        "--rouge-irregular",
        metavar="DIR",
        help="Folder with WordNet's lists of irregular word forms (noun.exc, verb.exc, adj.exc, adv.exc). The stemmer "
        "rouge-1.5.5 needs it.",
        rich_help_panel=_ROUGE,
    ),
    rouge_tokenize: str = typer.Option(
        None,
        "--rouge-tokenize",
        help="Characters that form words: ascii (letters a to z and digits) or unicode (letters and digits of all "
        "scripts). Default: ascii.",
        rich_help_panel=_ROUGE,
    ),
    rouge_references: str = typer.Option(
        None,
        "--rouge-references",
        help="Score of a line with several references: best (the highest score) or mean. Default: best.",
        rich_help_panel=_ROUGE,
    ),
    rouge_sentences: str = typer.Option(
        None,
        "--rouge-sentences",
        help="For rougeLsum, how a text is split into sentences: lines (at line breaks) or split (by a sentence "
        "splitter). Default: lines.",
        rich_help_panel=_ROUGE,
    ),
    average: str = typer.Option(
        None,
        "--average",
        help="How the F1 is averaged over the labels: macro (mean over labels), micro (over all examples), weighted "
        "(mean weighted by the number of examples with the label) or binary (only the label --positive). Default: "
        "macro.",
        rich_help_panel=_LABELS,
    ),
    positive: str = typer.Option(
        None,
        "--positive",
        metavar="LABEL",
        help="Positive label for --average binary. Default: 1.",
        rich_help_panel=_LABELS,
    ),
    labels: list[str] = typer.Option(
        None,
        "--labels",
        metavar="LABEL[,LABEL]",
        help="Average only over these labels. Can be given several times. Give a label that contains a comma "
        'in its own --labels (--labels "a, b" --labels c): a value that is exactly a label in the files is not split. '
        "Default: all labels.",
        rich_help_panel=_LABELS,
    ),
    strict: bool = typer.Option(
        False,
        "--strict",
        help="Count only entities whose tags are correct in the tagging scheme; in BIO, for example, the first tag of "
        "an entity must be B-.",
        rich_help_panel=_TAGS,
    ),
    scheme: str = typer.Option(
        None,
        "--scheme",
        help="Tagging scheme for --strict: BIO, IOBES, BILOU, IOE2, IOB1 or IOE1. Default: the scheme of the "
        "reference.",
        rich_help_panel=_TAGS,
    ),
    normalize_answers: str = typer.Option(
        None,
        "--normalize-answers",
        help="How answers are normalized before they are compared: squad (convert to lowercase, remove punctuation and "
        "articles) or none. Default: squad.",
        rich_help_panel=_ANSWERS,
    ),
    one_based: str = typer.Option(
        None,
        "--one-based",
        metavar="ref|hyp|both",
        help="The files in which words are numbered from 1: the references, the hypotheses or both. "
        "Default: words are numbered from 0.",
        rich_help_panel=_LINKS,
    ),
    reverse: str = typer.Option(
        None,
        "--reverse",
        metavar="ref|hyp",
        help="The files in which each pair is (target word, source word): the references or the hypotheses. Default: "
        "in "
        "all files, each pair is (source word, target word).",
        rich_help_panel=_LINKS,
    ),
    model: Path = typer.Option(
        None, "--model", help="Model folder. Default: the latest language model in runs/.", rich_help_panel=_PERPLEXITY
    ),
    window: int = typer.Option(
        None,
        "--context",
        help="Context length in tokens. Default: the context length in training.",
        rich_help_panel=_PERPLEXITY,
    ),
    stride: int = typer.Option(
        None,
        "--stride",
        help="Number of tokens by which the context window moves at each step. A smaller stride gives each token more "
        "context, but takes longer. Default: the context length.",
        rich_help_panel=_PERPLEXITY,
    ),
    memory_length: int = typer.Option(
        None,
        "--memory-length",
        help="For Transformer-XL and XLNet: number of earlier tokens whose hidden states the model keeps in memory. "
        "For recurrent language models: 0 (each window is read without earlier tokens). "
        "Default: the memory length of the model; a recurrent model remembers the whole text before the window.",
        rich_help_panel=_PERPLEXITY,
    ),
    streams: int = typer.Option(
        None,
        "--streams",
        metavar="N",
        help="For models with memory: number of equal parts into which the text is split. The parts are read side by "
        "side, which is faster, and each without the text before it. Default: as in the evaluation during training.",
        rich_help_panel=_PERPLEXITY,
    ),
    dynamic_evaluation: float = typer.Option(
        None,
        "--dynamic-evaluation",
        metavar="RATE",
        help="Dynamic evaluation: after each window has been scored, the model is trained on it with this learning "
        "rate (one step of SGD). The model in the folder does not change.",
        rich_help_panel=_PERPLEXITY,
    ),
    dynamic_decay: float = typer.Option(
        None,
        "--dynamic-decay",
        metavar="DECAY",
        help="For --dynamic-evaluation: share of the distance to the trained weights that each step goes back. "
        "Default: 0.",
        rich_help_panel=_PERPLEXITY,
    ),
    documents: str = typer.Option(
        None,
        "--documents",
        help=f"What a document is: {convention.DOCUMENTS} In TSV files, the text is in the first column. Default: auto "
        "if "
        "the model was trained on separate documents, or else file.",
        rich_help_panel=_PERPLEXITY,
    ),
    field: str = typer.Option(
        None,
        "--field",
        help=f"JSON field that contains the text. {convention.JSON_FIELD} Default: text.",
        rich_help_panel=_PERPLEXITY,
    ),
    device: str = typer.Option(
        None,
        "--device",
        help="Device: auto (a GPU if one is available), cpu, cuda or cuda:N (GPU number N). Default: auto.",
        rich_help_panel=_PERPLEXITY,
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Number of CPU threads.", rich_help_panel=_PERPLEXITY),
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
    """
    from nlpcli.commands.score import score as recipe

    texts = _texts_of_perplexity(metrics, arguments or [])
    _check_given(context, perplexity=texts is not None)
    if texts is not None:
        from nlpcli.commands.score.perplexity import Reading

        reading = Reading(
            window, stride, memory_length, streams, dynamic_evaluation, dynamic_decay or 0.0,
            documents=documents, field=field or "text", device=device or "auto", threads=threads,
        )  # fmt: skip
        _write_perplexity(texts, model, reading, json=json, score_only=score_only, decimals=decimals)
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
        "normalize_answers": normalize_answers,
        "one_based": one_based,
        "reverse": reverse,
    }
    names, files = recipe.parse_metrics(metrics), tuple(arguments or ())
    if not names:
        names, files = recipe.split_metric(files)
    if not names:
        names = ("bleu",)
        terminal.say("the metric is bleu, which is the default; --metric chooses another one (chrf, ter, wer, …)")
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
        write_sentences(scoring, json=json, decimals=decimals)
        return
    aligned = scoring.alignments() if alignment else {}
    report = scoring.report()
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


def _texts_of_perplexity(metrics: list[str], arguments: list[str]) -> tuple[str, ...] | None:
    """The files whose perplexity is asked for; None when it is another metric."""
    names = [name.strip().lower() for group in metrics or arguments[:1] for name in group.split(",")]
    if "perplexity" not in names:
        return None
    if len(names) > 1:
        raise NlpcliError(
            "the metric perplexity can't be combined with other metrics",
            hint="compute the perplexity in a separate call of 'nlpcli score'",
        )
    return tuple(arguments if metrics else arguments[1:]) or ("-",)


def _check_given(context: typer.Context, *, perplexity: bool) -> None:
    """Raises: NlpcliError for options that belong to the other kind of call, and for references that are missing."""
    given = {name for name in context.params if _given(context, name)}
    wrong = given.difference(_WITH_PERPLEXITY) if perplexity else given.intersection(_OF_PERPLEXITY)
    for parameter in context.command.params:
        if parameter.name in wrong:
            why = (
                "has no effect on the metric perplexity"
                if perplexity
                else "has an effect only on the metric perplexity"
            )
            raise NlpcliError(f"{convention.long_name(parameter)} {why}")
    if not perplexity and "references" not in given:
        raise NlpcliError("the references are missing", hint="name the file with the references: --ref FILE")


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _write_perplexity(
    files: tuple[str, ...], model: Path | None, reading: Reading, *, json: bool, score_only: bool, decimals: int
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
        write_numbers(ScoreReport(0, (), rows, []), decimals)
    else:
        write_report(ScoreReport(0, (), rows, []), decimals)
