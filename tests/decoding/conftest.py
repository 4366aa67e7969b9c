"""Small models whose every continuation can be listed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor


class Toy:
    """A random recurrent model: p depends on the source (its first hidden state) and on every token before.

    `max_length` positions; `sharpness` scales the logits. `widths` are those `reorder` was called with.
    """

    def __init__(
        self, vocabulary: int, *, seed: int = 0, sharpness: float = 3.0, max_length: int | None = None
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        width = 8
        self.vocabulary, self.max_length, self.sharpness = vocabulary, max_length, sharpness
        self.embedding = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
        self.recurrent = torch.randn(width, width, generator=generator, dtype=torch.float64)
        self.output = torch.randn(width, vocabulary, generator=generator, dtype=torch.float64)
        self.source_seed = seed
        self.rows_seen: list[int] = []

    def init_state(self, sources: Sequence[int]) -> Tensor:
        """The state (rows, width) for sources named by numbers."""
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(1000 + s), dtype=torch.float64) for s in sources]
        return torch.stack(rows)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.rows_seen.append(len(tokens))
        for column in tokens.T:
            state = torch.tanh(state @ self.recurrent + self.embedding[column])
        return (self.sharpness * state @ self.output).float(), state

    def reorder(self, state: Tensor, index: Tensor, width: int = 1) -> Tensor:
        assert len(index) % width == 0
        return state[index]

    def log_probabilities(self, source: int, prefix: Sequence[int], ids: Sequence[int]) -> list[Tensor]:
        """log p( · | source, prefix, ids[:t]) for t = 0 … len(ids), one token at a time, float64."""
        logits, state = self.step(torch.tensor([list(prefix)]), self.init_state([source]))
        rows = [logits[0]]
        for token in ids:
            logits, state = self.step(torch.tensor([[token]]), state)
            rows.append(logits[0])
        return [row.double().log_softmax(-1) for row in rows]

    def logprob(self, source: int, prefix: Sequence[int], ids: Sequence[int], eos: int | None) -> float:
        """log p(ids, eos | source, prefix); without the end when `eos` is None."""
        tables = self.log_probabilities(source, prefix, ids)
        goal = [*ids] if eos is None else [*ids, eos]
        return sum(float(table[token]) for table, token in zip(tables, goal, strict=False))

    def every_text(self, eos: int, limit: int):
        """All sequences of at most `limit` tokens that end with eos, without it."""
        others = [token for token in range(self.vocabulary) if token != eos]
        for length in range(limit):
            yield from itertools.product(others, repeat=length)


@pytest.fixture(scope="session")
def toy():
    return Toy
