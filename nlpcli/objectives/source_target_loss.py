"""The loss of a target after its source, for encoder-decoders, and for decoders that read both in one stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from torch import Tensor

from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.sampled_attention import sampled_attention_loss
from nlpcli.objectives.scheduled_sampling import own_token_states
from nlpcli.objectives.source_target_batches import PairBatch
from nlpcli.objectives.token_loss import TokenPredictor, token_loss, token_loss_of_two

if TYPE_CHECKING:
    from nlpcli.models.recurrent import RecurrentEncoderDecoder
    from nlpcli.models.transformer import Decoder, EncoderDecoder


def stream_loss(model: Decoder, batch: PairBatch, settings: LossSettings = CROSS_ENTROPY) -> Loss:
    """Cross-entropy of what follows the prompts of `stream_batch`, given by a decoder."""

    def states() -> Tensor:
        return model.hidden(batch.target).flatten(0, 1).index_select(0, batch.places)

    return _loss(model, states, batch.labels, settings)


def pair_states(model: EncoderDecoder, batch: PairBatch) -> Tensor:
    """The decoder's states that predict `batch.labels`: (k, d_model)."""
    if batch.own is not None:
        hidden = own_token_states(model, batch)
    else:
        hidden = model.hidden(batch.source, batch.source_mask, batch.target)
    return hidden.flatten(0, 1).index_select(0, batch.places)


def pair_loss(model: EncoderDecoder, batch: PairBatch, settings: LossSettings = CROSS_ENTROPY) -> Loss:
    """The loss of the target."""
    if model.training and model.samples_attention:
        return sampled_attention_loss(cast("RecurrentEncoderDecoder", model), batch, settings)
    return _loss(model, lambda: pair_states(model, batch), batch.labels, settings)


def _loss(model: TokenPredictor, states: Callable[[], Tensor], labels: Tensor, settings: LossSettings) -> Loss:
    """The loss of `labels` (k) by a pass of the model, or by two with R-Drop. states: a pass (k, d_model)."""
    if not (model.training and settings.r_drop):
        return token_loss(model, states(), labels, settings)
    return token_loss_of_two(model, states(), states(), labels, settings)
