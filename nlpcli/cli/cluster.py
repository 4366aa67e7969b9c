"""`nlpcli cluster`: cluster lines by their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import option_conventions, shared_options, terminal
from nlpcli.cli.option_conventions import OUT_FILE


class Command(option_conventions.Command):
    """The number of clusters is given, or it follows from a distance threshold."""

    exclusive: ClassVar = (
        ("k", "distance"),
        ("distance", "seed"),
        *(("vectors", name) for name in ("model", "pooling", "layers", "max_length", "batch_tokens", "device")),
    )


def command(
    files: list[str] = typer.Argument(
        None, metavar="FILE", help=f"Files with the lines to cluster. {option_conventions.STANDARD_INPUT}"
    ),
    model: Path = shared_options.VECTOR_MODEL,
    vectors: Path = typer.Option(
        None, "--vectors", metavar="FILE", help="Instead of --model: .npy file with the vectors of the lines."
    ),
    k: int = typer.Option(
        None,
        "--k",
        min=1,
        help="Number of clusters (k-means clustering). Either --k or --distance-threshold is needed.",
    ),
    distance: float = typer.Option(
        None,
        "--distance-threshold",
        help="Instead of --k: agglomerative clustering that merges clusters whose mean cosine distance (0 to 2) is "
        "below this threshold.",
    ),
    summary: bool = typer.Option(
        False, "--summary", help="Print for each cluster its number, its size and its most central line."
    ),
    json: bool = typer.Option(False, "--json", help="Write JSON lines."),
    results: Path = OUT_FILE,
    seed: int = typer.Option(1, "--seed", help="Random seed of k-means. The same seed gives the same clusters."),
    pooling: str = shared_options.POOLING,
    layers: str = shared_options.LAYERS,
    max_length: int = shared_options.MAX_LENGTH,
    batch_tokens: int = shared_options.VECTOR_BATCH_TOKENS,
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
) -> None:
    """Cluster lines by cosine similarity of their embeddings.

    Each output line is the number of the cluster, a tab, and the input line. Cluster 1 is the largest. The command
    needs an extra package: pip install 'nlpcli[cluster]'.

    \b
    Examples:
      nlpcli cluster --model runs/similarity --k 20 lines.txt
      nlpcli cluster --model runs/similarity --distance-threshold 0.3 --summary lines.txt
      nlpcli cluster --vectors lines.npy --k 20 --json lines.txt
    """
    from nlpcli.commands.cluster import ClusterRequest, cluster
    from nlpcli.runs.embedder import EmbedderSettings

    job = ClusterRequest(
        files=tuple(files or ["-"]),
        vectors=vectors,
        settings=EmbedderSettings(
            model=model,
            pooling=pooling,
            layers=layers,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
            threads=threads,
        ),
        k=k,
        distance=distance,
        seed=seed,
    )
    if "-" in job.files:
        terminal.announce_stdin()
    found = cluster(job, notify=terminal.notify, warn=terminal.warn)
    if summary:
        for number, (size, place) in enumerate(zip(found.sizes, found.central.tolist(), strict=True), start=1):
            text = found.texts[place]
            if json:
                terminal.write_json({"cluster": number - 1, "size": size, "line": place + 1, "text": text})
            else:
                terminal.write_line(f"{number}\t{size}\t{text}")
        return
    for group, text in zip(found.groups.tolist(), found.texts, strict=True):
        if json:
            terminal.write_json({"text": text, "cluster": group - 1})
        else:
            terminal.write_line(f"{group}\t{text}")
