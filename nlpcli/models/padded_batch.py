"""Inputs of a model with a head: whole sequences, padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One sequence: ids, and the kind of segment of each, special tokens included.

    sentences: the number of each token's sentence, from 0, -1 of special tokens, where the model distinguishes them.
    """

    ids: Sequence[int] | np.ndarray
    segments: Sequence[int] | np.ndarray
    sentences: Sequence[int] | np.ndarray | None = None


@dataclass
class Rows:
    """ids (rows, n); mask (rows, n), True where there is a token, or None; segments (rows, n) or None; ends (rows,).

    ends: the place of each row's last token. sentences (rows, n): see `Row`; -1 also where there is no token.
    """

    ids: Tensor
    mask: Tensor | None
    segments: Tensor | None
    ends: Tensor
    sentences: Tensor | None = None

    def to(self, device: torch.device) -> Rows:
        def moved(field: Tensor) -> Tensor:
            return field.to(device, non_blocking=True)

        return Rows(
            moved(self.ids),
            None if self.mask is None else moved(self.mask),
            None if self.segments is None else moved(self.segments),
            moved(self.ends),
            None if self.sentences is None else moved(self.sentences),
        )

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` up to `stop`."""
        return Rows(
            self.ids[start:stop],
            None if self.mask is None else self.mask[start:stop],
            None if self.segments is None else self.segments[start:stop],
            self.ends[start:stop],
            None if self.sentences is None else self.sentences[start:stop],
        )

    @property
    def tokens(self) -> int:
        """Padding not counted."""
        return int(self.ends.sum()) + len(self.ends)


def stack(rows: Sequence[Row], pad: int, *, segments: bool = True) -> Rows:
    """Rows as tensors, filled up with `pad` at the end. segments: whether the model distinguishes kinds of segments."""
    lengths = np.array([len(row.ids) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad, dtype=np.int64)
    kinds = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : lengths[i]] = row.ids
        kinds[i, : lengths[i]] = row.segments
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    sentences = None
    if all(row.sentences is not None for row in rows):
        sentences = np.full_like(ids, -1)
        sentences[mask] = np.concatenate([row.sentences for row in rows if row.sentences is not None])
    return Rows(
        torch.from_numpy(ids),
        None if mask.all() else torch.from_numpy(mask),
        torch.from_numpy(kinds) if segments and kinds.any() else None,
        torch.from_numpy(lengths - 1),
        None if sentences is None else torch.from_numpy(sentences),
    )
