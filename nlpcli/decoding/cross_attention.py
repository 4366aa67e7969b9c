"""Looking at a decoder's attention to its source: word alignments, and what the coverage penalty needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from nlpcli.attention.hooks import Recordable, recording
from nlpcli.decoding.translation_model import TranslationModel
from nlpcli.errors import unknown
from nlpcli.layers.vocabulary_loss import vocabulary_loss
from nlpcli.models.alignment_head import (
    FULL,
    PREDICT,
    STEPS,
    AlignmentHead,
    choose_layer,
    token_mask,
    whole_target_weights,
)
from nlpcli.models.backbone import CROSS
from nlpcli.objectives.source_target_batches import pad
from nlpcli.text import Tokenizer

Alignment = tuple[tuple[int, int], ...]
"""Pairs (source word, target word), from 0, in order."""


def cross_attentions(model: TranslationModel) -> list[Recordable]:
    """The attention layers of `model` that attend to the source, first to last; each can record its weights.

    Raises: NlpcliError when there are none.
    """
    choose_layer(model, None)
    return list(model.attention_sites()[CROSS])


class AttentionRecorder:
    """A `Decodable` with `step_with_attention`, which gives the attention weights of an encoder–decoder's steps.

    padding (sources, source positions): 1 where there is padding and 0 elsewhere; None where there is none.
    """

    def __init__(self, model: TranslationModel, layer: int | None = None, padding: Tensor | None = None) -> None:
        self.padding = padding
        self.model = model
        self.attention = choose_layer(model, layer)
        self.max_length = model.max_length
        self.step = model.step
        self.reorder = model.reorder
        self.parameters = model.parameters

    def step_with_attention(self, tokens: Tensor, state: object) -> tuple[Tensor, object, Tensor]:
        """As `step`, and the weights (rows, source positions), averaged over heads and summed over tokens (rows, n)."""
        with recording(self.attention) as [recorded]:
            logits, state = self.model.step(tokens, state)
        weights = recorded[0].mean(1)  # (sources, width * n, source positions)
        rows, n = tokens.shape
        return logits, state, weights.reshape(rows, n, weights.shape[-1]).sum(1)


@torch.inference_mode()
def forced_weights(
    model: TranslationModel,
    source: Tensor,
    source_mask: Tensor,
    targets: Sequence[Sequence[int]],
    *,
    start: Sequence[int],
    layers: Sequence[int | None],
    fill: int = 0,
) -> list[Tensor]:
    """Where a decoder looks while it is made to write `targets`, by one pass over source and target together.

    source, source_mask (batch, m); targets: their tokens, which come after `start`; layers: as `choose_layer` takes
    them; fill: an id for padding. Returns for each layer (batch, n + 1, m), averaged over heads, n the length of the
    longest target: row t is of the step that has read t tokens of it, and predicts the next.
    """
    prefixes = pad([[*start, *ids] for ids in targets], fill).to(source.device)
    with recording(*(choose_layer(model, layer) for layer in layers)) as recorded:
        model.hidden(source, source_mask, prefixes)
    return [weights[0].mean(1)[:, len(start) - 1 :] for weights in recorded]


@torch.inference_mode()
def head_weights(
    model: TranslationModel,
    source: Tensor,
    source_mask: Tensor,
    targets: Sequence[Sequence[int]],
    head: AlignmentHead,
    *,
    start: Sequence[int],
    fill: int = 0,
) -> Tensor:
    """As `forced_weights`, but those of a head that was trained by links, with the context that it was trained with."""
    prefixes = pad([[*start, *ids] for ids in targets], fill).to(source.device)
    if head.context == FULL:
        lengths = torch.tensor([len(start) + len(ids) for ids in targets], device=source.device)
        mask = token_mask(lengths, prefixes.size(1))
        weights = whole_target_weights(model, model.encode(source, source_mask), prefixes, mask, head)
    else:
        with recording(choose_layer(model, head.layer)) as [recorded]:
            model.hidden(source, source_mask, prefixes)
        weights = recorded[0][:, head.head - 1]
    return weights[:, len(start) - 1 :]


def gradient_weights(
    model: TranslationModel,
    source: Tensor,
    source_mask: Tensor,
    targets: Sequence[Sequence[int]],
    *,
    start: Sequence[int],
    layers: Sequence[int | None] = (),
    fill: int = 0,
) -> Tensor:
    """The contribution of each attention weight to `targets`: gradient times attention, by a forward and a backward
    pass.

    Σ over layers and heads of max(0, A ⊙ ∂ log p(target | source) / ∂A), the weights A of a row being those of the step
    that predicts a token. Source: Chefer et al. 2021, eq. 5, whose layers are multiplied and here added.

    As `forced_weights`, but layers: () for all; and one tensor (batch, n + 1, m), whose last row is that of the end.
    """
    prefixes = pad([[*start, *ids] for ids in targets], fill).to(source.device)
    labels = pad([[*ids, fill] for ids in targets], fill).to(source.device)
    counted = torch.arange(labels.shape[1], device=source.device) < torch.tensor(
        [len(ids) for ids in targets], device=source.device
    ).unsqueeze(1)
    chosen = [choose_layer(model, layer) for layer in layers] or cross_attentions(model)
    with torch.enable_grad(), recording(*chosen, gradients=True) as recorded:
        hidden = model.hidden(source, source_mask, prefixes)[:, len(start) - 1 :]
        bias = getattr(model, "output_bias", None)
        bias = None if bias is None else bias.detach()
        loss, _ = vocabulary_loss(hidden[counted], model.output_weight.detach(), labels[counted], bias=bias)
        weights = [record[0] for record in recorded]
        slopes = torch.autograd.grad(-loss, weights)
    helping = [(weight * slope).clamp_(min=0).sum(1) for weight, slope in zip(weights, slopes, strict=True)]
    return torch.stack(helping).sum(0).detach()[:, len(start) - 1 :]


def word_weights(weights: Tensor, source_words: Tensor, target_words: Tensor, *, step: str = PREDICT) -> Tensor:
    """Weights between tokens, summed over the tokens of each word: (batch, target words, source words).

    weights (batch, n + 1, m) as `forced_weights` gives them; source_words (batch, m), target_words (batch, n): the
    number of the word to which each token belongs, or `NO_WORD`; what falls on no word is left out. A token's weights
    are those of the step that predicts it (Garg et al. 2019), or of the one that reads it (Chen et al. 2020).

    Raises: NlpcliError for an unknown step.
    """
    if step not in STEPS:
        raise unknown("step", step, STEPS)
    weights = weights[:, :-1] if step == PREDICT else weights[:, 1:]  # (batch, n, m)
    looked = _summed(weights, source_words)  # (batch, n, source words)
    return _summed(looked.transpose(1, 2), target_words).transpose(1, 2)


def _summed(weights: Tensor, words: Tensor) -> Tensor:
    """(batch, k, tokens) -> (batch, k, words): summed over the tokens of each word; words (batch, tokens)."""
    count = int(words.max()) + 1 if words.numel() else 0
    index = words.where(words >= 0, count)[:, None].expand_as(weights)
    return weights.new_zeros(*weights.shape[:2], count + 1).scatter_add_(2, index, weights)[..., :count]


def words_of_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The number of the word to which each token belongs, `NO_WORD` for blanks before the first."""
    return [number - 1 for number in accumulate(tokenizer.word_starts(ids))]


def pharaoh(alignment: Iterable[tuple[int, int]]) -> str:
    """`0-0 1-2`: source word, target word."""
    return " ".join(f"{source}-{target}" for source, target in alignment)
