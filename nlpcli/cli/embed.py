"""`nlpcli embed`: vectors of lines, and of words in their contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nlpcli.cli import terminal
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.recipes.embed import Embedding


def command(
    files: list[str] = typer.Argument(
        None, metavar="[FILE]...", help="Files with lines to embed; '-' or none: standard input."
    ),
    model: Path = typer.Option(None, "--model", metavar="DIR", help="A run or a Hugging Face folder."),
    output: Path = typer.Option(
        None, "--out", metavar="FILE", help="Write to this file (.npy or .jsonl), not to standard output."
    ),
    pooling: str = typer.Option(
        None, "--pooling", help="mean, first, max or last hidden state. Default: the model's own, or mean."
    ),
    normalize: bool = typer.Option(
        None, "--normalize/--no-normalize", help="Scale vectors to length 1. Default: as the model does, or no."
    ),
    layers: str = typer.Option(None, "--layers", help="Layers: last, or concat:N or mean:N of the last N."),
    max_length: int = typer.Option(
        None, "--max-length", min=1, help="Maximum number of tokens of a line, special tokens included."
    ),
    tokens: bool = typer.Option(False, "--tokens", help="Embed the words of the lines, in context, not the lines."),
    word: str = typer.Option("mean", "--word", help="With --tokens: mean of a word's tokens, or first."),
    only: list[str] = typer.Option([], "--only", metavar="WORD", help="With --tokens: only this word (repeatable)."),
    static: bool = typer.Option(False, "--static", help="With --tokens: also the input embedding of the word."),
    similarity: bool = typer.Option(
        False, "--similarity", help="With --tokens: print the cosine similarity of all pairs."
    ),
    json: bool = typer.Option(False, "--json", help="Write JSON lines (also with --similarity).", show_default=False),
    format: str = typer.Option(
        "auto", "--format", help="Input: auto, lines or jsonl (JSON lines keep their other fields)."
    ),
    field: str = typer.Option(
        None, "--field", help="JSON field to embed, or its path (data.text); implies jsonl. Default: text."
    ),
    output_field: str = typer.Option("vector", "--output-field", help="JSON field for the vector."),
    batch_tokens: int = typer.Option(4096, "--batch-tokens", min=1, help="Batch size in tokens, padding included."),
    device: str = typer.Option(
        "auto", "--device", help="Device: auto (a CUDA GPU if there is one), cpu, cuda, or cuda:N for GPU N, from 0."
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Number of CPU threads."),
) -> None:
    """Turn lines, or words in context, into vectors.

    One vector for each line, also for a blank line, in the same order: as JSON lines, or as rows of a NumPy file.

    \b
    Examples:
      nlpcli embed --model runs/similarity --out corpus.npy corpus.txt
      echo "A dog runs." | nlpcli embed --model runs/encoder --pooling first
      nlpcli embed --model runs/encoder --tokens --only plane --similarity --static lines.txt
    """
    from nlpcli.recipes.embed import Embedding, embed, json_line
    from nlpcli.recipes.embedder import Vectors

    needing = {"--only": bool(only), "--static": static, "--similarity": similarity, "--word": word != "mean"}
    wrong = next((name for name, given in needing.items() if given and not tokens), None)
    if wrong is not None:
        raise NlpcliError(f"{wrong} applies to words, and lines are embedded", hint="add --tokens")
    vectors = Vectors(
        model=model,
        pooling=pooling,
        normalize=normalize,
        layers=layers,
        max_length=max_length,
        batch_tokens=batch_tokens,
        device=device,
        threads=threads,
    )
    job = Embedding(
        files=tuple(files or ["-"]),
        vectors=vectors,
        format=format,
        field=field,
        output_field=output_field,
        word=word,
        only=tuple(only),
    )
    if output_field != "vector" and (tokens or (output is not None and output.suffix == ".npy")):
        raise NlpcliError(
            "--output-field names the vector in JSON objects, and the input is not JSON", hint="leave it out"
        )
    suffix = _suffix(output, tokens, similarity)
    if tokens:
        words_given = {"--pooling": pooling is not None, "--normalize": normalize is not None}
        for name in (name for name, given in words_given.items() if given):
            terminal.warn(f"{name} has no effect on vectors of words")
    if "-" in job.files:
        terminal.announce_stdin()
    if tokens:
        _words(job, output, static, similarity, json=json)
        return
    width, portions = embed(job, objects=suffix != ".npy", say=terminal.say, warn=terminal.warn)
    if suffix == ".npy":
        from nlpcli.data.vectors import write_vectors

        count = write_vectors(output, (block for _, block in portions), width)
        terminal.say(f"{output}: {counted(count, 'vector')} of dimension {width}")
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
        raise NlpcliError("--similarity writes to standard output", hint="leave out --out or --similarity")
    if tokens and output.suffix == ".npy":
        raise NlpcliError(f"{output}: words and their vectors are JSON lines", hint="name a file that ends in .jsonl")
    if output.suffix not in (".npy", ".jsonl"):
        raise NlpcliError(f"{output}: vectors are written to .npy or .jsonl files")
    return output.suffix


def _words(job: Embedding, output: Path | None, static: bool, similarity: bool, *, json: bool) -> None:
    from nlpcli.recipes.embed import MOST_COMPARED, compare, embed_words, word_line

    portions = embed_words(job, say=terminal.say, warn=terminal.warn)
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
    terminal.write_table(["cosine", *["static"] * static, "one", "the other"], rows)


def _write(portions: Iterable[list[str]], output: Path | None) -> None:
    if output is not None:
        from nlpcli.recipes.translate import write_lines

        write_lines(output, _each(portions))
        return
    for portion in portions:
        terminal.stdout().writelines(line + "\n" for line in portion)
        terminal.stdout().flush()


def _each(portions: Iterable[list[str]]) -> Iterator[str]:
    for portion in portions:
        yield from portion
