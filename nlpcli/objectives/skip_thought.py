"""Skip-Thought (Kiros et al. 2015): from the vector of a sentence, write the sentences before and after it.

loss = -Σ_i Σ_t [log p(w_t^{i-1} | w_{<t}^{i-1}, h_i) + log p(w_t^{i+1} | w_{<t}^{i+1}, h_i)]              (section 2.1)

h_i: the vector of sentence i. A sentence at the border of its document has one neighbor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nlpcli.data.bucketing import token_budget_batches
from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.objective import Loss, Sample
from nlpcli.objectives.token_loss import token_loss
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.models.recurrent_sentence_encoder import RecurrentSentenceEncoder

SIDES = {"before": -1, "after": 1}
_COMPARED = 2000  # sentences of the dev set among which the nearest are looked for


class Sentences:
    """The sentences of a shard set that was built with sentences, each with at most `longest` tokens.

    units (n,): the units of the set that are sentences with a neighbor. lengths (n, 3): tokens of each, and of those
    before and after it, 0 where there is none.
    Raises: NlpcliError where no sentence has one.
    """

    def __init__(self, shards: ShardSet, longest: int) -> None:
        self.shards = shards
        self.longest = longest
        sizes = np.minimum(shards.lengths, longest)
        around = np.pad(sizes, 1)  # an empty unit stands after each document
        table = np.stack([sizes, around[:-2], around[2:]], axis=1)
        self.units = np.flatnonzero((sizes > 0) & (table[:, 1:].sum(axis=1) > 0))
        self.lengths = table[self.units]
        if not len(self.units):
            raise NlpcliError(
                "no document has two or more sentences",
                hint="check that data.documents and data.sentences fit the text",
            )

    def __len__(self) -> int:
        return len(self.units)

    def read(self, number: int, offset: int = 0) -> list[int]:
        """A sentence, or the one `offset` after it; empty where there is none."""
        if offset and not self.lengths[number, 1 if offset < 0 else 2]:
            return []
        ids: list[int] = self.shards.document(int(self.units[number]) + offset)[: self.longest].tolist()
        return ids


@dataclass
class NeighborBatch:
    """source: sentences; by side (`SIDES`) the sentences on it: rows (k,), the numbers of their sources;
    inputs, labels and mask (k, n): what is read, what is predicted, and True where there is something to predict."""

    source: Rows
    sides: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]
    count: int
    tokens: int

    def to(self, device: torch.device) -> NeighborBatch:
        def moved(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            rows, inputs, labels, mask = (part.to(device, non_blocking=True) for part in parts)
            return rows, inputs, labels, mask

        return replace(
            self, source=self.source.to(device), sides={side: moved(parts) for side, parts in self.sides.items()}
        )


class SkipThought:
    """Sentences with their neighbors as an `Objective`.

    train, dev: shards that were built with sentences; longer ones than the context are cut. A sentence is read between
    cls and sep, a neighbor written from bos to eos.
    """

    divisible = False  # its batches have no parts

    def __init__(
        self,
        train: ShardSet,
        dev: ShardSet,
        tokenizer: Tokenizer,
        *,
        batching: Batching = Batching(context=64),  # frozen
        loss_settings: LossSettings = CROSS_ENTROPY,
    ) -> None:
        self.special = tokenizer.special
        self.special.check("pad", "bos", "eos", "cls", "sep")
        self.train, self.dev = (Sentences(shards, batching.context - 2) for shards in (train, dev))
        self.batch_tokens = batching.batch_tokens
        self.loss_settings = loss_settings
        self.seed = batching.seed

    def plan(self, epoch: int) -> list[np.ndarray]:
        return token_budget_batches(self.train.lengths + 2, max_tokens=self.batch_tokens, seed=self.seed, epoch=epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> NeighborBatch:
        return self._batch(self.train, item)

    def _batch(self, sentences: Sentences, item: np.ndarray) -> NeighborBatch:
        source = self.rows([sentences.read(number) for number in item])
        sides, count = {}, 0
        for side, offset in SIDES.items():
            texts = [sentences.read(number, offset) for number in item]
            rows = [row for row, text in enumerate(texts) if text]
            if rows:
                sides[side] = (torch.tensor(rows), *self._written([texts[row] for row in rows]))
                count += int(sides[side][3].sum())
        return NeighborBatch(source, sides, count, source.tokens + count)

    def _written(self, texts: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and mask of sentences, see `NeighborBatch`."""
        special = self.special
        found = stack([Row([special.bos, *text, special.eos], [0] * (len(text) + 2)) for text in texts], special.pad)
        labels = found.ids[:, 1:]
        return found.ids[:, :-1], labels, torch.arange(labels.size(1)) < found.ends[:, None]

    def rows(self, texts: list[list[int]]) -> Rows:
        """Sentences as the encoder reads them."""
        special = self.special
        return stack([Row([special.cls, *text, special.sep], [0] * (len(text) + 2)) for text in texts], special.pad)

    def loss(self, model: RecurrentSentenceEncoder, batch: NeighborBatch, carry: None = None) -> tuple[Loss, None]:
        vectors = model.vectors(batch.source)
        hidden, labels = [], []
        for side, (rows, inputs, wanted, mask) in batch.sides.items():
            hidden.append(model.neighbor_hidden(side, inputs, vectors[rows])[mask])
            labels.append(wanted[mask])
        return token_loss(model, torch.cat(hidden), torch.cat(labels), self.loss_settings), None

    def evaluate(self, model: RecurrentSentenceEncoder, device: torch.device) -> Iterator[Loss]:
        """Losses of the dev set, each sentence once."""
        for item in self._dev_plan:
            yield self.loss(model, self._batch(self.dev, item).to(device))[0]

    @cached_property
    def _dev_plan(self) -> list[np.ndarray]:
        return token_budget_batches(self.dev.lengths + 2, max_tokens=self.batch_tokens, shuffle=False)

    def nearest_sentences(
        self, model: RecurrentSentenceEncoder, device: torch.device, count: int
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Sentences of the dev set, the same every time, each with the other one of the greatest cosine."""
        compared = [self.dev.read(number) for number in evenly_spaced(len(self.dev), _COMPARED)]
        sizes = np.array([len(text) + 2 for text in compared])
        parts = token_budget_batches(sizes, max_tokens=self.batch_tokens, shuffle=False)
        found = [model.vectors(self.rows([compared[place] for place in part]).to(device)) for part in parts]
        order = torch.from_numpy(np.argsort(np.concatenate(parts))).to(device)
        units = normalize(torch.cat(found), dim=1)[order]
        for place in evenly_spaced(len(compared), count):
            cosines = units @ units[place]
            cosines[place] = -2.0
            yield compared[place], compared[int(cosines.argmax())]

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Sentences, and those around them, which are to be written."""
        for number in rng.integers(len(self.train), size=count):
            own, before, after = (self.train.read(number, offset) for offset in (0, -1, 1))
            written = [id_ for text in (before, after) if text for id_ in [*text, self.special.eos]]
            yield Sample([*before, *own, *after], own, written)
