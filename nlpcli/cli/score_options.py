"""The options of `nlpcli score`: which output, which data, and the settings of each metric."""

from __future__ import annotations

import typer

from nlpcli.cli import option_conventions, shell_completion

_TEXT, _BLEU, _CHRF, _TER = "BLEU, WER, CER, MER and WIL", "BLEU", "chrF", "TER"
_RATES, _ROUGE = "WER, CER, MER and WIL", "ROUGE"
_LABELS, _TAGS, _ANSWERS = "F1 of labels", "Entity F1", "Exact match and F1 of answers"
_LINKS = "Alignment error rate (AER)"
_PERPLEXITY, _PAIRS = "Perplexity", "Minimal pairs"
_WITH_MODEL = "Perplexity and minimal pairs"

ARGUMENTS = typer.Argument(
    None,
    metavar="METRIC|FILE",
    help="The name of a metric, then files with hypotheses, one file for each system. Without files, or if a file is "
    "'-', standard input is read.",
)
REFERENCES = typer.Option(
    [],
    "--ref",
    metavar="FILE",
    help="File with the references. Give the option several times if each line has several references.",
)
METRICS = typer.Option(
    [],
    "--metric",
    metavar="NAME[,NAME]",
    autocompletion=shell_completion.metrics,
    help="One or more of the metrics listed above. Can be given several times. Default: bleu.",
)
BASELINE = typer.Option(
    None,
    "--baseline",
    metavar="FILE",
    help="File with the hypotheses of a baseline system. Each system is compared with it by a significance test.",
)
CONFIDENCE = typer.Option(
    False, "--confidence", help="Print a 95 % confidence interval, estimated by bootstrap resampling."
)
SAMPLES = typer.Option(
    1000, "--bootstrap-samples", help="Number of bootstrap resamples for --confidence and --baseline."
)
SENTENCE = typer.Option(
    False,
    "--sentence",
    help="Print one score for each example (line, sentence or question) instead of one for the whole file.",
)
ALIGNMENT = typer.Option(
    False,
    "--alignment",
    help="For wer, cer, mer and wil: print each hypothesis under its reference and mark the words or characters "
    "that differ.",
)
JSON = typer.Option(False, "--json", help="Write JSON with unrounded values.")
SCORE_ONLY = typer.Option(False, "--score-only", help="Print only the values, one score in each line.")
DECIMALS = typer.Option(2, "--decimals", min=0, max=15, help="Number of decimal places.")
FORMAT = typer.Option(
    "auto",
    "--format",
    help="Format of the files. lines: one text, label, number, tag sequence or answer in each line. trn: "
    "transcripts in the format of the program sclite; lines are matched by the id in parentheses at their end. "
    "conll: one word in each line, in the first column, with its tag in the last column. conllu: one word in each "
    "line, in the column FORM, with its tag in the column UPOS. squad: a SQuAD data set as reference, and the "
    "answers as a JSON object {id: answer}. auto: conll for reference files named .conll, .iob or .bio, conllu for "
    ".conllu, squad for .json, else lines.",
)
LOWERCASE = typer.Option(
    False,
    "--lowercase",
    help="Convert hypotheses and references to lowercase before they are compared.",
    rich_help_panel=_TEXT,
)
TOKENIZE = typer.Option(
    None,
    "--tokenize",
    help="Tokenizer of sacreBLEU: 13a, none, intl, char, zh, ja-mecab, ko-mecab, flores101, flores200 or "
    "spBLEU-1K. Default: 13a.",
    rich_help_panel=_BLEU,
)
SMOOTH = typer.Option(
    None,
    "--smooth",
    help="Smoothing method for n-gram lengths without a match: exp, floor, add-k or none. Default: exp.",
    rich_help_panel=_BLEU,
)
SMOOTH_VALUE = typer.Option(
    None,
    "--smooth-value",
    help="Value for the smoothing methods floor (default: 0.1) and add-k (default: 1).",
    rich_help_panel=_BLEU,
)
MAX_NGRAM_ORDER = typer.Option(
    None, "--max-ngram-order", help="Maximum n-gram length in tokens. Default: 4.", rich_help_panel=_BLEU
)
EFFECTIVE_ORDER = typer.Option(
    False,
    "--effective-order",
    help="Do not count n-gram lengths that are greater than the length of the hypothesis. Always on with --sentence.",
    rich_help_panel=_BLEU,
)
CHRF_CHAR_ORDER = typer.Option(
    None,
    "--chrf-char-order",
    help="Maximum length of character n-grams. Default: 6.",
    rich_help_panel=_CHRF,
)
CHRF_WORD_ORDER = typer.Option(
    None,
    "--chrf-word-order",
    help="Maximum length of word n-grams; 0 means no word n-grams. Default: 0 for chrf, 2 for chrf++.",
    rich_help_panel=_CHRF,
)
CHRF_BETA = typer.Option(
    None,
    "--chrf-beta",
    help="Weight of recall relative to precision in the F-score. Default: 2.",
    rich_help_panel=_CHRF,
)
CHRF_WHITESPACE = typer.Option(
    False, "--chrf-whitespace", help="Include spaces in the character n-grams.", rich_help_panel=_CHRF
)
CHRF_EPS_SMOOTHING = typer.Option(
    False,
    "--chrf-eps-smoothing",
    help="Use epsilon smoothing, as the script chrF++.py does.",
    rich_help_panel=_CHRF,
)
TER_CASE_SENSITIVE = typer.Option(
    False,
    "--ter-case-sensitive",
    help="Treat uppercase and lowercase letters as different. Default: all text is converted to lowercase.",
    rich_help_panel=_TER,
)
TER_NORMALIZED = typer.Option(
    False,
    "--ter-normalized",
    help="Tokenize the text as Tercom does, the original program for TER.",
    rich_help_panel=_TER,
)
TER_NO_PUNCT = typer.Option(False, "--ter-no-punct", help="Remove punctuation.", rich_help_panel=_TER)
TER_ASIAN_SUPPORT = typer.Option(
    False,
    "--ter-asian-support",
    help="Apply --ter-normalized and --ter-no-punct to Chinese and Japanese characters too.",
    rich_help_panel=_TER,
)
REMOVE_PUNCTUATION = typer.Option(
    False, "--remove-punctuation", help="Remove punctuation, after --lowercase.", rich_help_panel=_RATES
)
COLLAPSE_WHITESPACE = typer.Option(
    False,
    "--collapse-whitespace",
    help="Replace each sequence of white space by one space, after --remove-punctuation.",
    rich_help_panel=_RATES,
)
ALTERNATIVES = typer.Option(
    False,
    "--alternatives",
    help="References may contain alternatives. { A / B } means that A and B are both correct; { A / @ } means that "
    "A may be left out.",
    rich_help_panel=_RATES,
)
ROUGE_STEMMER = typer.Option(
    None,
    "--rouge-stemmer",
    help="Stemmer: none, porter (that of the package rouge-score) or rouge-1.5.5 (that of the original script "
    "ROUGE-1.5.5 with its option -m). Default: none.",
    rich_help_panel=_ROUGE,
)
ROUGE_IRREGULAR = typer.Option(
    None,
    "--rouge-irregular",
    metavar="DIR",
    help="Folder with WordNet's lists of irregular word forms (noun.exc, verb.exc, adj.exc, adv.exc). The stemmer "
    "rouge-1.5.5 needs it.",
    rich_help_panel=_ROUGE,
)
ROUGE_TOKENIZE = typer.Option(
    None,
    "--rouge-tokenize",
    help="Characters that form words: ascii (letters a to z and digits) or unicode (letters and digits of all "
    "scripts). Default: ascii.",
    rich_help_panel=_ROUGE,
)
ROUGE_REFERENCES = typer.Option(
    None,
    "--rouge-references",
    help="Score of a line with several references: best (the highest score) or mean. Default: best.",
    rich_help_panel=_ROUGE,
)
ROUGE_SENTENCES = typer.Option(
    None,
    "--rouge-sentences",
    help="For rougeLsum, how a text is split into sentences: lines (at line breaks) or split (by a sentence "
    "splitter). Default: lines.",
    rich_help_panel=_ROUGE,
)
AVERAGE = typer.Option(
    None,
    "--average",
    help="How the F1 is averaged over the labels: macro (mean over labels), micro (over all examples), weighted "
    "(mean weighted by the number of examples with the label) or binary (only the label --positive). Default: "
    "macro.",
    rich_help_panel=_LABELS,
)
POSITIVE = typer.Option(
    None,
    "--positive",
    metavar="LABEL",
    help="Positive label for --average binary. Default: 1.",
    rich_help_panel=_LABELS,
)
LABELS = typer.Option(
    None,
    "--labels",
    metavar="LABEL[,LABEL]",
    help="Average only over these labels. Can be given several times. Give a label that contains a comma "
    'in its own --labels (--labels "a, b" --labels c): a value that is exactly a label in the files is not split. '
    "Default: all labels.",
    rich_help_panel=_LABELS,
)
STRICT = typer.Option(
    False,
    "--strict",
    help="Count only entities whose tags are correct in the tagging scheme; in BIO, for example, the first tag of "
    "an entity must be B-.",
    rich_help_panel=_TAGS,
)
SCHEME = typer.Option(
    None,
    "--scheme",
    help="Tagging scheme for --strict: BIO, IOBES, BILOU, IOE2, IOB1 or IOE1. Default: the scheme of the reference.",
    rich_help_panel=_TAGS,
)
NORMALIZE_ANSWERS = typer.Option(
    None,
    "--normalize-answers",
    help="How answers are normalized before they are compared: squad (convert to lowercase, remove punctuation and "
    "articles) or none. Default: squad.",
    rich_help_panel=_ANSWERS,
)
ONE_BASED = typer.Option(
    None,
    "--one-based",
    metavar="ref|hyp|both",
    help="The files in which words are numbered from 1: the references, the hypotheses or both. "
    "Default: words are numbered from 0.",
    rich_help_panel=_LINKS,
)
REVERSE = typer.Option(
    None,
    "--reverse",
    metavar="ref|hyp",
    help="The files in which each pair is (target word, source word): the references or the hypotheses. Default: in "
    "all files, each pair is (source word, target word).",
    rich_help_panel=_LINKS,
)
MODEL = typer.Option(
    None, "--model", help="Model folder. Default: the latest language model in runs/.", rich_help_panel=_WITH_MODEL
)
CONTEXT = typer.Option(
    None,
    "--context",
    help="Context length in tokens. Default: the context length in training.",
    rich_help_panel=_PERPLEXITY,
)
STRIDE = typer.Option(
    None,
    "--stride",
    help="Number of tokens by which the context window moves at each step. A smaller stride gives each token more "
    "context, but takes longer. Default: the context length.",
    rich_help_panel=_PERPLEXITY,
)
MEMORY_LENGTH = typer.Option(
    None,
    "--memory-length",
    help="For Transformer-XL and XLNet: number of earlier tokens whose hidden states the model keeps in memory. "
    "For recurrent language models: 0 (each window is read without earlier tokens). "
    "Default: the memory length of the model; a recurrent model remembers the whole text before the window.",
    rich_help_panel=_PERPLEXITY,
)
STREAMS = typer.Option(
    None,
    "--streams",
    metavar="N",
    help="For models with memory: number of equal parts into which the text is split. The parts are read side by "
    "side, which is faster, and each without the text before it. Default: as in the evaluation during training.",
    rich_help_panel=_PERPLEXITY,
)
DYNAMIC_EVALUATION = typer.Option(
    None,
    "--dynamic-evaluation",
    metavar="RATE",
    help="Dynamic evaluation: after each window has been scored, the model is trained on it with this learning "
    "rate (one step of SGD). The model in the folder does not change.",
    rich_help_panel=_PERPLEXITY,
)
DYNAMIC_DECAY = typer.Option(
    None,
    "--dynamic-decay",
    metavar="DECAY",
    help="For --dynamic-evaluation: share of the distance to the trained weights that each step goes back. Default: 0.",
    rich_help_panel=_PERPLEXITY,
)
DOCUMENTS = typer.Option(
    None,
    "--documents",
    help=f"What a document is: {option_conventions.DOCUMENTS} In TSV files, the text is in the first column. Default: "
    "auto if the model was trained on separate documents, or else file.",
    rich_help_panel=_PERPLEXITY,
)
FIELD = typer.Option(
    None,
    "--field",
    help=f"JSON field that contains the text. {option_conventions.JSON_FIELD} Default: text.",
    rich_help_panel=_PERPLEXITY,
)
DEVICE = typer.Option(
    None,
    "--device",
    help="Device: auto (a GPU if one is available), cpu, cuda, cuda:N (GPU number N) or mps. Default: auto.",
    rich_help_panel=_WITH_MODEL,
)
THREADS = typer.Option(None, "--threads", min=1, help="Number of CPU threads.", rich_help_panel=_WITH_MODEL)
PLL = typer.Option(
    None,
    "--pll",
    metavar="KIND",
    help="For masked language models: what is masked when a token is scored. original: the token alone. word-l2r: the "
    "token and the rest of its word. Default: original.",
    rich_help_panel=_PAIRS,
)

