"""`nlpcli embed`: vectors of lines, and of words in their contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import option_conventions, shared_options, terminal
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.runs.embedding_inputs import EmbedRequest


class Command(option_conventions.Command):
    """Some options are for the vectors of words."""

    needed: ClassVar = dict.fromkeys(("word", "word_pooling", "static", "similarity"), ("tokens",))


def command(
    files: list[str] = typer.Argument(
        None, metavar="FILE", help=f"Files with the lines to embed. {option_conventions.STANDARD_INPUT}"
    ),
    model: Path = shared_options.VECTOR_MODEL,
    output: Path = typer.Option(
        None, "--out", metavar="FILE", help="Write the vectors to this .npy or .jsonl file instead of standard output."
    ),
    pooling: str = typer.Option(
        None,
        "--pooling",
        help="How the hidden states of the tokens become one vector: mean, max (of each dimension), first (state of "
        "the first token) or last. For word vectors also sif (smooth inverse frequency: a mean in which frequent words "
        "have little weight, without the first principal component of the first 10,000 lines); for paragraph vectors "
        "paragraph (inferred for each line). Default: as the model was trained, or else mean.",
    ),
    normalize: bool = typer.Option(
        None,
        "--normalize/--no-normalize",
        help="Scale each vector to length 1. Default: as the model was trained, or else off.",
    ),
    layers: str = typer.Option(
        None,
        "--layers",
        help="Layers whose hidden states are used: last (the last layer), mean:N (mean of the last N layers) or "
        "concat:N (concatenation of the last N layers). Default: as the model was trained, or else last.",
    ),
    max_length: int = typer.Option(
        None,
        "--max-length",
        min=1,
        help="Truncate lines to this many tokens, special tokens included. Default: the maximum of the model.",
    ),
    tokens: bool = typer.Option(
        False, "--tokens", help="Embed each word of the lines in its context, instead of each line."
    ),
    word: list[str] = typer.Option(
        [], "--word", metavar="WORD", help="With --tokens: embed only this word (repeatable). Default: all words."
    ),
    word_pooling: str = typer.Option(
        "mean",
        "--word-pooling",
        help="With --tokens: how the hidden states of the tokens of a word become one vector: mean or first.",
    ),
    static: bool = typer.Option(
        False,
        "--static",
        help="With --tokens: also output, as a separate vector, the static embedding of the word: the mean of its "
        "token "
        "embeddings, which do not depend on the context. With --similarity: also print the cosine similarity of these.",
    ),
    similarity: bool = typer.Option(
        False,
        "--similarity",
        help="With --tokens: print the cosine similarity of each pair of embedded words in all lines "
        "instead of their vectors.",
    ),
    json: bool = typer.Option(
        False, "--json", help="Write JSON lines. This is the default, except with --similarity.", show_default=False
    ),
    format: str = typer.Option(
        "auto", "--format", help="Format of the input: auto (by the file name), lines or jsonl (JSON lines)."
    ),
    field: str = typer.Option(
        None,
        "--field",
        help=f"JSON field to embed. {option_conventions.JSON_FIELD} The option implies --format jsonl. Default: text.",
    ),
    output_field: str = typer.Option("vector", "--output-field", help="JSON field that the vector is written to."),
    batch_tokens: int = shared_options.VECTOR_BATCH_TOKENS,
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
    engine: str = shared_options.ENGINE,
    processes: int = shared_options.PROCESSES,
) -> None:
    """Compute embeddings (vectors) of lines, or of words in context.

    The output contains one vector for each input line, in the same order; a blank line has a vector, too. It is written
    as JSON lines, or as the rows of a NumPy array (.npy). JSON lines in the input keep their fields.

    \b
    Examples:
      nlpcli embed --model runs/similarity --out corpus.npy corpus.txt
      echo "A dog runs." | nlpcli embed --model runs/encoder --pooling first
      nlpcli embed --model glove.6B.300d.txt --pooling sif --out corpus.npy corpus.txt
      nlpcli embed --model runs/encoder --tokens --word plane --similarity --static lines.txt
    """
    from nlpcli.commands.embed import embed, json_line
    from nlpcli.runs.embedder import EmbedderSettings
    from nlpcli.runs.embedding_inputs import EmbedRequest

    vectors = EmbedderSettings(
        model=model,
        pooling=pooling,
        normalize=normalize,
        layers=layers,
        max_length=max_length,
        batch_tokens=batch_tokens,
        device=device,
        threads=threads,
        engine=engine,
    )
    job = EmbedRequest(
        files=tuple(files or ["-"]),
        vectors=vectors,
        format=format,
        field=field,
        output_field=output_field,
        word=word_pooling,
        only=tuple(word),
        processes=processes,
    )
    if output_field != "vector" and (tokens or (output is not None and output.suffix == ".npy")):
        raise NlpcliError(f"--output-field has no effect with {'--tokens' if tokens else output}", hint="leave it out")
    suffix = _suffix(output, tokens, similarity)
    if tokens:
        words_given = {"--pooling": pooling is not None, "--normalize": normalize is not None}
        for name in (name for name, given in words_given.items() if given):
            terminal.warn(f"{name} has no effect with --tokens")
    if "-" in job.files:
        terminal.announce_stdin()
    if tokens:
        _words(job, output, static, similarity, json=json)
        return
    width, portions = embed(job, objects=suffix != ".npy", notify=terminal.notify, warn=terminal.warn)
    if suffix == ".npy":
        from nlpcli.data.vector_files import write_vectors

        count = write_vectors(output, (block for _, block in portions), width)
        terminal.notify(f"{output}: {counted(count, 'vector')} of dimension {width}")
        return
    _write(
        (
            [json_line(line, vector, output_field) for line, vector in zip(window, block, strict=True)]
            for window, block in portions
        ),
        output,
    )


def _suffix(output: Path | None, tokens: bool, similarity: bool) -> str | None:
    if output is None:
        return None
    if similarity:
        raise NlpcliError(
            "--similarity writes to standard output, so --out has no effect with it", hint="leave one of them out"
        )
    if tokens and output.suffix == ".npy":
        raise NlpcliError(
            f"--tokens writes JSON lines, but {output} is a NumPy file", hint="name a file that ends in .jsonl"
        )
    if output.suffix not in (".npy", ".jsonl"):
        raise NlpcliError(f"--out needs a file that ends in .npy or .jsonl, but is '{output}'")
    return output.suffix


def _words(job: EmbedRequest, output: Path | None, static: bool, similarity: bool, *, json: bool) -> None:
    from nlpcli.commands.embed import MOST_COMPARED, compare, embed_words, word_line

    portions = embed_words(job, notify=terminal.notify, warn=terminal.warn)
    if not similarity:
        _write(([word_line(one, static=static) for one in portion] for portion in portions), output)
        return
    words = []
    for portion in portions:
        words += portion
        if len(words) > MOST_COMPARED:
            break
    rows = [
        [f"{pair.cosine:.4f}"]
        + [f"{pair.static:.4f}"] * static
        + [f"{one.line}: {one.around}" for one in (pair.first, pair.second)]
        for pair in compare(words)
    ]
    if json:
        for pair in compare(words):
            both = [{"line": one.line, "index": one.index - 1, "word": one.text} for one in (pair.first, pair.second)]
            cosines = {"cosine": pair.cosine} | ({"static": pair.static} if static else {})
            terminal.write_json({"words": both, **cosines})
        return
    terminal.write_table(["cosine", *["static"] * static, "first word", "second word"], rows)


def _write(portions: Iterable[list[str]], output: Path | None) -> None:
    if output is not None:
        from nlpcli.config.files import write_lines

        write_lines(output, _each(portions))
        return
    for portion in portions:
        terminal.stdout().writelines(line + "\n" for line in portion)
        terminal.stdout().flush()


def _each(portions: Iterable[list[str]]) -> Iterator[str]:
    for portion in portions:
        yield from portion
