"""Small models whose every continuation can be listed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer


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


WORDS = "ein eine der die das mann frau kind hund haus ball spielt läuft steht auf in mit rot groß klein und nicht"


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """1,000 made-up lines of 1 to 14 words, some of them blank."""
    rng, words = random.Random(5), WORDS.split()
    lines = [" ".join(rng.choices(words, k=rng.randint(1, 14))) for _ in range(1000)]
    for place in rng.sample(range(1000), 20):
        lines[place] = rng.choice(["", "  ", "\t"])
    return lines


@pytest.fixture(scope="session")
def tokenizer(sentences):
    return train_tokenizer(
        "unigram", [line for line in sentences if line.strip()], vocab_size=50, byte_fallback=False, seed=1
    )


@pytest.fixture(scope="session")
def transformer(tokenizer):
    """Random encoder–decoders, as sure of themselves and as dependent on their source as trained ones."""

    def build(seed: int = 1, sharpness: float = 6.0, **config):
        torch.manual_seed(seed)
        shape = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "tie": "none"}
        model = build_model(shape | config, tokenizer.vocab_size).eval()
        with torch.no_grad():
            model.output_weight.mul_(sharpness)
            for name, weight in model.named_parameters():
                if name.endswith(("cross_attention.output.weight", "cross_attention.query.weight")):
                    weight.mul_(4)  # listens to its source
        return model

    return build
