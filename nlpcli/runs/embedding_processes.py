"""Embedding windows of texts, here or in several processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.text_inputs import Input

if TYPE_CHECKING:
    from nlpcli.runs.embedder import WordVector

_Found = TypeVar("_Found")
Compute = Callable[[Embedder, Sequence[str]], _Found]
"""A function of texts, which can be sent to another process."""


def text_vectors(embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
    """The vectors of texts, (n, width)."""
    return embedder.vectors(texts)


@dataclass(frozen=True)
class WordsOf:
    """The vectors of words in texts. find: makes what finds the words, out of `only`. how: see `word_vectors`."""

    find: Callable[[Sequence[str]], Callable[[str], Sequence[tuple[int, int]]]]
    only: Sequence[str]
    how: str

    def __call__(self, embedder: Embedder, texts: Sequence[str]) -> list[list[WordVector]]:
        return embedder.word_vectors(texts, self.find(self.only), how=self.how)


def embed_windows(
    embedder: Embedder,
    settings: EmbedderSettings,
    windows: Iterable[list[Input]],
    compute: Compute[_Found],
    processes: int = 1,
) -> Iterator[tuple[list[Input], _Found]]:
    """The windows of lines, each with the vectors of its texts, in order.

    embedder: the model of these settings, which has seen the texts that vectors depend on as a whole; it counts the
    texts that are cut. Each other process opens the model for itself. Raises: NlpcliError as `windows`, after all
    windows before; RunFailed when a process ends.
    """
    if processes == 1:
        for window in windows:
            yield window, compute(embedder, [line.text for line in window])
        return
    from nlpcli.runs.worker_processes import in_processes

    read: deque[list[Input]] = deque()

    def texts() -> Iterator[list[str]]:
        for window in windows:
            read.append(window)
            yield [line.text for line in window]

    settings = replace(settings, model=embedder.path if settings.model is None else settings.model)
    for found, cut in in_processes(texts(), _EmbeddingWork(settings, embedder.component, compute), processes):
        embedder.cut += cut
        yield read.popleft(), found


@dataclass(frozen=True)
class _EmbeddingWork(Generic[_Found]):
    """Embeds the texts of windows; gives with them how many were cut."""

    settings: EmbedderSettings
    component: np.ndarray | None
    compute: Compute[_Found]

    def open(self, number: int, threads: int) -> Callable[[list[str]], tuple[_Found, int]]:
        from nlpcli.runs.worker_processes import device_of

        settings = replace(
            self.settings,
            device=device_of(self.settings.device, number),
            threads=self.settings.threads or threads,
        )
        embedder = Embedder(settings, notify=lambda text: None)
        embedder.component = self.component

        def embed_texts(texts: list[str]) -> tuple[_Found, int]:
            embedder.cut = 0
            return self.compute(embedder, texts), embedder.cut

        return embed_texts
