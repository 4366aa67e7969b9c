"""The loss of hard attention, whose positions are sampled: REINFORCE with a baseline.

    ∇ E[Σ_t log p(y_t)] = E[Σ_t ∇ log p(y_t) + Σ_t (R_t - b_t) ∇ log π(s_t)]

π(s_t): the probability of the position s_t that was sampled for token t. R_t: what the choice has a part in, log p of
token t, and of those after it where they depend on s_t. b_t: what was expected of R_t, predicted from the query, which
changes no mean, only the variance. Sources: Williams 1992; Xu et al. 2015, section 4.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.token_loss import token_losses

if TYPE_CHECKING:
    from nlpcli.models.recurrent import RecurrentEncoderDecoder
    from nlpcli.models.recurrent_attention import SampledPositions
    from nlpcli.objectives.source_target_batches import PairBatch

ENTROPY = 0.01
"""How much a nat of the entropy of a choice is worth, so that early on the attention does not settle for one place."""


def sampled_attention_loss(
    model: RecurrentEncoderDecoder, batch: PairBatch, settings: LossSettings = CROSS_ENTROPY
) -> Loss:
    """The loss of the target with positions that are sampled now, and what gives their probabilities a gradient."""
    hidden, choices = model.hidden_and_choices(batch.source, batch.source_mask, batch.target)
    assert choices is not None  # in training there are some
    loss, each = token_losses(model, hidden.flatten(0, 1).index_select(0, batch.places), batch.labels, settings)
    rewards = torch.zeros(batch.target.shape, dtype=each.dtype, device=each.device)
    rewards.view(-1).index_copy_(0, batch.places, -each)
    predicted = torch.zeros(batch.target.shape, dtype=torch.bool, device=each.device)
    predicted.view(-1)[batch.places] = True
    return replace(loss, total=loss.total + choice_loss(choices, rewards, predicted))


def choice_loss(choices: SampledPositions, rewards: Tensor, predicted: Tensor, *, entropy: float = ENTROPY) -> Tensor:
    """-Σ_t ((R_t - b_t) log π(s_t) + `entropy` · H_t) + ½ Σ_t (R_t - b_t)², whose gradients are those of the module.

    rewards (rows, n): log p of each token; predicted (rows, n): True where a token is predicted.
    """
    counted = predicted
    if choices.lasting:
        rewards = _from_here_on(rewards)
        counted = _from_here_on(predicted.int()) > 0
    surprise = rewards - choices.baseline
    gain = surprise.detach() * choices.log_probability + entropy * choices.entropy
    return ((0.5 * surprise.square() - gain) * counted).sum()


def _from_here_on(x: Tensor) -> Tensor:
    """(rows, n): the sum over this position and those after it."""
    return x.flip(1).cumsum(1).flip(1)
