"""Nearest vectors by cosine: exactly, by products of matrices in blocks, or with an index that searches only some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nlpcli.config.files import check_regular
from nlpcli.config.optional_packages import optional
from nlpcli.data.vector_files import unit_float32
from nlpcli.errors import NlpcliError

EXACT, FAISS, HNSW = KINDS = ("exact", "faiss", "hnsw")
_BLOCK = 1 << 22  # numbers of vectors brought to length 1 at a time
_SMALL = 1000  # up to here inverted lists don't pay
_NEIGHBOURS, _BREADTH = 16, 200  # of a node in the graph, and candidates while it is built (Malkov and Yashunin 2018)
_SEED = 1

Neighbors = tuple[np.ndarray, np.ndarray]
"""Places (queries, k) and cosines (queries, k), the nearest first; equal ones by their places."""


class Index(Protocol):
    """Vectors, among which the nearest can be looked for. All but the exact one can be saved."""

    def nearest(self, queries: np.ndarray, k: int) -> Neighbors:
        """queries (n, width) of length 1; k at most the number of vectors."""
        ...


class Exact:
    """All cosines are computed; the vectors may be mapped from the disk."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def nearest(self, queries: np.ndarray, k: int) -> Neighbors:
        places = np.zeros((len(queries), 0), dtype=np.int64)
        cosines = np.zeros((len(queries), 0), dtype=np.float32)
        for start, block in unit_blocks(self.vectors):
            scores = queries @ block.T
            cosines = np.concatenate([cosines, scores], axis=1)
            new = np.broadcast_to(np.arange(start, start + len(block)), scores.shape)
            places, cosines = _best(np.concatenate([places, new], axis=1), cosines, k)
        return places, cosines


class _Saved:
    """An index of the library FAISS."""

    def __init__(self, vectors: np.ndarray, file: Path | None = None) -> None:
        self.library = optional("faiss", "search", "an approximate index")
        if file is not None:
            check_regular(file)
        self.index = self._built(vectors) if file is None else self.library.read_index(str(file))

    def _built(self, vectors: np.ndarray) -> Any:
        raise NotImplementedError

    def nearest(self, queries: np.ndarray, k: int) -> Neighbors:
        cosines, places = self.index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return places, cosines

    def save(self, file: Path) -> None:
        self.library.write_index(self.index, str(file))


class Lists(_Saved):
    """Inverted lists around √N centers; an eighth of them, at least eight, is searched (Jégou et al. 2011, sec. 4)."""

    def _built(self, vectors: np.ndarray) -> Any:
        count, width = vectors.shape
        rows = np.concatenate([block for _, block in unit_blocks(vectors)])
        lists = round(count**0.5)
        kind = f"IVF{lists},Flat" if count > _SMALL else "Flat"
        index = self.library.index_factory(width, kind, self.library.METRIC_INNER_PRODUCT)
        if count > _SMALL:
            index.cp.seed = _SEED
            index.cp.min_points_per_centroid = 1
            index.train(rows)
            index.nprobe = min(max(lists // 8, 8), lists)
        index.add(rows)
        return index


class Graph(_Saved):
    """A graph of neighbours in layers, through which a search descends: HNSW (Malkov and Yashunin 2018)."""

    def _built(self, vectors: np.ndarray) -> Any:
        index = self.library.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, self.library.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BREADTH
        threads = self.library.omp_get_max_threads()
        self.library.omp_set_num_threads(1)  # so that the same vectors make the same graph
        try:
            for _, block in unit_blocks(vectors):
                index.add(block)
        finally:
            self.library.omp_set_num_threads(threads)
        return index

    def nearest(self, queries: np.ndarray, k: int) -> Neighbors:
        self.index.hnsw.efSearch = max(4 * k, _BREADTH)
        return super().nearest(queries, k)


def make_index(kind: str, vectors: np.ndarray, file: Path | None = None) -> Index:
    """An index of `kind` over vectors (N, width). file: of an index that was saved before.

    Raises: NlpcliError for an extra that is not installed, and a file that is damaged.
    """
    if kind == EXACT:
        return Exact(vectors)
    try:
        return (Lists if kind == FAISS else Graph)(vectors, file)
    except RuntimeError as error:
        if file is None:
            raise
        raise NlpcliError(f"the index {file} can't be read ({' '.join(str(error).split())[:120]})") from None


def unit_blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Vectors of length 1, block by block, as float32, each block with the place of its first."""
    size = max(_BLOCK // max(vectors.shape[1], 1), 1)
    for start in range(0, len(vectors), size):
        yield start, unit_float32(np.asarray(vectors[start : start + size]))


def _best(places: np.ndarray, cosines: np.ndarray, k: int) -> Neighbors:
    """The k greatest of each row, the greatest first; of equal ones those that stand first."""
    if cosines.shape[1] > k:
        least = -np.partition(-cosines, k - 1, axis=1)[:, k - 1 : k]
        if (np.count_nonzero(cosines >= least, axis=1) == k).all():
            kept = np.nonzero(cosines >= least)[1].reshape(len(cosines), k)
        else:  # equal ones at the border
            kept = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        places, cosines = np.take_along_axis(places, kept, 1), np.take_along_axis(cosines, kept, 1)
    order = np.argsort(-cosines, axis=1, kind="stable")
    return np.take_along_axis(places, order, 1), np.take_along_axis(cosines, order, 1)
