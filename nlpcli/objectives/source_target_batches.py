"""A source that is read, a target that is predicted: the batches of everything an encoder-decoder learns.

p(y | x) = Π_t p(y_t | y_<t, x). The encoder reads `x … eos`; the decoder reads `bos y …` and predicts `y … eos`.
Translation and denoising share this layout, so that a pretrained model is fine-tuned with the same layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.objectives.objective import places_of_rows
from nlpcli.text import SpecialTokens

if TYPE_CHECKING:
    from typing_extensions import Self


Ids = Sequence[int] | np.ndarray


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(rows, longest) ids, filled up with `value` at the end."""
    longest = max(map(len, rows))
    table = np.full((len(rows), longest), value, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return torch.from_numpy(table)


@dataclass
class PairBatch:
    """source (batch, m), source_mask (batch, m) or None, target (batch, n) read, labels (k) predicted at `places` (k).

    own (batch, n): True where a decoder reads the token that it predicts itself instead of the target's.
    links (batch, n, m): how much of an alignment head's attention belongs to each source token, see
    `nlpcli.objectives.guided_alignment`; rows sum to 1, or to 0 where nothing is known.
    """

    source: Tensor
    source_mask: Tensor | None
    target: Tensor
    labels: Tensor
    places: Tensor  # of the labels in the flattened target
    tokens: int  # in source and target, padding not counted
    own: Tensor | None = None
    links: Tensor | None = None

    @property
    def count(self) -> int:
        return self.labels.numel()

    @property
    def size(self) -> int:
        return len(self.source)

    def part(self, start: int, stop: int) -> Self:
        """The rows from `start` up to `stop`; `tokens` are its share of those of all rows."""
        places, labels = places_of_rows(self.places, self.labels, start, stop, self.target.size(1))
        assert places is not None and labels is not None  # of every batch
        return replace(
            self,
            source=self.source[start:stop],
            source_mask=None if self.source_mask is None else self.source_mask[start:stop],
            target=self.target[start:stop],
            labels=labels,
            places=places,
            tokens=self.tokens * (stop - start) // self.size,
            own=None if self.own is None else self.own[start:stop],
            links=None if self.links is None else self.links[start:stop],
        )

    def to(self, device: torch.device) -> Self:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in values if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def pair_batch(
    pairs: Sequence[tuple[Ids, Ids]],
    special: SpecialTokens,
    start: Sequence[int] | None = None,
    *,
    source_special: SpecialTokens | None = None,
) -> PairBatch:
    """Source and target ids, without eos, as a batch in the layout above. start: what targets begin with, bos if None.

    Of several ids in `start` none is predicted, since a search is given them, too. source_special: of sources in
    another vocabulary than the targets'.
    """
    start = [special.bos] if start is None else list(start)
    given = len(start) - 1
    lengths = np.array([(len(source), len(target)) for source, target in pairs]) + 1
    m, n = lengths.max(axis=0)
    n += given
    read = source_special or special
    source = np.full((len(pairs), m), read.pad)
    target, labels = (np.full((len(pairs), n), special.pad) for _ in range(2))
    target[:, : given + 1] = start
    for i, (x, y) in enumerate(pairs):
        source[i, : len(x)], source[i, len(x)] = x, read.eos
        labels[i, given : given + len(y)], labels[i, given + len(y)] = y, special.eos
        target[i, given + 1 : given + len(y) + 1] = y
    mask = np.arange(m) < lengths[:, :1]
    predicted = (np.arange(n) >= given) & (np.arange(n) < lengths[:, 1:] + given)
    places = np.flatnonzero(predicted)
    return PairBatch(
        source=torch.from_numpy(source),
        source_mask=None if mask.all() else torch.from_numpy(mask),
        target=torch.from_numpy(target),
        labels=torch.from_numpy(labels.ravel()[places]),
        places=torch.from_numpy(places),
        tokens=int(lengths.sum()),
    )


def stream_batch(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], special: SpecialTokens) -> PairBatch:
    """Prompts and what follows them, without eos, as a decoder reads them: in one stream, which is the batch's target.

    Only what follows a prompt, and the end, is predicted. source (batch, m) holds the prompts alone, for a search. None
    of them may be empty.
    """
    streams = [[*prompt, *rest] for prompt, rest in pairs]
    target = pad(streams, special.pad)
    ends = [
        row * target.size(1) + i
        for row, (prompt, rest) in enumerate(pairs)
        for i in range(len(prompt) - 1, len(prompt) + len(rest))
    ]
    source = pad([prompt for prompt, _ in pairs], special.pad)
    lengths = torch.tensor([len(prompt) for prompt, _ in pairs])
    return PairBatch(
        source=source,
        source_mask=torch.arange(source.size(1)) < lengths[:, None],
        target=target,
        labels=torch.tensor([id_ for _, rest in pairs for id_ in (*rest, special.eos)]),
        places=torch.tensor(ends),
        tokens=sum(map(len, streams)),
    )
