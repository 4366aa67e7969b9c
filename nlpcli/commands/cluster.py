"""Grouping lines by their vectors: into k groups, or into as many as lie apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.optional_packages import optional
from nlpcli.data.open_text import STDIN
from nlpcli.data.vector_files import finite_vectors, unit_float32
from nlpcli.errors import NlpcliError
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.embedding_inputs import EmbedRequest, check_files, fitted, read_texts, warn_cut_lines, windows

MOST_COMPARED = 20_000  # with so many lines all distances fit in memory


@dataclass(frozen=True)
class ClusterRequest:
    """The texts to cluster, and the settings.

    files: lines, "-" for standard input. vectors: theirs, in a .npy file; None: they are embedded first. k: so many
    groups, by k-means. distance: instead of k, groups are joined as long as the mean cosine distance (0 to 2) of their
    lines is below this. seed: of k-means.

    Raises: NlpcliError unless one of k and distance is given.
    """

    files: Sequence[str] = (STDIN,)
    vectors: Path | None = None
    settings: EmbedderSettings = field(default_factory=EmbedderSettings)
    k: int | None = None
    distance: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if (self.k is None) == (self.distance is None):
            raise NlpcliError(
                "neither --k nor --distance-threshold is given"
                if self.k is None
                else "--k and --distance-threshold can't be used together",
                hint="add --k NUMBER, or --distance-threshold NUMBER such as 0.4",
            )
        if self.distance is not None and not 0 < self.distance <= 2:
            raise NlpcliError(f"--distance-threshold must be above 0 and at most 2, not {self.distance:g}")


@dataclass(frozen=True)
class Clusters:
    """Lines and the number of each one's group (n,), from 1, the largest group first; central (groups,): the place of
    the line that is nearest to the middle of each."""

    texts: list[str]
    groups: np.ndarray
    central: np.ndarray

    @property
    def sizes(self) -> list[int]:
        """How many lines each group has."""
        return np.bincount(self.groups)[1:].tolist()


def cluster(job: ClusterRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> Clusters:
    """The groups of the lines.

    Vectors are compared by their directions. Sources: Lloyd 1982 (k-means, begun as Arthur and Vassilvitskii 2007 do,
    the best of 10); Sokal and Michener 1958 (joining by mean distance).

    Raises: NlpcliError for bad input, more groups than different lines, and more lines than distances fit in memory.
    """
    optional("sklearn.cluster", "cluster", "clustering")
    check_files(job.files)
    texts, vectors = _read(job, notify=notify, warn=warn)
    if not texts:
        raise NlpcliError(f"there are no lines to cluster in {', '.join(job.files)}")
    rows = unit_float32(vectors)
    labels = _k_means(rows, job.k, job.seed) if job.k is not None else _joined(rows, job)
    return _ordered(texts, rows, labels)


def _read(
    job: ClusterRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> tuple[list[str], np.ndarray]:
    lines = read_texts(EmbedRequest(tuple(job.files)))
    if job.vectors is not None:
        vectors = finite_vectors(job.vectors)
        texts = [line.text for line in lines]
        if len(texts) != len(vectors):
            raise NlpcliError(
                f"{job.vectors} has {counted(len(vectors), 'vector')}, but {', '.join(job.files)} has "
                f"{counted(len(texts), 'line')}",
                hint="name the file that the vectors were made from",
            )
        return texts, np.asarray(vectors)
    embedder = Embedder(job.settings, notify=notify)
    notify(f"vectors: {embedder.describe()}")
    texts, blocks = [], [np.empty((0, embedder.width), dtype=np.float32)]
    for window in windows(fitted(embedder, lines, lambda line: line.text)):
        texts += [line.text for line in window]
        blocks.append(embedder.vectors([line.text for line in window]))
    warn_cut_lines(embedder, warn)
    return texts, np.concatenate(blocks)


def _k_means(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    different = len(np.unique(rows, axis=0))
    if k > different:
        raise NlpcliError(
            f"{counted(different, 'different line')} can't form {counted(k, 'cluster')}",
            hint="choose a smaller --k",
        )
    from sklearn.cluster import KMeans

    return KMeans(n_clusters=k, n_init=10, random_state=seed).fit_predict(rows)


def _joined(rows: np.ndarray, job: ClusterRequest) -> np.ndarray:
    if len(rows) > MOST_COMPARED:
        raise NlpcliError(
            f"--distance-threshold takes at most {MOST_COMPARED:,} lines, not {len(rows):,}", hint="use --k instead"
        )
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64)
    from sklearn.cluster import AgglomerativeClustering

    distances = np.maximum(1 - rows @ rows.T, 0)
    joining = AgglomerativeClustering(
        n_clusters=None, distance_threshold=job.distance, metric="precomputed", linkage="average"
    )
    return joining.fit_predict(distances)


def _ordered(texts: list[str], rows: np.ndarray, labels: np.ndarray) -> Clusters:
    """Groups numbered by their sizes, those of the same size by their first lines."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    groups = numbers[inverse]
    central = np.empty(len(order), dtype=np.int64)
    for group in range(1, len(order) + 1):
        members = np.flatnonzero(groups == group)
        middle = rows[members].mean(axis=0)
        central[group - 1] = members[np.argmax(rows[members] @ middle)]
    return Clusters(texts, groups, central)