PROCESSES = typer.Option(
    1,
    "--processes",
    min=1,
    max=1024,
    help="Divide the lines among N processes of this machine, for metrics of texts. The output is the same.",
)

OF_METRICS = (
    "lowercase",
    "tokenize",
    "smooth",
    "smooth_value",
    "max_ngram_order",
    "effective_order",
    "chrf_char_order",
    "chrf_word_order",
    "chrf_beta",
    "chrf_whitespace",
    "chrf_eps_smoothing",
    "ter_case_sensitive",
    "ter_normalized",
    "ter_no_punct",
    "ter_asian_support",
    "remove_punctuation",
    "collapse_whitespace",
    "alternatives",
    "rouge_stemmer",
    "rouge_irregular",
    "rouge_tokenize",
    "rouge_references",
    "rouge_sentences",
    "average",
    "positive",
    "labels",
    "strict",
    "scheme",
    "normalize_answers",
    "one_based",
    "reverse",
)
"""The parameters that are settings of a metric."""

_SHARED = ("model", "device", "threads")

OF_MODEL_METRICS = {
    "perplexity": (*_SHARED, "window", "stride", "memory_length", "streams", "dynamic_evaluation", "dynamic_decay",
                   "documents", "field"),
    "minimal-pairs": (*_SHARED, "pll"),
}  # fmt: skip
"""Metric that uses a model and no references -> the parameters that have an effect on such metrics only."""

_OUTPUT = ("arguments", "metrics", "json", "results", "score_only", "decimals")
WITH_MODEL_METRICS = {
    "perplexity": (*_OUTPUT, *OF_MODEL_METRICS["perplexity"]),
    "minimal-pairs": (*_OUTPUT, "confidence", "samples", "seed", "sentence", *OF_MODEL_METRICS["minimal-pairs"]),
}
"""The parameters that have an effect on it."""
