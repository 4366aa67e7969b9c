"""Masked language modelling (Devlin et al. 2019, section 3.1): predict hidden tokens from the text on both sides.

loss = -Σ_{i hidden} log p(x_i | x̃), with x̃ the text in which `Masking` has hidden some tokens,
p(· | x̃) = softmax(g(h_i) · Eᵀ + b), h_i the encoder's state there, g the head's transform and E the embeddings.

Only the states of hidden tokens go through g and the vocabulary: the loss is the same, and several times cheaper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nlpcli.data.shard_set import ShardSet
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.noise import Symbols
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.token_loss import best_tokens, token_loss

if TYPE_CHECKING:
    from nlpcli.models.transformer import Encoder

_COUNTED = 1 << 22
_AT_A_TIME = 1 << 18


def masked_loss(
    model: Encoder,
    states: Tensor,
    places: Tensor,
    targets: Tensor,
    *,
    settings: LossSettings = CROSS_ENTROPY,
    guess: int | None = None,
) -> Loss:
    """The loss of the hidden tokens `targets` (k) at `places` (k) of the flattened states (batch, n, d_model).

    guess: a token; with it come the tallies `mlm_accuracy`, of
    the most probable tokens, and `mlm_baseline`, of always guessing that one.
    """
    hidden = model.mlm_hidden(states.flatten(0, 1).index_select(0, places))
    loss = token_loss(model, hidden, targets, settings)
    if guess is None:
        return loss
    best = best_tokens(hidden, model.output_weight, model.output_bias)
    tallies = {"mlm_accuracy": (best == targets).sum(), "mlm_baseline": (targets == guess).sum()}
    return replace(loss, tallies={name: (right, loss.count) for name, right in tallies.items()})


def most_frequent(shards: ShardSet, symbols: Symbols) -> int:
    """The ordinary token that is most frequent in (the first few million tokens of) a text: the trivial guess."""
    counts = np.zeros(len(symbols.is_special), dtype=np.int64)
    end = min(shards.tokens, _COUNTED)
    for start in range(0, end, _AT_A_TIME):
        counts += np.bincount(shards.read(start, min(start + _AT_A_TIME, end)), minlength=len(counts))
    counts[symbols.is_special] = -1
    return int(counts.argmax())
