"""Batches of sequences within a budget of tokens, of similar length or random, and the way back to their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from nlpcli.errors import NlpcliError

T = TypeVar("T")


def token_budget_batches(
    lengths: np.ndarray,
    *,
    max_tokens: int,
    max_sentences: int | None = None,
    multiple: int = 1,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    like_length: bool = True,
) -> list[np.ndarray]:
    """Groups examples of similar length into batches that hold at most `max_tokens` tokens, padding included.

    A batch of rows B costs  |B| * max_{i in B} length_i <= max_tokens.  For pairs the larger side counts, so that
    neither side of a batch exceeds the budget. Examples are sorted by length with random tie-breaks, cut greedily,
    and the batches are shuffled; an example that alone is longer than the budget stands alone. Each example is in
    exactly one batch, and the result depends on nothing but the arguments.

    lengths: (n,), or (n, 2) for pairs (source, target), in tokens.
    max_sentences: the most rows in a batch.
    multiple: the number of rows is a multiple of this where the budget allows as many (8 suits GPUs).
    shuffle: without it ties stay in order and batches come from short to long.
    like_length: without it examples are taken in random order, so that a batch is a random sample, with more padding.
    Returns: index arrays (rows,) into `lengths`.
    Raises: NlpcliError for a budget that is not positive.
    Source: Vaswani et al. 2017, 5.1 ("batched together by approximate sequence length").
    """
    for name, value in (("max_tokens", max_tokens), ("max_sentences", max_sentences), ("multiple", multiple)):
        if value is not None and value < 1:
            raise NlpcliError(f"{name} must be at least 1, not {value}")
    lengths = np.asarray(lengths)
    if len(lengths) == 0:
        return []
    sides = lengths.reshape(len(lengths), -1)  # (n, 1) or (n, 2)
    random = np.random.default_rng([seed, epoch])
    longest = np.maximum(sides.max(axis=1).astype(np.int64), 1)
    ties = random.permutation(len(sides)) if shuffle else np.arange(len(sides))
    order = np.lexsort((ties, *sides.T[::-1], longest)) if like_length else ties  # the last key counts first
    batches = _cut(order, longest[order], max_tokens, max_sentences or len(order), multiple)
    if shuffle:
        batches = [batches[index] for index in random.permutation(len(batches))]
    return batches


def _cut(order: np.ndarray, sizes: np.ndarray, max_tokens: int, max_rows: int, multiple: int) -> list[np.ndarray]:
    batches = []
    start = 0
    while start < len(order):
        most = min(max_rows, max(max_tokens // int(sizes[start]), 1))
        ahead = np.maximum.accumulate(sizes[start : start + most])  # so the cost grows with every row
        rows = max(int(np.count_nonzero(ahead * np.arange(1, len(ahead) + 1) <= max_tokens)), 1)
        if rows > multiple:
            rows -= rows % multiple
        batches.append(order[start : start + rows])
        start += rows
    return batches


def restore_order(batches: Iterable[np.ndarray], results: Iterable[Sequence[T]]) -> list[T]:
    """The results of all batches in the order of the examples; `results[b][r]` belongs to `batches[b][r]`."""
    by_index: dict[int, T] = {}
    for batch, batch_results in zip(batches, results, strict=True):
        by_index.update(zip((int(index) for index in batch), batch_results, strict=True))
    return [by_index[index] for index in range(len(by_index))]
