"""One attention head in numbers small enough to follow by hand: from token vectors to the context of each token.

    Q = X W_Q      K = X W_K      V = X W_V      A = softmax(Q Kᵀ / √d_k)      C = A V

Vaswani et al. 2017, eq. 1. Nothing is learned here: the vectors and the weights are random numbers with one decimal,
so that a reader can check every product with pen and paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.errors import NlpcliError

D_MODEL = 4
D_KEY = 2
MAX_TOKENS = 8
"""More columns of numbers don't fit into 80 columns of text."""
MAX_CHARACTERS = 100
"""The most characters of a word, because each is printed several times."""


@dataclass(frozen=True)
class WorkedExample:
    """All numbers of one head, in float64, in the order in which they are computed.

    tokens: n words; inputs: (n, 4), the same word has the same vector; query_weight, key_weight, value_weight: (4, 2);
    query, key, value: (n, 2); scores: (n, n), query · key; scaled: scores / √2, -inf where a key may not be seen;
    weights: (n, n), each row sums to one; context: (n, 2).
    """

    tokens: tuple[str, ...]
    inputs: Tensor
    query_weight: Tensor
    key_weight: Tensor
    value_weight: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    scores: Tensor
    scaled: Tensor
    weights: Tensor
    context: Tensor


def worked_example(text: str, *, causal: bool = False, seed: int = 0) -> WorkedExample:
    """The numbers for the words of `text`; `causal`: no word sees a later one; another `seed`: other random numbers.

    Raises: NlpcliError for a text without words, with more than `MAX_TOKENS`, or with a word of more than
        `MAX_CHARACTERS`.
    """
    tokens = tuple(text.split())
    if not tokens:
        raise NlpcliError("--explain needs a text with at least one word", hint='such as --explain "The cat sat"')
    if len(tokens) > MAX_TOKENS:
        raise NlpcliError(
            f"--explain takes at most {MAX_TOKENS} words, but the text has {len(tokens):,}",
            hint="use a shorter text",
        )
    for number, token in enumerate(tokens, start=1):
        if len(token) > MAX_CHARACTERS:
            raise NlpcliError(
                f"--explain takes words of at most {MAX_CHARACTERS} characters, but word {number} has {len(token):,}",
                hint="use shorter words",
            )
    generator = torch.Generator().manual_seed(seed)

    def one_decimal(*size: int) -> Tensor:
        return torch.randint(-10, 11, size, generator=generator).double() / 10

    query_weight, key_weight, value_weight = (one_decimal(D_MODEL, D_KEY) for _ in range(3))
    vectors = {token: one_decimal(D_MODEL) for token in dict.fromkeys(tokens)}
    inputs = torch.stack([vectors[token] for token in tokens])
    query, key, value = inputs @ query_weight, inputs @ key_weight, inputs @ value_weight
    scores = query @ key.T
    scaled = scores / D_KEY**0.5
    if causal:
        later = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
        scaled = scaled.masked_fill(later, float("-inf"))
    weights = scaled.softmax(dim=-1)
    return WorkedExample(
        tokens, inputs, query_weight, key_weight, value_weight, query, key, value, scores, scaled, weights,
        weights @ value,
    )  # fmt: skip
