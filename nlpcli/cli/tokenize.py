"""`nlpcli tokenize`: train a tokenizer, use it as a filter, look at it."""

from __future__ import annotations

from pathlib import Path

import typer

from nlpcli.cli import shell_completion, terminal
from nlpcli.cli.convention import OUT_FILE, Command
from nlpcli.config.counting import counted

app = typer.Typer(no_args_is_help=False)

_DIRECTORY = typer.Argument(..., metavar="DIR", help="A tokenizer's folder, or a run's.", show_default=False)
_FILES = typer.Argument(None, metavar="FILE", help="Text files, also .gz, .xz or .zst; none or '-': standard input.")
_LINE_BUFFERED = typer.Option(False, "--line-buffered", help="Write each result before the next line is read.")


@app.command("train", cls=Command)
def train(
    files: list[str] = typer.Argument(
        ..., metavar="FILE...", help="Text files, folders or globs, also compressed; '-' is standard input."
    ),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder of the new tokenizer."),
    type_: str = typer.Option(
        "unigram",
        "--type",
        help="unigram, bpe, wordpiece, byte-bpe, chars or words.",
        autocompletion=shell_completion.tokenizers,
    ),
    vocab_size: int = typer.Option(
        None,
        "--vocab-size",
        help="Vocabulary size, special tokens and bytes included. Default: 8000; chars, words: all that occur.",
    ),
    sentinels: int = typer.Option(
        0, "--sentinels", min=0, help="Number of special tokens <sentinel_0>, <sentinel_1> …"
    ),
    byte_fallback: bool = typer.Option(
        None,
        "--byte-fallback/--no-byte-fallback",
        help="Split characters without a token into bytes, "
        "so that no token is unknown. Default: on, except for wordpiece.",
    ),
    normalization: str = typer.Option(
        "identity", "--normalization", help="Unicode normalization: identity, nfc, nfkc or nfkc_cf."
    ),
    lowercase: bool = typer.Option(
        False, "--lowercase", help="Lowercase; wordpiece also strips accents, as BERT does."
    ),
    character_coverage: float = typer.Option(
        1.0,
        "--character-coverage",
        help="Share of the text's characters that are in the vocabulary (0.9995 for Chinese).",
    ),
    max_lines: int = typer.Option(
        1_000_000, "--max-lines", min=1, help="Train on at most this many lines, sampled at random."
    ),
    seed: int = typer.Option(0, "--seed", help="Seed for --max-lines."),
    documents: str = typer.Option("auto", "--documents", help="auto, lines, paragraphs, file, jsonl or tsv."),
    field: str = typer.Option("text", "--field", help="Field of the text in JSON lines."),
    column: int = typer.Option(1, "--column", help="The column of the text in TSV, from 1."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a tokenizer that is already there."),
    json: bool = typer.Option(False, "--json", help="Report as one JSON object."),
) -> None:
    """Train a tokenizer on text.

    \b
    nlpcli tokenize train --type unigram --vocab-size 8000 --out tok/ train.en train.de
    zcat corpus.gz | nlpcli tokenize train --type byte-bpe --vocab-size 16000 --out tok/ -
    """
    from nlpcli.commands import tokenize as recipe
    from nlpcli.data.readers import TextSource

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
    drawn = "" if done.lines == done.lines_read else f", sampled from {done.lines_read:,} (--max-lines)"
    terminal.say(
        f"{out}: {type_}, {counted(done.tokenizer.vocab_size, 'token')} from {counted(done.lines, 'line')}{drawn}, "
        f"in {terminal.duration(done.seconds)}"
    )
    if done.note:
        terminal.warn(done.note)
    if json:
        terminal.write_json({"out": str(out), **recipe.describe(done.tokenizer)})


@app.command("encode", cls=Command)
def encode(
    directory: Path = _DIRECTORY,
    files: list[str] = _FILES,
    form: str = typer.Option("ids", "--as", metavar="FORM", help="ids or tokens."),
    sampling: float = typer.Option(
        0.0,
        "--sampling",
        help="Sample a segmentation (subword regularization): unigram: the power its probability is raised to (0.1); "
        "bpe, byte-bpe: the probability that a merge is left out (0.1).",
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of --sampling."),
    line_buffered: bool = _LINE_BUFFERED,
    json: bool = typer.Option(
        False, "--json", help="Write one JSON object for each line, with its text and its ids or tokens."
    ),
    results: Path = OUT_FILE,
) -> None:
    """Turn text into ids or tokens: one output line for each input line.

    \b
    nlpcli tokenize encode tok/ < text
    nlpcli tokenize encode tok/ --as tokens a.txt b.txt.gz
    """
    from nlpcli.commands import tokenize as recipe

    tokenizer = recipe.open_tokenizer(directory)
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
    form: str = typer.Option("ids", "--as", metavar="FORM", help="Input: ids or tokens."),
    line_buffered: bool = _LINE_BUFFERED,
    json: bool = typer.Option(
        False, "--json", help="Write one JSON object for each line; line ends inside a text are kept."
    ),
    results: Path = OUT_FILE,
) -> None:
    """Turn ids or tokens into text: one output line for each input line.

    \b
    nlpcli tokenize encode tok/ < text | nlpcli tokenize decode tok/
    """
    from nlpcli.commands import tokenize as recipe

    tokenizer = recipe.open_tokenizer(directory)
    warned = False
    for symbols, text in recipe.decode_lines(tokenizer, _inputs(files), form=form, line_buffered=line_buffered):
        if json:
            terminal.write_json({form: symbols, "text": text})
        else:
            if "\n" in text:
                if not warned:
                    terminal.warn("line ends inside a text are written as spaces; --json keeps them")
                    warned = True
                text = text.replace("\n", " ")
            terminal.write_line(text)
        if line_buffered:
            terminal.stdout().flush()


@app.command("info", cls=Command)
def info(
    directory: Path = _DIRECTORY,
    files: list[str] = typer.Argument(
        None, metavar="FILE", help="Text to measure the tokenizer on; '-' is standard input."
    ),
    json: bool = typer.Option(False, "--json", help="Write one JSON object."),
    results: Path = OUT_FILE,
) -> None:
    """Describe a tokenizer and, given a text, measure how it splits it.

    \b
    nlpcli tokenize info tok/
    nlpcli tokenize info tok/ test.en
    """
    from nlpcli.commands import tokenize as recipe

    tokenizer = recipe.open_tokenizer(directory)
    description = recipe.describe(tokenizer)
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
