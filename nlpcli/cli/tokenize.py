"""`nlpcli tokenize`: train a tokenizer, use it as a filter, describe it."""

from __future__ import annotations

from pathlib import Path

import typer

from nlpcli.cli import shared_options, shell_completion, terminal
from nlpcli.cli.option_conventions import DOCUMENTS, JSON_FIELD, OUT_FILE, STANDARD_INPUT, Command
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

app = typer.Typer(no_args_is_help=False)

_DIRECTORY = typer.Argument(..., metavar="DIR", help="Folder of a tokenizer or of a run.", show_default=False)
_FILES = typer.Argument(
    None,
    metavar="FILE",
    help=f"Text files; .gz, .xz and .zst files are decompressed. {STANDARD_INPUT}",
)
_LINE_BUFFERED = typer.Option(
    False, "--line-buffered", help="Convert and print each line before the next line is read."
)


@app.command("train", cls=Command)
def train(
    files: list[str] = typer.Argument(
        ...,
        metavar="FILE",
        help="Text files, folders or file name patterns such as 'data/*.txt'; .gz, .xz and .zst files are "
        "decompressed. '-' means standard input.",
    ),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the new tokenizer."),
    type_: str = typer.Option(
        "unigram",
        "--type",
        help="Type of the tokenizer: unigram, bpe, wordpiece, byte-bpe, chars (characters) or words (separated by "
        "spaces).",
        autocompletion=shell_completion.tokenizers,
    ),
    vocab_size: int = typer.Option(
        None,
        "--vocab-size",
        help="Number of tokens in the vocabulary, including special tokens and byte tokens. Default: 8000; for the "
        "types chars and words, all characters or words of the text.",
    ),
    sentinels: int = typer.Option(
        0,
        "--sentinels",
        min=0,
        help="Number of sentinel tokens <sentinel_0>, <sentinel_1>, … in the vocabulary. 'nlpcli "
        "pretrain --objective denoise' needs them for the noises spans and iid; 100 is usual. Each one takes the "
        "place of a span of text that the model must predict.",
    ),
    byte_fallback: bool = typer.Option(
        None,
        "--byte-fallback/--no-byte-fallback",
        help="Represent a character that is not in the vocabulary by tokens for its bytes instead of the unknown "
        "token <unk>. Default: on for unigram, bpe and chars. byte-bpe always does this. wordpiece and words never do "
        "it: a word that they can't represent becomes <unk>.",
    ),
    normalization: str = typer.Option(
        "identity",
        "--normalization",
        help="Unicode normalization of the text: identity (none), nfc, nfkc or nfkc_cf (nfkc with case folding).",
    ),
    lowercase: bool = typer.Option(
        False,
        "--lowercase",
        help="Convert the text to lowercase. For the type wordpiece, this option also removes accents, as in uncased "
        "BERT.",
    ),
    character_coverage: float = typer.Option(
        1.0,
        "--character-coverage",
        help="Fraction of the characters of the text that the vocabulary must cover, from 0 to 1. Usual values are 1 "
        "for alphabets and 0.9995 for Chinese and Japanese.",
    ),
    max_lines: int = typer.Option(
        1_000_000,
        "--max-lines",
        min=1,
        help="Maximum number of lines for training. If the text has more lines, this many are sampled at random.",
    ),
    seed: int = typer.Option(0, "--seed", help="Random seed for the sampling of lines with --max-lines."),
    documents: str = typer.Option(
        "auto",
        "--documents",
        help="How the text is read. This matters mainly for JSON lines and TSV, where only one field or one column is "
        f"text. Values: {DOCUMENTS}",
    ),
    field: str = typer.Option("text", "--field", help=f"JSON field that contains the text. {JSON_FIELD}"),
    column: int = typer.Option(1, "--column", help="Number of the TSV column that contains the text, from 1."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the folder if it already contains a tokenizer."),
    json: bool = typer.Option(False, "--json", help="Print a description of the tokenizer as one JSON object."),
) -> None:
    """Train a tokenizer on text.

    \b
    nlpcli tokenize train --type unigram --vocab-size 8000 --out tok/ train.en train.de
    zcat corpus.gz | nlpcli tokenize train --type byte-bpe --vocab-size 16000 --out tok/ -
    """
    from nlpcli.commands import tokenize as recipe
    from nlpcli.data.readers import TextSource
    from nlpcli.runs.open_tokenizer import describe

    settings = recipe.TrainingSettings(
        out=out,
        files=files,
        kind=type_,
        vocab_size=vocab_size,
        sentinels=sentinels,
        byte_fallback=byte_fallback,
        normalization=normalization,
        lowercase=lowercase,
        character_coverage=character_coverage,
        max_lines=max_lines,
        seed=seed,
        source=TextSource(documents, field, column),
        overwrite=overwrite,
    )
    if "-" in files:
        terminal.announce_stdin()
    with terminal.progress("reading lines") as shown:
        done = recipe.train(settings, on_line=shown.update)
    sampled = "" if done.lines == done.lines_read else f", sampled from {done.lines_read:,} (--max-lines)"
    terminal.notify(
        f"{out}: trained a {type_} tokenizer with {counted(done.tokenizer.vocab_size, 'token')} "
        f"on {counted(done.lines, 'line')}{sampled}, in {terminal.duration(done.seconds)}"
    )
    if done.note:
        terminal.warn(done.note)
    if json:
        terminal.write_json({"out": str(out), **describe(done.tokenizer)})


@app.command("encode", cls=Command)
def encode(
    directory: Path = _DIRECTORY,
    files: list[str] = _FILES,
    form: str = typer.Option("ids", "--unit", help="What to write for each line: ids or tokens."),
    sampling: float = typer.Option(
        0.0,
        "--sampling",
        help="Split each line at random instead of in the most probable way (subword regularization). For unigram, "
        "this number is the smoothing parameter alpha: smaller values are more random. For bpe and byte-bpe, it is the "
        "dropout probability of BPE-dropout. 0 means no sampling; a usual value is 0.1.",
    ),
    seed: int = typer.Option(0, "--seed", help="Random seed for --sampling."),
    line_buffered: bool = _LINE_BUFFERED,
    processes: int = shared_options.PROCESSES,
    json: bool = typer.Option(
        False, "--json", help="Write one JSON object for each line, with the text and the ids or tokens."
    ),
    results: Path = OUT_FILE,
) -> None:
    """Convert text to ids or tokens: one output line for each input line.

    \b
    nlpcli tokenize encode tok/ < text
    nlpcli tokenize encode tok/ --unit tokens a.txt b.txt.gz
    """
    from nlpcli.commands import tokenize as recipe
    from nlpcli.runs.open_tokenizer import open_tokenizer

    tokenizer = open_tokenizer(directory)
    if processes > 1:
        if sampling or line_buffered:
            other = "--sampling" if sampling else "--line-buffered"
            raise NlpcliError(f"--processes and {other} can't be used together", hint="leave one of them out")
        lines = recipe.encode_in_processes(directory, _inputs(files), form=form, processes=processes)
    else:
        lines = recipe.encode_lines(
            tokenizer, _inputs(files), form=form, sampling=sampling, seed=seed, line_buffered=line_buffered
        )
    for text, symbols in lines:
        if json:
            terminal.write_json({"text": text, form: symbols})
        else:
            terminal.write_line(" ".join(map(str, symbols)))
        if line_buffered:
            terminal.stdout().flush()


@app.command("decode", cls=Command)
def decode(
    directory: Path = _DIRECTORY,
    files: list[str] = _FILES,
    form: str = typer.Option("ids", "--unit", help="What each input line contains: ids or tokens."),
    line_buffered: bool = _LINE_BUFFERED,
    json: bool = typer.Option(
        False,
        "--json",
        help="Write one JSON object for each line. With --json, line breaks in the decoded text are kept; without it, "
        "they are printed as spaces.",
    ),
    results: Path = OUT_FILE,
) -> None:
    """Convert ids or tokens to text: one output line for each input line.

    \b
    nlpcli tokenize encode tok/ < text | nlpcli tokenize decode tok/
    """
    from nlpcli.commands import tokenize as recipe
    from nlpcli.runs.open_tokenizer import open_tokenizer

    tokenizer = open_tokenizer(directory)
    warned = False
    for symbols, text in recipe.decode_lines(tokenizer, _inputs(files), form=form, line_buffered=line_buffered):
        if json:
            terminal.write_json({form: symbols, "text": text})
        else:
            if "\n" in text:
                if not warned:
                    terminal.warn("line breaks inside a text are written as spaces; --json keeps them")
                    warned = True
                text = text.replace("\n", " ")
            terminal.write_line(text)
        if line_buffered:
            terminal.stdout().flush()


@app.command("info", cls=Command)
def info(
    directory: Path = _DIRECTORY,
    files: list[str] = typer.Argument(
        None,
        metavar="FILE",
        help="Text files. If they are given, statistics of the tokenized text are printed too. '-' means standard "
        "input.",
    ),
    json: bool = typer.Option(False, "--json", help="Write the description as one JSON object."),
    results: Path = OUT_FILE,
) -> None:
    """Describe a tokenizer: its type, vocabulary size, special tokens, settings and some of its tokens.

    If a text is given, the command also prints the numbers of lines, words and tokens, the tokens per word (fertility),
    the characters per token, the shares of unknown tokens and of byte tokens (from 0 to 1), and the number of lines
    that change when they are encoded and decoded.

    \b
    nlpcli tokenize info tok/
    nlpcli tokenize info tok/ test.en
    """
    from nlpcli.commands import tokenize as recipe
    from nlpcli.runs.open_tokenizer import describe, open_tokenizer

    tokenizer = open_tokenizer(directory)
    description = describe(tokenizer)
    if files:
        if "-" in files:
            terminal.announce_stdin()
        description["text"] = recipe.measure(tokenizer, files)
    if json:
        terminal.write_json(description)
        return
    _write_description(description)


def _inputs(files: list[str] | None) -> list[str]:
    names = files or ["-"]
    if "-" in names:
        terminal.announce_stdin()
    return names


def _write_description(description: dict) -> None:
    text = description.pop("text", {})
    for key, value in [*description.items(), *text.items()]:
        if isinstance(value, dict):
            shown = "  ".join(f"{name} {item}" for name, item in value.items())
        elif isinstance(value, list):
            shown = " ".join(value)
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, float):
            shown = f"{value:.4g}"
        else:
            shown = str(value)
        terminal.write_report(f"{key.replace('_', ' '):<22}{shown}")
