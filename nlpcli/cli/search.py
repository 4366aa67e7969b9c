"""`nlpcli search`: the lines of a corpus that are nearest to a query."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import option_conventions, shared_options, terminal
from nlpcli.cli.option_conventions import OUT_FILE

if TYPE_CHECKING:
    from nlpcli.commands.search import Answer


class Command(option_conventions.Command):
    """Lines to search are given as text or as vectors."""

    exclusive: ClassVar = (("corpus", "vectors"),)
    needed: ClassVar = {"texts": ("vectors",), "candidates": ("rerank",), "positive": ("rerank",)}


def command(
    queries: list[str] = typer.Argument(None, metavar="QUERY", help="Queries. Default: the lines of standard input."),
    model: Path = typer.Option(
        None,
        "--model",
        metavar="DIR",
        help="Model: the folder of a run, a Hugging Face folder, or a text file of word vectors. Default: the model of "
        "the saved index (--vectors DIR); without one, the latest similarity run in runs/, or else the latest encoder "
        "run.",
    ),
    corpus: list[str] = typer.Option(
        [], "--corpus", metavar="FILE", help="File with the lines to search (repeatable)."
    ),
    vectors: Path = typer.Option(
        None,
        "--vectors",
        metavar="PATH",
        help="Instead of --corpus: vectors of the lines (.npy file, together with --texts), or the folder of an index "
        "from --save-index, which contains its lines.",
    ),
    texts: str = typer.Option(
        None,
        "--texts",
        metavar="FILE",
        help="With --vectors FILE.npy, which needs it: the text file whose line n belongs to vector n.",
    ),
    top: int = typer.Option(10, "--top", min=1, help="Number of results (lines) for each query."),
    index: str = typer.Option(
        None,
        "--index",
        help="Index: exact (all cosines), or an approximate index: hnsw (graph of neighbors) or faiss (inverted "
        "lists). Default: that of the saved index, or else exact.",
    ),
    save_index: Path = typer.Option(
        None,
        "--save-index",
        metavar="DIR",
        help="Save the index in this folder; --vectors DIR reads it. If no QUERY is given and standard input is a "
        "terminal, the command only saves the index.",
    ),
    rerank: Path = typer.Option(
        None,
        "--rerank",
        metavar="DIR",
        help="Rerank the results with this cross-encoder: a model that was fine-tuned on pairs of texts "
        "(task regress or classify).",
    ),
    candidates: int = typer.Option(
        50, "--candidates", min=1, help="With --rerank: number of results that are reranked, at least --top."
    ),
    positive: str = typer.Option(
        None,
        "--positive",
        metavar="LABEL",
        help="With --rerank and a classifier: the label whose probability is the score. Default: the label that means "
        "similar, such as 1, yes, relevant, duplicate or entailment; if there is not exactly one, the last label of "
        "the "
        "model.",
    ),
    pooling: str = shared_options.POOLING,
    layers: str = shared_options.LAYERS,
    max_length: int = shared_options.MAX_LENGTH,
    json: bool = typer.Option(False, "--json", help="Write one JSON object for each query."),
    results: Path = OUT_FILE,
    batch_tokens: int = shared_options.VECTOR_BATCH_TOKENS,
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
    engine: str = shared_options.ENGINE,
) -> None:
    """Find the lines of a corpus that are most similar to a query, by cosine similarity of their embeddings.

    Each output line is one result: the number of the query, the score and the text, separated by tabs. The results of a
    query are sorted by score, the highest first.

    \b
    Examples:
      nlpcli search --model runs/similarity --corpus corpus.txt "a dog in the snow"
      nlpcli search --model runs/similarity --corpus corpus.txt --index hnsw --save-index idx/
      cat questions.txt | nlpcli search --vectors idx/ --top 3 --json
      nlpcli search --model runs/similarity --vectors corpus.npy --texts corpus.txt --rerank runs/pairs "snow"
    """
    from nlpcli.commands.search import WINDOW, Search, SearchRequest
    from nlpcli.runs.embedder import EmbedderSettings

    waiting = not queries and sys.stdin is not None and sys.stdin.isatty()
    job = SearchRequest(
        vectors=vectors,
        texts=texts,
        corpus=tuple(corpus),
        settings=EmbedderSettings(
            model=model,
            pooling=pooling,
            layers=layers,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
            threads=threads,
            engine=engine,
        ),
        index=index,
        top=top,
        save_index=save_index,
        rerank=rerank,
        candidates=max(candidates, top),
        positive=positive,
        window=1 if waiting else WINDOW,
    )
    search = Search(job, notify=terminal.notify, warn=terminal.warn)
    if waiting and save_index is not None:
        return
    for portion in search.answers(queries or _lines()):
        for answer in portion:
            if json:
                terminal.write_json(_record(answer, reranked=rerank is not None))
                continue
            for hit in answer.hits:
                terminal.write_line(f"{answer.number}\t{hit.score:.4f}\t{hit.text}")
        terminal.stdout().flush()


def _lines() -> Iterable[str]:
    from nlpcli.data.readers import read_lines

    terminal.announce_stdin()
    return read_lines("-")


def _record(answer: Answer, *, reranked: bool) -> dict[str, object]:
    hits = [
        {"line": hit.line, "score": round(hit.score, 6), "text": hit.text}
        | ({"cosine": round(hit.cosine, 6)} if reranked else {})
        for hit in answer.hits
    ]
    return {"text": answer.query, "hits": hits}
