"""The loss of predicted tokens: the one place where every objective and task computes it from hidden states."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nlpcli.errors import NlpcliError
from nlpcli.layers.linear import linear
from nlpcli.layers.vocabulary_loss import (
    CROSS_ENTROPY,
    LossSettings,
    vocabulary_loss,
    vocabulary_losses,
    vocabulary_nll,
)
from nlpcli.objectives.objective import Loss

_CHUNK_NUMBERS = 1 << 20  # logits alive at a time
_CHUNK_NUMBERS_GPU = 1 << 27


class TokenPredictor(Protocol):
    """The output layer of a model: the matrix and the bias that turn hidden states into logits.

    An `adaptive_softmax`, where the model has one, takes their place.
    """

    training: bool

    @property
    def output_weight(self) -> Tensor:
        """(vocab, d_model)"""
        ...

    @property
    def output_bias(self) -> Tensor | None:
        """(vocab,)"""
        ...


def token_loss(
    model: TokenPredictor, hidden_states: Tensor, labels: Tensor, settings: LossSettings = CROSS_ENTROPY
) -> Loss:
    """The loss of labels (k) given the hidden states (k, d_model) that predict them.

    The settings count while the model is in training; otherwise the loss is the cross-entropy.
    Raises: NlpcliError for settings that the model's softmax does not support.
    """
    chosen = settings if model.training else CROSS_ENTROPY
    adaptive = getattr(model, "adaptive_softmax", None)
    if adaptive is None:
        total, nll = vocabulary_loss(
            hidden_states, model.output_weight, labels, bias=model.output_bias, settings=chosen
        )  # fmt: skip
    else:
        check_adaptive(chosen)
        total, nll = adaptive.loss(hidden_states, model.output_weight, labels, bias=model.output_bias)
    return Loss(total, nll, labels.numel())


def token_loss_of_two(
    model: TokenPredictor, first: Tensor, second: Tensor, labels: Tensor, settings: LossSettings
) -> Loss:
    """The loss with R-Drop: of labels (k) given the hidden states (k, d_model) of two passes with dropout.

    It is half the sum that Wu et al. 2021 write (their equation 4), so that the loss is of the size it has without.
    Raises: NlpcliError as `token_loss`.
    """
    if getattr(model, "adaptive_softmax", None) is not None:
        check_adaptive(settings)
    states = torch.stack((first, second), dim=1).flatten(0, 1)
    repeated_labels = labels.repeat_interleave(2)
    total, nll = vocabulary_loss(
        states, model.output_weight, repeated_labels, bias=model.output_bias, settings=settings, twice=True
    )  # fmt: skip
    return Loss(total / 2, nll / 2, labels.numel())


def token_losses(
    model: TokenPredictor, hidden_states: Tensor, labels: Tensor, settings: LossSettings = CROSS_ENTROPY
) -> tuple[Loss, Tensor]:
    """As `token_loss`, and -log p of each label (k), without gradients; of a model with a full softmax."""
    chosen = settings if model.training else CROSS_ENTROPY
    total, each = vocabulary_losses(
        hidden_states, model.output_weight, labels, bias=model.output_bias, settings=chosen
    )  # fmt: skip
    return Loss(total, each.sum(), labels.numel()), each


def check_adaptive(settings: LossSettings) -> None:
    """Raises: NlpcliError for settings that an adaptive softmax does not support."""
    if chosen := settings.chosen():
        name = chosen[0].replace("_", " ")
        raise NlpcliError(f"an adaptive softmax does not support {name}", hint=f"set training.{chosen[0]}=0")


def token_nll(model: TokenPredictor, hidden_states: Tensor, labels: Tensor) -> Tensor:
    """-log p of each label (k), in nats, given the hidden states (k, d_model) that predict them; no gradients."""
    adaptive = getattr(model, "adaptive_softmax", None)
    if adaptive is None:
        return vocabulary_nll(hidden_states, model.output_weight, labels, bias=model.output_bias)
    return adaptive.nll(hidden_states, model.output_weight, labels, bias=model.output_bias)


@torch.no_grad()
def best_tokens(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The most probable token for each state, (k,), without ever holding all logits.

    states (k, d_model), weight (vocab, d_model), bias (vocab).
    """
    rows = max(32, (_CHUNK_NUMBERS_GPU if states.is_cuda else _CHUNK_NUMBERS) // weight.size(0))
    weight = weight.to(states.dtype)
    bias = None if bias is None else bias.to(states.dtype)
    parts = [linear(part, weight, bias).argmax(dim=-1) for part in states.split(rows)]
    return torch.cat(parts) if parts else states.new_empty(0, dtype=torch.long)
